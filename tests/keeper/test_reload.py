"""SIGHUP under a running instance: new rules with new workers, or the old ones and a reason."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.keeper.reload import as_at_start
from proxy.settings.model import Settings
from proxy.settings.models import validated
from tests.cli.serving import FLAVORS, Site, command, make_pair, serving, site
from tests.keeper.support import Answer, connection, get
from tests.keeper.test_rotation import metric, pids
from tests.upstream.support import eventually

RULE = '[[routes]]\nname = "hello"\npath = "/hello"\nstrip_prefix = "/hello"\nupstream = "bank"\ncredential = "login"\n'


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    """A running instance with a token."""
    async with site(tmp_path) as made, serving(made):
        await made.ready()
        yield made


def hang_up(place: Site) -> None:
    """Send SIGHUP to the keeper."""
    assert place.process is not None
    place.process.send_signal(signal.SIGHUP)


def add(place: Site, text: str) -> None:
    """Write more into the configuration."""
    with place.config.open("a") as file:
        file.write(text)


async def calls(place: Site, path: str) -> int:
    """Return the status of a call."""
    done = await command("request", "GET", path, "--config", place.config, "--json")
    return int(json.loads(done.stdout)["status"])


async def test_new_rules_take_over(place: Site) -> None:
    """After SIGHUP the new rule is in force with other workers, the token is the one that was there."""
    before = await place.ready()
    mints = place.bank.world.mint_count()
    add(place, RULE + f'audience = "{FLAVORS["jwt"]["audience"]}"\n')
    assert await calls(place, "/hello/payment/helloworld") == 404

    hang_up(place)
    await place.logged("is in force")

    assert await calls(place, "/hello/payment/helloworld") == 200
    after = await place.until(lambda now: len(now["workers"]) == 1)
    assert not set(pids(after)) & set(pids(before))
    assert after["config_digest"] != before["config_digest"]
    assert after["tokens"][0]["fingerprint"] == before["tokens"][0]["fingerprint"]
    assert place.bank.world.mint_count() == mints
    assert await metric(place) == "1.0"


async def test_a_new_audience_is_minted_for(place: Site) -> None:
    """A key that the new rules need gets its token; nothing else is minted."""
    add(place, RULE + 'audience = "jpm:uri:prod:validations"\n')
    hang_up(place)
    status = await place.until(lambda now: len([one for one in now["tokens"] if one["state"] == "fresh"]) == 2)
    assert status["ready"]
    assert place.bank.world.mint_count() == 2


async def test_faults_keep_the_old(place: Site) -> None:
    """Errors are refused with what and where, the old rules and workers stay; mended, the file is taken."""
    before = await place.ready()
    good = place.config.read_text()
    place.config.write_text(good.replace('credential = "login"', 'credential = "logn"'))

    hang_up(place)
    line = await place.logged("configuration refused, the old one stays in force")

    assert "payproxy.toml:" in line
    assert 'did you mean "login"?' in line
    status = await place.until(lambda now: bool(now["reload_problem"]))
    assert status["ready"]
    assert (pids(status), status["config_digest"]) == (pids(before), before["config_digest"])
    assert await metric(place) == "0.0"
    assert await calls_with(place, good) == 200

    place.config.write_text(good)
    hang_up(place)
    await place.until(lambda now: not now["reload_problem"])
    assert await metric(place) == "1.0"


async def test_a_file_that_breaks_the_parser_keeps_the_old(place: Site) -> None:
    """An integer of 5,000 digits and a key of 2,000 dots ended the keeper, and all callers with it."""
    before = await place.ready()
    good = place.config.read_text()
    for broken, words in (("x = " + "9" * 5000, "too many digits"), ("a" + ".a" * 2000 + " = 1", "64 levels")):
        place.config.write_text(f"{good}\n{broken}\n")
        hang_up(place)
        assert f"payproxy.toml:{good.count(chr(10)) + 2}" in await place.logged(words)
    assert pids(await place.ready()) == pids(before)

    place.config.write_text(good + "# mended\n")
    hang_up(place)
    await place.until(lambda now: not now["reload_problem"])


async def calls_with(place: Site, text: str) -> int:
    """Return the status of a call whose client reads another configuration than stands in the file."""
    other = place.folder / "client.toml"
    other.write_text(text)
    done = await command("request", "GET", "/payment/helloworld", "--config", other, "--json")
    return int(json.loads(done.stdout)["status"])


async def test_a_credential_that_the_bank_refuses(place: Site) -> None:
    """A changed credential is proven first; a refusal keeps all as it was."""
    good = place.config.read_text()
    place.write(client_id="00000000-0000-0000-0000-000000000000")

    hang_up(place)
    line = await place.logged("configuration refused")

    assert "credential login, which is new or changed" in line
    assert "401 invalid_client" in line
    assert await calls_with(place, good) == 200
    assert place.bank.world.refusals.total() == 1


async def test_a_changed_credential_is_proven_and_taken(place: Site) -> None:
    """Another key in another file is a changed credential."""
    place.register(make_pair(place.folder, "second"))
    place.write(key="second")
    hang_up(place)
    await place.logged("is in force")
    assert await calls(place, "/payment/helloworld") == 200
    assert place.bank.world.refusals.total() == 0


async def test_what_only_a_restart_can_change(place: Site) -> None:
    """The listener's address and the like stay, by name in the log; the rest of the file is taken."""
    port, place.port = place.port, 1
    place.write()
    add(place, RULE + f'audience = "{FLAVORS["jwt"]["audience"]}"\n')
    place.config.write_text(place.config.read_text().replace('"client-testing"', '"mock"', 1))

    hang_up(place)
    line = await place.logged("is in force")

    assert "changed only by a restart: server.listen, environment" in line
    place.port = port
    place.write()
    assert await calls(place, "/hello/payment/helloworld") == 200


