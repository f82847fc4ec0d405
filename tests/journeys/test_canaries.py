"""A full run with everything on and all kinds of faults: of no planted secret is a trace in anything that was put out."""

import asyncio
import base64
import contextlib
import json
import os
import re
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest
import redis.asyncio as redis_client

from proxy.clock import SystemClock
from proxy.secret import Secret
from proxy.simulator.server import Bank
from tests.callers.clients import ASSERTION_TYPE, claims, signed
from tests.journeys.caller import Address, Answer, Request, ask, get, payment
from tests.journeys.canaries import Canary, Search, spellings
from tests.journeys.conftest import Start
from tests.journeys.echoing import CARD, IBAN, TOKEN, TOKEN_ANSWERS, Echo, echoing
from tests.journeys.everything_on import CALLER_KEY, FACADE_PATH, MISPLACED, OLD_CALLER_KEY, Site
from tests.journeys.process import Instance, Process, children
from tests.journeys.waiting import until
from tests.records.postgres import Postgres, binaries, execute, fetch, running_postgres
from tests.records.sinks.collector import Collector, collector
from tests.support.redis import RedisServer, redis_server
from tests.support.softhsm import Token, needs_softhsm
from tests.support.tcp_relay import TcpRelay, tcp_relay
from cryptography.hazmat.primitives.serialization import load_pem_private_key

pytestmark = [
    needs_softhsm,
    pytest.mark.skipif(os.geteuid() != 0, reason="the environment of protected processes is read by root alone"),
]
SEEN = "order-that-is-looked-for"
LAST = "order-of-the-last-payment"
KEY = {"X-Payproxy-Key": CALLER_KEY}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OF_A_CALLER = "canary-of-a-bearer-that-a-caller-made-up"
_PAYMENTS = "/payment/v2/payments"
_PAGES = ("/", "/metrics", "/api/status", "/readyz?verbose", "/startupz?verbose", "/livez?verbose", "/nowhere")
_COMMANDS = (
    "status", "status --json", "health", "health --ready --json", f"why {SEEN}", f"why {SEEN} --json", f"why {SEEN} --sign",
    "logs search --limit 1000 --json", "logs search --limit 1000 --wide", "logs search --limit 1000 --csv",
    "logs tail -n 500 --json", "logs tail -n 500 --wide", "logs verify", "explain POST /payment/v2/payments --caller erp",
    f"explain GET /payment/helloworld?card={CARD} -H X-Payproxy-Key={CALLER_KEY}", "config show", "config show --sources --json",
    "export systemd", "export kubernetes", "export prometheus", "export grafana", "check", "check --json",
    "check --online", "check --call --json", "migration status", "migration plan payments 100", "migration report payments",
    "migration report payments --html", "migration set payments 30 --reason canary --force",
    f"request GET /payment/helloworld -H @{{header}}", "keys inspect {secrets}/plain.key {secrets}/token.crt",
)  # fmt: skip


@dataclass(kw_only=True)
class Run:
    """What runs, and what it has put out, by the name of where it stood."""

    site: Site
    directory: Path
    bank: Bank
    echo: Echo
    relay: TcpRelay
    redis: RedisServer
    postgres: Postgres
    collector: Collector
    env: dict[str, str]
    outputs: dict[str, bytes] = field(default_factory=dict)
    # Assertions and tokens that callers got or made.
    made: list[Canary] = field(default_factory=list)

    def configuration(self, name: str) -> Path:
        """Return the configuration of the replica *name*."""
        return self.directory / name / "payproxy.toml"

    async def answer(self, name: str, address: Address, request: Request) -> Answer | None:
        """Send *request*, keep what comes back under *name* and return it; None if the connection was cut."""
        try:
            answer = await ask(address, request)
        except (EOFError, OSError):
            return None
        self.outputs[f"answer to {name}"] = json.dumps([answer.status, answer.headers]).encode() + answer.body
        return answer


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Run a server of this test's own."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    with running_postgres(found) as running:
        yield running


