import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.simulator.clients import ADFS_CLIENT_ID, AUDIENCES, RESOURCES
from proxy.simulator.faults import Fault
from tests.cli.serving import Site, command, make_pair, serving, site
from tests.support.tcp_relay import tcp_relay

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAYMENTS = "/payment/v2/payments"
INQUIRY = (
    'inquiry = {path = "/payment/v2/payments?requestId={Request-Id}", found = {status = 200, member = "payments"}, '
    'not_found = {status = 200, member = "payments"}}\n'
)
MIGRATION = f"""
[credentials.adfs]
flavor = "adfs"
client_id = "{ADFS_CLIENT_ID}"
private_key_file = "old.key"
certificate_file = "old.crt"
token_url = "{{url}}/adfs/oauth2/token"
[migrations.move]
routes = ["payments"]
legacy = {{{{credential = "adfs", audience = "{RESOURCES["payments"]}"}}}}
modern = {{{{credential = "login", audience = "{AUDIENCES["payments"]}"}}}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def instance(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A running proxy whose only rule has an inquiry, in front of the simulator."""
    async with site(tmp_path_factory.mktemp("site")) as made:
        made.config.write_text(made.config.read_text() + INQUIRY)
        async with serving(made):
            await made.ready()
            yield made


@pytest.fixture
def place(instance: Site) -> Site:
    """The running proxy, and a simulator that has seen nothing and has no fault."""
    world = instance.bank.world
    world.log.clear()
    world.faults.clear()
    world.books_delay = 0.0
    return instance


async def pay(place: Site, request_id: str, *, fault: str = "reset") -> str:
    """Send a payment that meets *fault*, and return its Payproxy-Request-Id."""
    if fault:
        place.bank.world.faults.add(Fault.of({"kind": fault, "path": PAYMENTS, "method": "POST", "times": 1}))
    done = await command(
        *("request", "POST", PAYMENTS, "-d", "{}", "-H", f"Request-Id: {request_id}", "--json"),
        *("--config", place.config),
    )
    id_ = str(json.loads(done.stdout)["request_id"])
    async with asyncio.timeout(90):
        while True:
            if not (await told(place, id_))["in_flight"]:  # its record comes a moment after the caller's answer
                return id_
            await asyncio.sleep(0.05)


async def told(place: Site, asked: str, *options: str) -> dict[str, Any]:
    """Return the only exchange in what `payproxy why --json` says."""
    done = await command("why", asked, *options, "--json", "--config", place.config)
    assert done.exit_code == 0, done.stderr
    [one] = json.loads(done.stdout)["exchanges"]
    return dict(one)


async def inquiries(place: Site, number: int) -> list[dict[str, Any]]:
    """Return the records of inquiries in the database once there are *number* of them."""
    async with asyncio.timeout(90):
        while True:
            done = await command("logs", "search", "--kind", "inquiry", "--json", "--config", place.config)
            records = [json.loads(line) for line in done.stdout.splitlines()]
            if len(records) >= number:
                return records
            await asyncio.sleep(0.05)


async def test_a_payment_whose_answer_was_lost_is_found(place: Site) -> None:
    """It is asked once, by GET, with the rule's token; the answer is recorded, told, and told again later."""
    id_ = await pay(place, "lost/1&a=b")

    one = await told(place, id_, "--ask")

    [sent] = place.bank.world.seen(PAYMENTS, "POST")
    [asked] = place.bank.world.seen(PAYMENTS, "GET")
    assert asked.target == f"{PAYMENTS}?requestId=lost%2F1%26a%3Db"
    assert asked.token_fingerprint == sent.token_fingerprint
    assert (one["bank_has_it"], one["settled"]) == ("unknown", "found")
    assert one["next_step"] == "don't send it again: the bank has it. Tell the caller."
    assert "the bank answered 200: the bank has it" in one["text"]
    again = await told(place, "lost/1&a=b")
    assert again["inquiries"] == one["inquiries"]
    assert len(place.bank.world.seen(PAYMENTS, "GET")) == 1
    [record] = [one for one in await inquiries(place, 1) if one["index"] == {"exchange": id_}]
    assert (record["verdict"], record["answer_status"], record["route"]) == ("found", 200, "payments")
    assert record["who"]
    assert record["token_fingerprint"] == sent.token_fingerprint
    assert (await command("logs", "verify", "--config", place.config)).exit_code == 0