def test_every_sink_stays_until_a_restart() -> None:
    """Whoever reads the database goes on where the sink writes; what is no sink's is taken."""
    log = {"stdout": False, "file": "new.jsonl", "database": "", "database_file": "url", "spool_bytes": 4711}
    old = validated(Settings, {"environment": "mock", "request_log": {"database": "sqlite:old.db"}})
    new = validated(Settings, {"environment": "mock", "request_log": log})

    settings, at_restart = as_at_start(new, old)

    assert settings.request_log == replace(old.request_log, spool_bytes=4711)
    assert at_restart == tuple(f"request_log.{key}" for key in ("stdout", "file", "database", "database_file"))


async def test_a_request_in_flight_ends_and_its_connection_closes(place: Site) -> None:
    """The old worker answers what it has; a kept-alive connection closes with the next answer or when it is idle."""
    head = b"GET /payment/helloworld HTTP/1.1\r\nHost: localhost\r\n\r\n"
    place.bank.world.faults.set("slow", "/payment", seconds=20, times=1)
    async with connection(("127.0.0.1", place.port)) as (reader, writer):
        writer.write(head)
        await eventually(lambda: bool(place.bank.world.seen("/payment")))
        hang_up(place)
        await place.logged("is in force")
        both = await place.until(lambda now: len(now["workers"]) == 2)
        assert {worker["state"] for worker in both["workers"]} == {"serving", "draining"}

        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
    await place.until(lambda now: len(now["workers"]) == 1)


async def test_no_call_is_lost_while_it_happens(place: Site) -> None:
    """Callers that keep calling through three reloads get nothing but answers."""
    stop = asyncio.Event()

    async def caller() -> list[int]:
        statuses = []
        while not stop.is_set():
            answer: Answer = await get(("127.0.0.1", place.port), "/payment/helloworld")
            statuses.append(answer.status)
        return statuses

    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(caller()) for _ in range(4)]
        for number in range(3):
            before = pids(await place.ready())
            add(
                place, f'[[routes]]\nname = "r{number}"\npath = "/r{number}"\nupstream = "bank"\ncredential = "login"\n'
            )
            hang_up(place)
            await place.until(lambda now, old=before: not set(old) & set(pids(now)))
        stop.set()
    statuses = [status for one in callers for status in one.result()]
    assert len(statuses) > 100
    assert set(statuses) == {200}
    assert len(place.bank.world.seen("/payment/helloworld")) == len(statuses)
