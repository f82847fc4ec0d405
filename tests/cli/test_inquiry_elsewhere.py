"""No other bank and no other client is asked than those that carried the request, whatever their names are."""

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.simulator.clients import JWT_CLIENT_ID
from proxy.simulator.faults import Fault
from tests.cli.inquiring import INQUIRY, leave_record
from tests.cli.serving import Site, command, make_pair, serving, site
from tests.journeys.support import private
from tests.records.conftest import postgres, postgres_server  # noqa: F401 - fixtures
from tests.records.postgres import Postgres, execute

pytestmark = pytest.mark.thorough

PAYMENTS = "/payment/v2/payments"
OTHER_CLIENT = "another-client"


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[Site]:
    """Give a site whose rule has an inquiry; its bank knows two clients."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - before anything runs
    async with site(folder) as place:
        place.bank.world.register_jwt_client(OTHER_CLIENT, (folder / "oauth.crt").read_bytes())
        add_inquiry(place)
        yield place


def add_inquiry(place: Site) -> None:
    """Put the inquiry behind the rule."""
    place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))


def log_into(server: Postgres, place: Site) -> None:
    """Have the site's instance keep its log in *server*."""
    private(place.folder / "database.url", server.url().reveal())
    text = place.config.read_text().replace("[request_log]\n", '[request_log]\ndatabase_file = "database.url"\n')
    place.config.write_text(text)


async def lost_payment(place: Site, request_id: str) -> str:
    """Send a payment that the bank takes, and whose answer is lost; return its id once the log's database has it."""
    place.bank.world.faults.add(Fault.of({"kind": "reset", "path": PAYMENTS, "method": "POST", "times": 1}))
    done = await command(
        *("request", "POST", PAYMENTS, "-d", "{}", "-H", f"Request-Id: {request_id}", "--json"),
        *("--config", place.config),
    )
    id_ = str(json.loads(done.stdout)["request_id"])
    await in_log(place, id_)
    return id_


async def in_log(place: Site, id_: str) -> None:
    """Return once the log's database has the request *id_*."""
    async with asyncio.timeout(90):
        while True:
            found = await command("logs", "search", "--sent", "unknown", "--config", place.config)
            if id_ in found.stdout:
                return
            await asyncio.sleep(0.05)


async def reloads(place: Site, **changes: str) -> None:
    """Write the configuration with *changes*, and return once it is in force, with a token."""
    before = (await place.ready())["config_digest"]
    place.write(**changes)
    add_inquiry(place)
    assert place.process is not None
    place.process.send_signal(signal.SIGHUP)
    await place.until(lambda status: status["config_digest"] != before and status["ready"])


async def refusal(place: Site, id_: str) -> str:
    """Return why the site's instance does not ask its bank about the request *id_*, by any command."""
    done = await command("why", id_, "--ask", "--config", place.config)
    reconciled = await command("reconcile", "--since", "1h", "--json", "--config", place.config)

    value = json.loads(reconciled.stdout)
    assert (done.exit_code, reconciled.exit_code, value["open"]) == (1, 1, 1), done.stdout
    [one] = value["exchanges"]
    assert one["not_asked"] in done.stderr
    assert not place.bank.world.seen(PAYMENTS, "GET")
    return str(one["not_asked"])


async def verdict(place: Site, id_: str) -> str:
    """Return what the bank says to the site's instance about the request *id_*."""
    done = await command("why", id_, "--ask", "--json", "--config", place.config)
    assert done.exit_code == 0, done.stderr
    [told] = json.loads(done.stdout)["exchanges"]
    return str(told["inquiries"][-1]["verdict"])


async def test_another_client_of_the_same_name_is_not_asked(tmp_path: Path) -> None:
    """The bank's books are by client; a reload between payment and inquiry has changed the credential's client_id."""
    async with asking(tmp_path) as place, serving(place):
        await place.ready()
        id_ = await lost_payment(place, "r-1")
        await reloads(place, client_id=OTHER_CLIENT)

        why = await refusal(place, id_)
        await reloads(place)

        assert "as another client" in why
        assert await verdict(place, id_) == "found"


async def test_a_new_key_of_the_same_client_may_ask(tmp_path: Path) -> None:
    """A rotation must not stop inquiries; nor a new name of the credential or the upstream."""
    async with asking(tmp_path) as place, serving(place):
        await place.ready()
        id_ = await lost_payment(place, "r-1")
        place.register(make_pair(tmp_path, "new"))
        await reloads(place, key="new")
        assert await verdict(place, id_) == "found"

        renamed = place.config.read_text()
        for name in ("login", "bank"):
            renamed = renamed.replace(f".{name}]", f".{name}-2]").replace(f'= "{name}"', f'= "{name}-2"')
        before = (await place.ready())["config_digest"]
        place.config.write_text(renamed)
        assert place.process is not None
        place.process.send_signal(signal.SIGHUP)
        await place.until(lambda status: status["config_digest"] != before and status["ready"])
        assert await verdict(place, id_) == "found"