@asynccontextmanager
async def everything(directory: Path, bank: Bank, postgres: Postgres) -> AsyncIterator[Run]:
    """Run all that the replicas talk to, and write their configurations."""
    (directory / "hsm").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        echo = await stack.enter_async_context(echoing())
        relay = await stack.enter_async_context(tcp_relay(int(bank.url.rpartition(":")[2])))
        otlp = await stack.enter_async_context(collector())
        redis = await stack.enter_async_context(redis_server(directory, "--loglevel", "notice"))
        site = Site(
            folder=directory, bank=bank, echo=echo, token=Token(directory / "hsm"), redis_port=redis.port,
            postgres_port=postgres.port,
        )  # fmt: skip
        site.plant()
        canaries = {canary.name: canary.value.decode() for canary in site.canaries()[:8]}
        await redis.command("CONFIG", "SET", "requirepass", canaries["Redis password"])
        role = f"CREATE ROLE canary SUPERUSER LOGIN PASSWORD '{canaries['PostgreSQL password']}'"
        await execute(postgres.url(), role)
        url = f"http://127.0.0.1:{relay.port}"
        site.write("a", workers=2, bank_url=url, in_postgres=True)
        site.write("b", workers=1, bank_url=url, in_postgres=False)
        yield Run(
            site=site, directory=directory, bank=bank, echo=echo, relay=relay, redis=redis, postgres=postgres,
            collector=otlp, env=site.environment(otlp.url),
        )  # fmt: skip


async def test_no_canary_is_in_anything_that_was_put_out(
    tmp_path: Path, bank: Bank, start: Start, postgres: Postgres
) -> None:
    """Each is where it has to be (the bank, the token endpoint, the facade's answer), and nowhere else."""
    async with everything(tmp_path, bank, postgres) as run:
        a = await start(run.configuration("a"), env=run.env)
        b = await start(run.configuration("b"), env=run.env)
        await _is_served(run, a, "first")
        await _is_served(run, b, "first at b")
        await _calls(run, a)
        await _calls_with_facade(run, a)
        await _faults_of_the_bank(run, a)
        await _broken_reloads(run, a)
        await _stores_fail(run, a)
        await asyncio.gather(_commands(run), _calls(run, b))
        _processes(run, a, b)
        await _pages(run, a, b)
        await _worker_is_killed(run, a)
        await _last_records(run, a, b)
        await _dump_stores(run)
        await b.kill_all()
        assert await a.stop() == 0
        _files(run)
        _everything_was_there(run)

        search = Search([*run.site.canaries(), *_of_this_run(run)])
        assert search.leaks(run.outputs) == []


@pytest.mark.parametrize("spelling", spellings(b"x"))
def test_every_canary_is_found_in_every_spelling(tmp_path: Path, bank: Bank, spelling: str) -> None:
    """The search fails for each secret, however it is written and wherever it stands."""
    (tmp_path / "hsm").mkdir()
    site = Site(
        folder=tmp_path, bank=bank, echo=Echo(), token=Token(tmp_path / "hsm"), redis_port=1, postgres_port=1
    )
    site.plant()
    canaries = [*site.canaries(), Canary.of("card number", CARD), Canary.of("token", TOKEN)]
    for canary in canaries:
        search = Search([canary])
        assert search.found(b"nothing of it\0") == []
        for written in spellings(canary.value)[spelling]:
            for before in (b"", b"a", b"ab"):
                found = search.found(b"at=" + before + written + b" in a text", jwt=False)
                assert any(canary.name in each for each in found), (canary.name, written)
        for before in (b"", b"a", b"ab"):
            inside = base64.b64encode(before + canary.value + b"behind")
            assert search.found(inside, jwt=False)


def test_what_looks_like_a_jwt_is_found() -> None:
    """Whoever made it: also half of one."""
    assert Search(()).found(b'"cause":"not good: eyJhbGciOiJSUzI1NiJ9.e"')


async def _is_served(run: Run, instance: Instance, name: str) -> None:
    async def served() -> bool:
        answer = await run.answer(name, instance.address, Request(headers=KEY))
        return answer is not None and answer.status == 200

    await until(served, otherwise=f"{name}: not served")