async def test_an_inquiry_is_one_whole_head(tmp_path: Path) -> None:
    """Byte for byte (RFC 9112 2.1): each line ends, Host names the upstream, and nothing comes after the empty line."""
    async with site(tmp_path) as made, tcp_relay(int(made.bank.url.rpartition(":")[2])) as relay:
        text = made.config.read_text().replace(f'url = "{made.bank.url}"\n', f'url = "http://127.0.0.1:{relay.port}"\n')
        made.config.write_text(text + INQUIRY)
        async with serving(made):
            await made.ready()
            id_ = await pay(made, "whole-1")
            relay.sent.clear()
            one = await told(made, id_, "--ask")

    target = f"{PAYMENTS}?requestId=whole-1".encode()
    head = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % (target, relay.port)
    head += b"Accept: application/json\r\nAccept-Encoding: identity\r\n"
    assert one["settled"] == "found"
    assert relay.sent.startswith(head + b"Authorization: Bearer ")
    assert relay.sent.removeprefix(head).count(b"\r\n") == 2
    assert relay.sent.endswith(b"\r\n\r\n")


async def test_a_payment_that_appears_later_is_not_given_up_at_once(place: Site) -> None:
    """A bank that has it in its books only later says no at first: that is no leave to send it again."""
    place.bank.world.books_delay = 3600.0
    id_ = await pay(place, "late-1")

    early = await told(place, id_, "--ask")
    place.bank.world.books_delay = 0.0
    later = await told(place, id_, "--ask")

    assert (early["settled"], early["inquiries"][0]["verdict"]) == ("", "not_found")
    assert early["next_step"].endswith("Don't send it again yet.")
    assert [one["verdict"] for one in later["inquiries"]] == ["not_found", "found"]
    assert later["settled"] == "found"


async def test_a_payment_that_never_arrived_is_not_found(place: Site) -> None:
    """The connection broke before the bank had read it."""
    one = await told(place, await pay(place, "never-1", fault="reset_before"), "--ask")

    assert [each["verdict"] for each in one["inquiries"]] == ["not_found"]


@pytest.mark.parametrize("fault", ["status", "html", "empty", "broken_json", "reset", "truncated", "down"])
async def test_what_the_bank_does_not_say_is_unclear(place: Site, fault: str) -> None:
    """An outage, a foreign page or half an answer settles nothing."""
    id_ = await pay(place, f"unclear-{fault}")
    place.bank.world.faults.add(Fault.of({"kind": fault, "path": PAYMENTS, "method": "GET", "status": 503}))

    one = await told(place, id_, "--ask")

    assert (one["settled"], [each["verdict"] for each in one["inquiries"]]) == ("", ["unclear"])
    assert "the inquiry did not settle it" in one["next_step"]


async def test_a_revoked_token_is_replaced_for_the_next_inquiry(place: Site) -> None:
    """A 401 says nothing about the payment."""
    id_ = await pay(place, "revoked-1")
    place.bank.world.tokens.revoke()

    first = await told(place, id_, "--ask")
    second = await told(place, id_, "--ask")

    assert (first["settled"], first["inquiries"][0]["answer_status"]) == ("", 401)
    assert second["settled"] == "found"


async def test_what_is_known_is_not_asked(place: Site) -> None:
    """The bank answered, so there is nothing to ask."""
    id_ = await pay(place, "known-1", fault="")

    one = await told(place, id_, "--ask")

    assert one["inquiries"] == []
    assert not place.bank.world.seen(PAYMENTS, "GET")


@pytest.mark.parametrize(
    ("request_id", "why"), [("4111111111111111", "keeps Request-Id masked"), ("a, b", "more than once")]
)
async def test_a_value_that_the_log_does_not_have_is_not_asked(place: Site, request_id: str, why: str) -> None:
    """The bank would say that it knows of no such thing."""
    id_ = await pay(place, request_id)

    done = await command("why", id_, "--ask", "--config", place.config)

    assert done.exit_code == 1
    assert f"the bank was not asked about {id_}" in done.stderr
    assert why in done.stderr
    assert not place.bank.world.seen(PAYMENTS, "GET")


