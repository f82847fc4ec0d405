"""What was put out in the run with canaries: processes, pages, stores, files; and what was made on the way."""

import base64
import re
import resource
from pathlib import Path
from typing import Any

import redis.asyncio as redis_client
from jwt.utils import base64url_decode

from tests.journeys.caller import Request
from tests.journeys.canaries import Canary, Search
from tests.journeys.canary_run import OF_A_CALLER, Run, paid
from tests.journeys.echoing import CARD, IBAN, TOKEN
from tests.journeys.everything_on import ADFS_CLIENT, BASIC_CLIENT, CLIENT, LISTED_CLIENT
from tests.journeys.process import Instance, children
from tests.journeys.waiting import until
from tests.records.postgres import fetch

_LAST = "order-of-the-last-payment"
_PAGES = ("/", "/metrics", "/api/status", "/readyz?verbose", "/startupz?verbose", "/livez?verbose", "/nowhere")
_OWN_KEYS = ("masking.key", "facade.key", "checkpoint.key")
_READ = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "set": ("SMEMBERS",),
    "list": ("LRANGE", "0", "-1"),
    "zset": ("ZRANGE", "0", "-1"),
    "stream": ("XRANGE", "-", "+"),
}

# A body that was signed, and in it the payload.
_SIGNED = re.compile(rb"\r\n\r\n(eyJhbGciOiJSUzI1NiJ9\.([\w-]+)\.[\w-]+)")


def processes(run: Run, *instances: Instance) -> None:
    """Keep the arguments of all processes, and the environments of those that the keeper starts; none leaves a core."""
    for instance in instances:
        assert resource.prlimit(instance.pid, resource.RLIMIT_CORE) == (0, 0)
        run.outputs[f"arguments of {instance.pid}"] = Path(f"/proc/{instance.pid}/cmdline").read_bytes()
        assert len(children(instance.pid)) >= 2
        for pid in children(instance.pid):
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"PATH=" in environment
            run.outputs[f"process {arguments!r}"] = arguments + environment


async def pages(run: Run, *instances: Instance) -> None:
    """Keep every page of the admin listener, asked for with and without a token."""
    for instance in instances:
        for page in _PAGES:
            await run.answer(f"{page} of {instance.pid}", instance.admin, Request(path=page))
            with_token = Request(path=f"{page}?{OF_A_CALLER}", headers={"Authorization": f"Bearer {OF_A_CALLER}"})
            await run.answer(f"{page} of {instance.pid}, asked with a token", instance.admin, with_token)


async def last_records(run: Run, **instances: Instance) -> None:
    """Return once a last payment of each replica is in its file, at the collector and in the database."""
    for name, instance in instances.items():
        key = f"{_LAST}-{name}"
        await run.answer(f"last of {name}", instance.address, paid(key))
        file = run.directory / name / "requests.jsonl"
        await until(lambda: key in file.read_text(), otherwise=f"the file has no {key}")  # noqa: B023 - waited for here
        await until(lambda: key in str(run.collector.logs), otherwise=f"the collector has no {key}")  # noqa: B023
    query = "SELECT id FROM payproxy.records WHERE record LIKE $1"
    await until(lambda: fetch(run.postgres.url(), query, f"%{_LAST}%"), otherwise="the database has no last payment")