def _paid(key: str, **headers: str) -> Request:
    """Return a payment with a card number and an IBAN in its body, which are the bank's to see."""
    body = json.dumps({"card": CARD, "iban": IBAN, "amount": 1}).encode()
    return Request(method="POST", path=_PAYMENTS, key=key, headers={**KEY, **headers}, body=body)


async def _calls(run: Run, instance: Instance) -> None:
    """Send what is served, what is refused, and what callers must not send."""
    loose = {"merchant-id": CARD, "request-id": IBAN}
    requests = {
        "payment": _paid(SEEN),
        "card in headers": _paid(CARD, **loose),
        "path with a card": Request(path=f"{_PAYMENTS}/{CARD}?iban={IBAN}&token={OF_A_CALLER}", headers=KEY),
        "own bearer": Request(headers={**KEY, "Authorization": f"Bearer {OF_A_CALLER}"}),
        "bearer only": Request(headers={"Authorization": f"Bearer {OF_A_CALLER}"}),
        "basic with the key": Request(headers={"Authorization": f"Basic {_basic('erp', CALLER_KEY)}"}),
        "key twice": Request(headers={**KEY, "x-payproxy-key": CALLER_KEY}),
        "key in the path": Request(path=f"/nowhere/{CARD}/{IBAN}", headers=KEY),
        "cookie": Request(headers={**KEY, "Cookie": OF_A_CALLER, "X-Forwarded-For": OF_A_CALLER}),
        "forwarded": Request(headers={**KEY, "Forwarded": f"for={OF_A_CALLER};by={OF_A_CALLER}"}),
        "bad name": Request(headers={**KEY, f"Bad {OF_A_CALLER}": OF_A_CALLER}),
        "bad value": Request(headers={**KEY, "Authorization": f"Bearer {OF_A_CALLER}\0"}),
        "bad key": Request(headers={"X-Payproxy-Key": f"{CALLER_KEY}\x01"}),
        "host": Request(headers={**KEY, "Host": OF_A_CALLER}),
        "method": Request(method=CARD, headers=KEY),
        "method and body": Request(method=OF_A_CALLER, headers=KEY),
        "expect": Request(headers={**KEY, "Expect": OF_A_CALLER}),
        "framing": Request(headers={**KEY, "Transfer-Encoding": OF_A_CALLER}),
        "listed": Request(path="/tsapi/v2/validations", headers=KEY),
        "mirror": Request(path="/mirror/opaque", headers=KEY),
        "mirror of a JWT": Request(path="/mirror/jwt", headers=KEY),
        "mutual TLS": Request(path="/mutual", headers=KEY),
    }
    requests |= {
        f"echo {name} {flavor}": Request(path=f"/echo/{name}-{flavor}", headers=KEY)
        for name in TOKEN_ANSWERS
        for flavor in ("basic", "jwt")
    }
    for name, request in requests.items():
        await run.answer(f"{name} by port {instance.address[1]}", instance.address, request)