async def test_another_url_of_the_same_name_is_not_asked(tmp_path: Path) -> None:
    """A restart has changed the upstream's URL; the way back is the old one."""
    async with asking(tmp_path / "a") as place, asking(tmp_path / "b") as other:
        async with serving(place):
            await place.ready()
            id_ = await lost_payment(place, "r-1")
        there = place.config.read_text()
        place.config.write_text(there.replace(f'url = "{place.bank.url}"', f'url = "{other.bank.url}"'))
        async with serving(place):
            await place.ready()
            why = await refusal(place, id_)
        place.config.write_text(there)
        async with serving(place):
            await place.ready()
            assert await verdict(place, id_) == "found"

    assert f"went to {place.bank.url}" in why
    assert f"sends to {other.bank.url}" in why
    assert not other.bank.world.seen(PAYMENTS, "GET")


async def test_an_instance_of_another_bank_does_not_ask_about_what_it_finds_in_a_shared_log(
    tmp_path: Path,
    postgres: Postgres,  # noqa: F811
) -> None:
    """Environment, instance and all names are the same; the one that sent the payment can ask, and so can its twin."""
    await execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
    async with asking(tmp_path / "a") as one, asking(tmp_path / "b") as other:
        log_into(postgres, one)
        log_into(postgres, other)
        async with serving(one), serving(other):
            await one.ready()
            await other.ready()
            id_ = await lost_payment(one, "r-1")
            other.bank.world.enter(JWT_CLIENT_ID, "r-1", "p-1")

            why = await refusal(other, id_)
            text = other.config.read_text()
        other.config.write_text(text.replace(other.bank.url, one.bank.url))
        one.register((other.folder / "oauth.crt").read_bytes())
        async with serving(other):
            await other.ready()
            assert await verdict(other, id_) == "found"

    assert f"went to {one.bank.url}" in why


@pytest.mark.parametrize("changed", ["client", "url"])
async def test_automatic_inquiries_ask_nobody_else_either(tmp_path: Path, changed: str) -> None:
    """After a restart, about what was waiting; the keeper says in its log why it asked nobody."""
    async with asking(tmp_path / "a") as place, asking(tmp_path / "b") as other:
        async with serving(place):
            await place.ready()
            id_ = leave_record(place, "r-1", ago=300)
            await in_log(place, id_)
        text = place.config.read_text().replace("automatic = false", "automatic = true")
        old, new = {
            "client": (JWT_CLIENT_ID, OTHER_CLIENT),
            "url": (f'url = "{place.bank.url}"', f'url = "{other.bank.url}"'),
        }[changed]
        place.config.write_text(text.replace(old, new))
        async with serving(place):
            await place.ready()
            line = await place.logged("the bank was not asked about")

    assert id_ in line
    assert not [*place.bank.world.seen(PAYMENTS, "GET"), *other.bank.world.seen(PAYMENTS, "GET")]


async def test_two_instances_of_one_name_ask_only_about_their_own_after_a_restart(
    tmp_path: Path,
    postgres: Postgres,  # noqa: F811
) -> None:
    """They share the log, the bank and the client; the other one's request is the older one, so it would be first."""
    await execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
    async with asking(tmp_path / "a") as one, asking(tmp_path / "b") as other:
        other.config.write_text(other.config.read_text().replace(other.bank.url, one.bank.url))
        for name in ("oauth.key", "oauth.crt"):
            shutil.copy(one.folder / name, other.folder)
        log_into(postgres, one)
        log_into(postgres, other)
        for place, request_id, ago in ((one, "theirs", 400), (other, "own", 300)):
            async with serving(place):
                await place.ready()
                await in_log(place, leave_record(place, request_id, ago=ago))
        for place, request_id in ((other, "own"), (one, "theirs")):
            place.config.write_text(place.config.read_text().replace("automatic = false", "automatic = true"))
            async with serving(place):
                await place.ready()
                assert await asked_first(one) == f"{PAYMENTS}?requestId={request_id}"
            one.bank.world.log.clear()


async def asked_first(place: Site) -> str:
    """Return what the bank is asked first."""
    async with asyncio.timeout(90):
        while True:
            if seen := place.bank.world.seen(PAYMENTS, "GET"):
                return seen[0].target
            await asyncio.sleep(0.05)