async def stores(run: Run) -> None:
    """Keep all rows of all tables, all keys of Redis with their values, and what the collector got."""
    tables = await fetch(
        run.postgres.url(),
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    for table in tables:
        rows = await fetch(run.postgres.url(), f"SELECT t::text AS row FROM {table['name']} t")  # noqa: S608 - its name
        run.outputs[f"table {table['name']}"] = "\n".join(row["row"] for row in rows).encode()
    assert sum(output.count(b"\n") for name, output in run.outputs.items() if name.startswith("table ")) > 50
    run.outputs["log of PostgreSQL"] = run.postgres.log.read_bytes()
    await _redis_values(run)
    assert run.collector.logs
    assert run.collector.spans
    run.outputs["collector, logs"] = b"".join(each.SerializeToString() for each in run.collector.logs)
    run.outputs["collector, spans"] = b"".join(each.SerializeToString() for each in run.collector.spans)


async def _redis_values(run: Run) -> None:
    client = redis_client.Redis(port=run.redis.port, password=run.site.text("Redis password"))
    try:
        keys = [key async for key in client.scan_iter()]
        assert any(b"token" in key for key in keys), keys
        for key in keys:
            read, *more = _READ[_text(await client.type(key))]
            value = await client.execute_command(read, key, *more)  # type: ignore[no-untyped-call]
            run.outputs[f"Redis {key!r}"] = key + b"\n" + b"\n".join(_flat(value))
    finally:
        await client.aclose()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _flat(value: Any) -> list[bytes]:
    """Return all strings in what Redis answered."""
    if isinstance(value, dict):
        return _flat([*value, *value.values()])
    if isinstance(value, list | tuple | set):
        return [each for one in value for each in _flat(one)]
    return [value if isinstance(value, bytes) else str(value).encode()]


def files(run: Run) -> None:
    """Keep every file that stands anywhere below, but those that have a secret on purpose."""
    for path in sorted(run.directory.rglob("*")):
        place = path.relative_to(run.directory)
        if not path.is_file() or place.parts[0] in {"secrets", "hsm", "commands"} or path.name == "payproxy.toml":
            continue
        if path.name in _OWN_KEYS:
            assert path.stat().st_mode & 0o077 == 0
            run.made.append(Canary(str(place), path.read_bytes().strip()))
        else:
            run.outputs[f"file {place}"] = path.read_bytes()
    for wanted in (r"file b/data/journal/w0-", r"file b/data/.*\.db", r"file a/data/stream/", r"file stderr\."):
        assert any(re.match(wanted, name) for name in run.outputs), wanted


def made_on_the_way(run: Run) -> list[Canary]:
    """Return the canaries that did not stand in a file: tokens, assertions, and what callers sent."""
    tokens, sent = list(run.bank.world.tokens._issued), bytes(run.relay.sent + run.echo.received)
    assertions = re.findall(rb"client_assertion=([\w.-]+)", sent)
    assert len(tokens) > 5
    assert len(set(assertions)) == len(assertions) > 5
    signed = [found[1] for found in _SIGNED.finditer(sent)]
    assert len(signed) > 5
    return [
        *(Canary(f"signed body {number}", value) for number, value in enumerate(signed[:4] + signed[-4:])),
        *(Canary(f"assertion {number}", value) for number, value in enumerate(assertions[:8] + assertions[-8:])),
        *(Canary.of(f"token {number}", value) for number, value in enumerate(tokens[:8] + tokens[-8:])),
        *run.made,
        Canary.of("token of the echo", TOKEN),
        Canary.of("bearer of a caller", OF_A_CALLER),
        Canary.of("card number", CARD),
        Canary.of("IBAN", IBAN),
    ]


def check_that_they_were_used(run: Run) -> None:
    """Each canary that has a use was used, where it belongs: what is not there can't leak."""
    sent = bytes(run.relay.sent)
    secrets = [each for each in run.site.canaries() if each.name.startswith("client secret")]
    basics = [base64.b64decode(each) for each in re.findall(rb"Authorization: Basic ([\w+/=]+)", sent)]
    found = {each.partition(", ")[0] for each in Search(secrets).found(b"\n".join(basics))}
    assert found == {each.name for each in secrets}
    tokens = list(run.bank.world.tokens._issued)
    assert sum(f"Authorization: Bearer {token}\r\n".encode() in sent for token in tokens) > 5
    assert {issued.client_id for issued in run.bank.world.tokens} == {CLIENT, ADFS_CLIENT, BASIC_CLIENT, LISTED_CLIENT}
    bodies = b"".join(base64url_decode(found[2]) for found in _SIGNED.finditer(sent))
    for value in (CARD, IBAN):
        assert f'"{value}"'.encode() in bodies
    assert bodies.count(b'"card"') > 5
    assert f"Bearer {TOKEN}".encode() in run.echo.received
    assert sum(canary.name.startswith("facade token") for canary in run.made) == 2
    assert {each["api-key"] for each in run.collector.headers} == {run.site.text("key of the OTLP collector")}
    assert sum(name.startswith("answer to ") for name in run.outputs) > 100
    # What token endpoints say is shown, but for the secrets in it.
    shown = [name for name, output in run.outputs.items() if b"no account *** or ***" in output]
    assert {"file stderr.1", "file stderr.2", "payproxy status (a)", "payproxy check --online (a)"} <= set(shown)