async def _calls_with_facade(run: Run, instance: Instance) -> None:
    """Fetch tokens of the facade, use them, and ask for some in wrong ways."""
    caller = load_pem_private_key((run.site.secrets / "caller.key").read_bytes(), None)
    url = "http://{}:{}{}".format(*instance.address, FACADE_PATH)
    assertion = signed(claims(SystemClock().now(), iss="old-erp", sub="old-erp", aud=url), caller)
    by_key = {"grant_type": "client_credentials", "client_id": "erp", "client_secret": CALLER_KEY}
    by_assertion = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    run.made.append(Canary.of("assertion of a caller", assertion))
    for name, form, key in (("erp", by_key, {}), ("old-erp", by_assertion, {"X-Payproxy-Key": OLD_CALLER_KEY})):
        answer = await ask(instance.address, _token_request(form, **key))
        if answer.status != 200:
            run.outputs[f"refusal of {name}"] = answer.body
            continue
        token = answer.json["access_token"]
        run.made.append(Canary.of(f"facade token of {name}", token))
        for path, headers in ((_PAYMENTS, {}), ("/nowhere", {}), ("/payment/helloworld", {"X-Payproxy-Key": "wrong"})):
            await run.answer(
                f"{path} with a facade token", instance.address,
                Request(path=path, headers={"Authorization": f"Bearer {token}", **headers}),
            )  # fmt: skip
        await run.answer(
            "a changed facade token", instance.address, Request(headers={"Authorization": f"Bearer {token[:-4]}AAAA"})
        )
    wrong = {
        "swapped": {**by_key, "client_id": CALLER_KEY, "client_secret": "erp"},
        "another's key": {**by_key, "client_id": "old-erp"},
        "both": {**by_key, **by_assertion},
        "assertion as id": {**by_key, "client_id": assertion},
        "assertion as grant type": {**by_key, "grant_type": assertion},
        "wrong type": {**by_assertion, "client_assertion_type": assertion},
        "cut": {**by_assertion, "client_assertion": assertion[:-9]},
    }
    for name, form in wrong.items():
        await run.answer(f"facade: {name}", instance.address, _token_request(form))
    await run.answer("facade: JSON", instance.address, Request(method="POST", path=FACADE_PATH, body=b'{"a":1}'))
    basic = {"Authorization": f"Basic {_basic(CALLER_KEY, 'erp')}"}
    await run.answer("facade: swapped Basic", instance.address, _token_request({"grant_type": "client_credentials"}, **basic))


def _token_request(form: dict[str, str], **headers: str) -> Request:
    return Request(method="POST", path=FACADE_PATH, headers={**FORM, **headers}, body=urlencode(form).encode())


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


async def _faults_of_the_bank(run: Run, instance: Instance) -> None:
    """Have the bank and the token endpoints fail in every way, on both sides of the migration."""
    faults, tokens = run.bank.world.faults, run.bank.world.tokens
    assert (await _command(run, "a", "migration set payments 50 --reason canary --force"))[0] == 0
    for kind in ("reset", "close", "reset_before", "down", "refuse", "truncated", "html", "broken_json", "empty"):
        faults.set(kind, path="/payment", times=4)
        for path in (_PAYMENTS, "/payment/helloworld"):
            await run.answer(f"{kind} of {path}", instance.address, Request(path=path, headers=KEY))
        await run.answer(f"{kind} of a payment", instance.address, _paid(f"order-{kind}"))
        faults.clear()
    faults.set("redirect", path="/payment", times=1, location=f"https://elsewhere.example/{CARD}")
    await run.answer("redirect", instance.address, Request(headers=KEY))
    for kind in ("broken_json", "down", "html", "redirect", "refuse"):
        for path in ("/oauth2/token", "/adfs/oauth2/token", "/am/oauth2/alpha/access_token"):
            faults.set(kind, path=path, times=1)
        tokens.revoke()
        await asyncio.gather(
            *(run.answer(f"{kind} at {path}", instance.address, Request(path=path, headers=KEY))
              for path in (_PAYMENTS, "/payment/helloworld", "/tsapi/v2/validations"))
        )  # fmt: skip
        faults.clear()
        await _is_served(run, instance, "again")
    assert (await _command(run, "a", "migration rollback payments --reason canary"))[0] == 0