async def test_a_rule_without_an_inquiry_says_so(tmp_path: Path) -> None:
    """And which setting would change that; a stopped instance says that it does not run."""
    async with site(tmp_path) as made:
        async with serving(made):
            await made.ready()
            id_ = await pay(made, "r-1")
            done = await command("why", id_, "--ask", "--config", made.config)
        stopped = await command("why", id_, "--ask", "--config", made.config)

    assert "no rule payments with an inquiry is configured" in done.stderr
    assert (stopped.exit_code, "no instance answers" in stopped.stderr) == (69, True)


async def test_all_open_ones_are_asked(tmp_path: Path) -> None:
    """A settled one is not asked again, and one that can't be asked says why; then the exit code is 1."""
    async with site(tmp_path) as made:
        made.config.write_text(made.config.read_text() + INQUIRY)
        config = ("--config", made.config)
        async with serving(made):
            await made.ready()
            first, second, masked = [await pay(made, one) for one in ("open-1", "open-2", "4111111111111111")]
            await pay(made, "known", fault="")
            await told(made, first, "--ask")
            await searched(made, 3)

            opened = await searched(made, 2, "--open")
            done = await command("reconcile", "--since", "1h", "--json", *config)
            told_ = await command("reconcile", *config)
            left = await searched(made, 1, "--open")

    assert [one["id"] for one in opened] == [masked, second]
    value = json.loads(done.stdout)
    assert (done.exit_code, value["asked"], value["not_asked"], value["open"]) == (1, 1, 1, 1)
    assert [(one["id"], one["settled"]) for one in value["exchanges"]] == [(second, "found"), (masked, "")]
    assert "masked" in value["exchanges"][1]["not_asked"]
    assert len(made.bank.world.seen(PAYMENTS, "GET")) == 2
    assert "0 asked about, 1 not asked, 0 settled, 1 still open." in told_.stdout
    assert [one["id"] for one in left] == [masked]


async def searched(place: Site, number: int, *options: str) -> list[dict[str, Any]]:
    """Return the records of unknown outcome in the database once there are *number* of them."""
    async with asyncio.timeout(90):
        while True:
            done = await command(*("logs", "search", "--sent", "unknown", "--json", *options), "--config", place.config)
            records = [json.loads(line) for line in done.stdout.splitlines()]
            if len(records) == number:
                return records
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("options", [(), ("--sent", "yes"), ("--kind", "inquiry")])
async def test_only_unknown_ones_can_be_open(tmp_path: Path, options: tuple[str, ...]) -> None:
    """All others are settled by their own record."""
    done = await command("logs", "search", "--open", *options, "--config", tmp_path / "payproxy.toml")

    assert (done.exit_code, "--open goes with --sent unknown" in done.stderr) == (2, True)


async def test_the_side_that_carried_it_is_asked(tmp_path: Path) -> None:
    """The bank's books are by client: the side that serves now would say that it has no such payment."""
    async with site(tmp_path) as made:
        made.bank.world.register_adfs_client(ADFS_CLIENT_ID, make_pair(tmp_path, "old"))
        made.config.write_text(made.config.read_text() + INQUIRY + MIGRATION.format(url=made.bank.url))
        async with serving(made):
            await made.until(lambda status: status["ready"] and {one["state"] for one in status["tokens"]} == {"fresh"})
            id_ = await pay(made, "moved-1")
            moved = await command(
                *("migration", "set", "move", "100", "--force", "--reason", "r"), "--config", made.config
            )
            now = await pay(made, "moved-2", fault="")
            one = await told(made, id_, "--ask")

            [asked] = made.bank.world.seen(PAYMENTS, "GET")
            assert moved.exit_code == 0, moved.stderr
            assert (await told(made, now))["side"] == "modern"
            assert (one["side"], one["settled"]) == ("legacy", "found")
            assert asked.client_id == ADFS_CLIENT_ID