async def _broken_reloads(run: Run, instance: Instance) -> None:
    """Reload files with secrets in wrong places and in lines that are no TOML; each is refused."""
    path = run.configuration("a")
    good = path.read_text()
    broken = (
        good.replace('flavor = "adfs"', f'flavor = "adfs"\nclient_secret = "{MISPLACED}'),
        good.replace('flavor = "adfs"', f'flavor = "adfs"\nclient_secret = "{MISPLACED}"\nprivate_key_pin = "{MISPLACED}"'),
        good.replace("[request_log]", f'[request_log]\ndatabase = "postgresql://u:{MISPLACED}@127.0.0.1/x"'),
        good.replace("operators = { alice = \"", f'operators = {{ bob = "{MISPLACED}", alice = "'),
        good.replace('url_file = "', f'url = "redis://:{MISPLACED}@127.0.0.1:1/0"\nurl_file = "'),
        good.replace(f'url = "{run.echo.url}"', f'url = "https://u:{MISPLACED}@127.0.0.1/"'),
        good.replace("client_secret_file = ", f'client_secret = "{MISPLACED}"\nclient_secret_file = ', 1),
        good.replace('key_file = "', f'key_file = "{MISPLACED}/'),
    )
    for number, text in enumerate(broken):
        assert text != good
        path.write_text(text)
        if number < 7:
            before = instance.stderr.read_text().count("stays in force")
            os.kill(instance.pid, signal.SIGHUP)
            await until(
                lambda: instance.stderr.read_text().count("stays in force") > before,  # noqa: B023 - waited for here
                otherwise=f"reload {number} was not refused",
            )
        for words in ("check", "config show"):
            code, _ = await _command(run, "a", words, name=f"{words} of broken file {number}")
            assert code != 0 or words == "config show"
    path.write_text(good)


async def _stores_fail(run: Run, instance: Instance) -> None:
    """Take Redis' password away and the database down, and bring both back."""
    password = next(c.value.decode() for c in run.site.canaries() if c.name == "Redis password")
    await _redis(run, password, "CONFIG", "SET", "requirepass", "another")
    await _redis(run, "another", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.to_thread(run.postgres.kill)
    run.bank.world.tokens.revoke()
    await run.answer("stores are away", instance.address, _paid("order-without-stores"))
    await until(
        lambda: "database takes no records" in instance.stderr.read_text(), otherwise="the database is not missed"
    )
    await until(lambda: "tokens are not shared" in instance.stderr.read_text(), otherwise="Redis is not missed")
    for words in ("check --online", "status", f"why {SEEN}", "logs search --json"):
        await _command(run, "a", words, name=f"{words} without stores")
    await asyncio.to_thread(run.postgres.start)
    await _redis(run, "another", "CONFIG", "SET", "requirepass", password)
    await until(
        lambda: "database takes records again" in instance.stderr.read_text(), otherwise="the database is not taken again"
    )


async def _redis(run: Run, password: str, *words: str) -> None:
    client = redis_client.Redis(port=run.redis.port, password=password)
    try:
        await client.execute_command(*words)
    finally:
        await client.aclose()


async def _command(run: Run, replica: str, words: str, *, name: str = "") -> tuple[int, Process]:
    """Run a command, keep what it prints and return its exit code."""
    arguments = words.format(secrets=run.site.secrets, header=run.directory / "secrets" / "header").split()
    if not arguments[0] == "keys":
        arguments += ["--config", str(run.configuration(replica))]
    folder = run.directory / "commands"
    folder.mkdir(exist_ok=True)
    process = await _started(folder, arguments, run.env)
    code = await process.exit_code()
    run.outputs[f"payproxy {name or words} ({replica})"] = process.output.encode()
    return code, process


async def _started(folder: Path, arguments: list[str], env: dict[str, str]) -> Process:
    own = folder / f"{len(list(folder.iterdir()))}"
    own.mkdir()
    return await Process.run(own, "-m", "proxy", *arguments, env=env)


async def _commands(run: Run) -> None:
    """Run each command that reads; those that print a secret on purpose print it on stdout, and nothing on stderr."""
    header = run.site.secrets / "header"
    header.write_text(f"X-Payproxy-Key: {CALLER_KEY}")
    header.chmod(0o600)
    gate = asyncio.Semaphore(3)

    async def one(replica: str, words: str) -> None:
        async with gate:
            _, process = await _command(run, replica, words)
            assert "Traceback" not in process.output, process.output

    await asyncio.gather(
        *(one("a", words) for words in _COMMANDS),
        *(one("b", words) for words in ("status --json", f"why {SEEN}", "logs search --limit 1000 --json", "logs verify")),
    )
    for words, begins in (("token listed", b"eyJ"), ("assertion new", b"eyJ")):
        _, process = await _command(run, "a", words)
        printed = process.stdout.read_bytes()
        assert printed.startswith(begins), process.output
        run.made.append(Canary(words, printed.strip()))
        run.outputs[f"payproxy {words} (a)"] = process.stderr.read_bytes()


def _processes(run: Run, *instances: Instance) -> None:
    """Keep arguments and environments of all processes; none may leave a core."""
    for instance in instances:
        assert resource.prlimit(instance.pid, resource.RLIMIT_CORE) == (0, 0)
        run.outputs[f"arguments of {instance.pid}"] = Path(f"/proc/{instance.pid}/cmdline").read_bytes()
        below = children(instance.pid)
        assert len(below) >= 2
        for pid in below:
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
            for name in ("cmdline", "environ"):
                told = Path(f"/proc/{pid}/{name}").read_bytes()
                assert told
                run.outputs[f"{name} of {pid}, a child ({told[:60]!r})"] = told


async def _pages(run: Run, *instances: Instance) -> None:
    for instance in instances:
        for page in _PAGES:
            await run.answer(f"{page} of {instance.pid}", instance.admin, Request(path=page))
            await run.answer(
                f"{page} of {instance.pid}, asked with a token", instance.admin,
                Request(path=f"{page}?{OF_A_CALLER}", headers={"Authorization": f"Bearer {OF_A_CALLER}"}),
            )  # fmt: skip


async def _worker_is_killed(run: Run, instance: Instance) -> None:
    """End one worker by SIGKILL and another as a crash in C does, in the middle of a payment."""
    run.bank.world.faults.set("slow", path=_PAYMENTS, seconds=1.0, times=2)
    for number, how in enumerate((signal.SIGKILL, signal.SIGSEGV)):
        paying = asyncio.create_task(run.answer("killed", instance.address, _paid(f"order-killed-{number}")))
        await until(
            lambda: f"order-killed-{number}".encode() in run.relay.sent,  # noqa: B023 - waited for here
            otherwise="no payment was sent",
        )
        for pid in await instance.serving():
            os.kill(pid, how)
        await paying
        await _is_served(run, instance, "after a kill")
    run.bank.world.faults.clear()


async def _last_records(run: Run, *instances: Instance) -> None:
    """Return once the last payments are in all sinks."""
    for instance in instances:
        await run.answer("last", instance.address, _paid(f"{LAST}-{instance.address[1]}"))
    for name, instance in zip("ab", instances, strict=True):
        key = f"{LAST}-{instance.address[1]}"
        await until(
            lambda: key in (run.directory / name / "requests.jsonl").read_text(),  # noqa: B023 - waited for here
            otherwise=f"the file of {name} has no {key}",
        )
        await until(
            lambda: key in str(run.collector.logs),  # noqa: B023 - waited for here
            otherwise=f"the collector has no {key}",
        )
    wanted = f"%{LAST}%"
    await until(
        lambda: fetch(run.postgres.url(), "SELECT id FROM payproxy.records WHERE record LIKE $1", wanted),
        otherwise="the database has no last payment",
    )


async def _dump_stores(run: Run) -> None:
    """Keep all rows of all tables, all keys of Redis with their values, and what the collector got."""
    tables = await fetch(
        run.postgres.url(),
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    assert len(tables) > 2
    rows = 0
    for table in tables:
        found = await fetch(run.postgres.url(), f"SELECT t::text AS row FROM {table['name']} t")  # noqa: S608 - its own name
        run.outputs[f"table {table['name']}"] = "\n".join(row["row"] for row in found).encode()
        rows += len(found)
    assert rows > 50
    run.outputs["log of PostgreSQL"] = (run.postgres._directory / "log").read_bytes()
    password = next(c.value.decode() for c in run.site.canaries() if c.name == "Redis password")
    client = redis_client.Redis(port=run.redis.port, password=password)
    try:
        keys = [key async for key in client.scan_iter()]
        assert any(b"token" in key for key in keys), keys
        for key in keys:
            run.outputs[f"Redis: {key!r}"] = key + b"\n" + str(await _value(client, key)).encode() + await _value(client, key, raw=True)
    finally:
        await client.aclose()
    run.outputs["collector: logs"] = b"".join(each.SerializeToString() for each in run.collector.logs)
    run.outputs["collector: spans"] = b"".join(each.SerializeToString() for each in run.collector.spans)
    assert run.collector.logs
    assert run.collector.spans


async def _value(client: "redis_client.Redis", key: bytes, *, raw: bool = False) -> bytes:
    kind = (await client.type(key)).decode()
    read = {"string": "GET", "hash": "HGETALL", "set": "SMEMBERS", "list": "LRANGE", "zset": "ZRANGE", "stream": "XRANGE"}[kind]
    more = {"list": ("0", "-1"), "zset": ("0", "-1"), "stream": ("-", "+")}.get(kind, ())
    value = await client.execute_command(read, key, *more)
    return value if isinstance(value, bytes) else repr(value).encode()


def _files(run: Run) -> None:
    """Keep every file that stands anywhere below, but those with a canary on purpose."""
    kept = 0
    for path in sorted(run.directory.rglob("*")):
        place = path.relative_to(run.directory).parts
        if not path.is_file() or place[0] in ("secrets", "hsm", "commands"):
            continue
        if place[1:] == ("payproxy.toml",):
            continue  # the hash of the operator's password stands in it
        if place[-1] in ("masking.key", "facade.key", "checkpoint.key"):
            run.made.append(Canary(str(path), path.read_bytes().strip()))
            assert path.stat().st_mode & 0o077 == 0
            continue
        run.outputs[f"file {'/'.join(place)}"] = path.read_bytes()
        kept += 1
    assert any(name.startswith("file b/data/journal/") for name in run.outputs)
    assert any(name.endswith(".db") for name in run.outputs)


def _of_this_run(run: Run) -> list[Canary]:
    """Return what was made on the way: tokens, assertions, and what callers sent."""
    tokens = list(run.bank.world.tokens._issued)
    said = bytes(run.relay.sent + run.echo.received)
    assertions = re.findall(rb"client_assertion=([\w.-]+)", said)
    assert len(tokens) > 5
    assert len(set(assertions)) == len(assertions) > 5
    found = [Canary(f"assertion {number}", value) for number, value in enumerate(assertions[:10] + assertions[-10:])]
    found += [Canary.of(f"token {number}", value) for number, value in enumerate(tokens[:10] + tokens[-10:])]
    return [
        *found, *run.made, Canary.of("token of the echo", TOKEN), Canary.of("bearer of a caller", OF_A_CALLER),
        Canary.of("card number", CARD), Canary.of("IBAN", IBAN),
    ]  # fmt: skip


def _everything_was_there(run: Run) -> None:
    """Each canary that has a use was used: what is not there can't leak, and the search has to find it."""
    canaries = {canary.name: canary for canary in run.site.canaries()}
    sent = bytes(run.relay.sent)
    search = Search([canaries["client secret"], canaries["client secret of the environment"]])
    basics = [base64.b64decode(each) for each in re.findall(rb"Authorization: Basic ([\w+/=]+)", sent)]
    assert {each.partition(", ")[0] for each in search.found(b"\n".join(basics))} == {
        "client secret", "client secret of the environment",
    }  # fmt: skip
    tokens = list(run.bank.world.tokens._issued)
    assert sum(f"Authorization: Bearer {token}\r\n".encode() in sent for token in tokens) > 5
    for value in (CARD, IBAN):
        assert f'"{value}"'.encode() in sent
    assert f"Bearer {TOKEN}".encode() in run.echo.received
    assert sum(canary.name.startswith("facade token") for canary in run.made) == 2
    headers = [each.get("api-key", "") for each in run.collector.headers]
    assert headers.count(canaries["key of the OTLP collector"].value.decode()) == len(headers) > 0
    assert {each.client_id for each in run.bank.world.tokens} >= {
        "canary-modern", "canary-adfs", "canary-basic", "canary-listed",
    }  # fmt: skip
    operations = [name for name in run.outputs if name.startswith("answer to ")]
    assert len(operations) > 100
