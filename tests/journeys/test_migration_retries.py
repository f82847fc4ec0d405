"""A payment whose end is not known, sent again by its caller after a rollback: never to the other side."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.migration.side import point
from proxy.simulator.clients import JWT_CLIENT_ID
from proxy.simulator.received import Received
from proxy.simulator.server import Bank
from tests.journeys.caller import Request, connected, payment
from tests.journeys.conftest import Start
from tests.journeys.fleet import PAYMENTS, SYSTEMS, Fleet, check_never_twice, configured, side_of
from tests.journeys.migrated import migration, set_weight
from tests.journeys.process import Instance
from tests.journeys.waiting import until

# The two that are on modern first, and one that never was.
FIRST, SECOND, *_, LAST = sorted(SYSTEMS, key=lambda system: point("payments", system))
SILENT_SECONDS = 1.0


@pytest.mark.parametrize(
    ("fault", "status", "sent"),
    [
        ("slow", 504, "unknown"),  # the bank did it, and its answer never came
        ("unread", 504, "unknown"),  # it never read the body, which nobody but the bank knows
        ("reset", 502, "unknown"),
        ("close", 502, "unknown"),
        ("truncated", 502, "yes"),
    ],
)
async def test_a_retry_follows_the_first_try_after_a_rollback(  # noqa: PLR0917 - a table's columns
    tmp_path: Path, bank: Bank, start: Start, fault: str, status: int, sent: str
) -> None:
    """Whatever lost the answer: the retry goes to modern, where the bank knows its key, and others are on legacy."""
    _, fleet = await _on_modern(tmp_path, bank, start)
    bank.world.faults.set(fault, path=PAYMENTS, client=JWT_CLIENT_ID, method="POST", seconds=30.0, times=1)

    lost = (await fleet.asks(FIRST, payment("lost"))).answer
    assert (lost.status, lost.json["sent_upstream"]) == (status, sent)
    await _roll_back(tmp_path, fleet, bank)
    retry = (await fleet.asks(FIRST, payment("lost"))).answer

    first, second = _sends(bank, "lost")
    assert (side_of(first, bank), side_of(second, bank)) == ("modern", "modern")
    if fault == "unread":
        assert retry.status == 201
    else:
        assert (retry.status, retry.headers["duplicate-request"]) == (200, "true")
    assert bank.world.accepted["lost"] == 1
    # The key is the caller's own: what another one calls the same is another payment.
    assert (await fleet.asks(LAST, payment("lost"))).answer.status == 201
    assert side_of(_sends(bank, "lost")[-1], bank) == "legacy"


async def test_a_retry_of_what_the_bank_failed_at_follows_it_too(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A 5xx says nothing about what was done; an answer of 4xx does, but it may not have been read yet."""
    _, fleet = await _on_modern(tmp_path, bank, start)
    bank.world.faults.set("status", path=PAYMENTS, client=JWT_CLIENT_ID, method="POST", status=500, times=1)
    bank.world.faults.set("status", path=PAYMENTS, client=JWT_CLIENT_ID, method="POST", status=422, times=1)

    assert (await fleet.asks(FIRST, payment("failed"))).answer.status == 500
    assert (await fleet.asks(SECOND, payment("malformed"))).answer.status == 422
    await _roll_back(tmp_path, fleet, bank)

    assert (await fleet.asks(FIRST, payment("failed"))).answer.status == 201
    assert (await fleet.asks(SECOND, payment("malformed"))).answer.status == 201
    assert [side_of(one, bank) for one in _sends(bank, "failed")] == ["modern", "modern"]
    # For ten seconds; then its retry goes where the weight says.
    assert [side_of(one, bank) for one in _sends(bank, "malformed")] == ["modern", "modern"]


async def test_a_caller_that_gave_up_comes_back_to_its_side(tmp_path: Path, bank: Bank, start: Start) -> None:
    """It never had an answer, and tries again with the same key while the first one is not even done."""
    _, fleet = await _on_modern(tmp_path, bank, start)
    bank.world.faults.set("slow", path=PAYMENTS, client=JWT_CLIENT_ID, method="POST", seconds=0.7, times=1)
    async with connected(fleet.address) as connection:
        left = asyncio.create_task(connection.ask(fleet.request(FIRST, payment("left"))))
        await until(lambda: bank.world.accepted["left"], otherwise="the bank did not get it")
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
    await _roll_back(tmp_path, fleet, bank)

    retry = (await fleet.asks(FIRST, payment("left"))).answer

    assert (retry.status, retry.headers["duplicate-request"]) == (200, "true")
    assert [side_of(one, bank) for one in _sends(bank, "left")] == ["modern", "modern"]


async def test_a_retry_the_other_way_stays_on_legacy(tmp_path: Path, bank: Bank, start: Start) -> None:
    """What began on legacy ends there, although the weight has grown to 100 meanwhile."""
    configuration = configured(tmp_path, bank, upstream=f"response_timeout = {SILENT_SECONDS}")
    fleet = Fleet((await start(configuration)).address)
    bank.world.faults.set("slow", path=PAYMENTS, method="POST", seconds=30.0, times=1)
    assert (await fleet.asks(FIRST, payment("lost"))).answer.status == 504

    await set_weight(tmp_path, configuration, 100)

    await until(lambda: _all_on(fleet, bank, "modern"), otherwise="not every worker had the weight")
    assert (await fleet.asks(FIRST, payment("lost"))).answer.headers["duplicate-request"] == "true"
    assert [side_of(one, bank) for one in _sends(bank, "lost")] == ["legacy", "legacy"]


@pytest.mark.parametrize("name", ["Request-Id", "requestId"])
async def test_a_request_id_is_as_good_as_a_key(tmp_path: Path, bank: Bank, start: Start, name: str) -> None:
    """Where there is no key, the retry is known by its id."""
    _, fleet = await _on_modern(tmp_path, bank, start)
    bank.world.faults.set("reset", path=PAYMENTS, client=JWT_CLIENT_ID, method="POST", times=1)
    request = Request(method="POST", path=PAYMENTS, headers={name: "lost"}, body=b"{}")

    assert (await fleet.asks(FIRST, request)).answer.status == 502
    await _roll_back(tmp_path, fleet, bank)

    assert (await fleet.asks(FIRST, request)).answer.status < 300
    assert [side_of(one, bank) for one in bank.world.seen(PAYMENTS, "POST")] == ["modern", "modern"]


def _torn(path: Path) -> None:
    path.write_text("nonsense\n")


def _gone_bad(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_torn, _gone_bad])
async def test_while_the_pins_cannot_be_read_nothing_is_sent(
    tmp_path: Path, bank: Bank, start: Start, spoil: Callable[[Path], None]
) -> None:
    """The retry gets side_unknown, with a Retry-After; reads go on, and so do payments that name no key."""
    instance, fleet = await _on_modern(tmp_path, bank, start)
    bank.world.faults.set("slow", path=PAYMENTS, client=JWT_CLIENT_ID, method="POST", seconds=30.0, times=1)
    assert (await fleet.asks(FIRST, payment("lost"))).answer.status == 504
    await _roll_back(tmp_path, fleet, bank)
    assert await instance.stop() == 0
    kept = (tmp_path / "data" / "retry-pins.jsonl").read_text()
    spoil(tmp_path / "data" / "retry-pins.jsonl")

    fleet = Fleet((await start(tmp_path / "payproxy.toml")).address)
    refused = [(await fleet.asks(FIRST, payment("lost"))).answer for _ in range(20)]

    assert {(one.status, one.json["code"], one.json["sent_upstream"]) for one in refused} == {
        (503, "side_unknown", "no")
    }
    assert all(one.json["retryable"] and int(one.headers["retry-after"]) > 0 for one in refused)
    assert len(_sends(bank, "lost")) == 1
    assert (await fleet.asks(FIRST, Request())).answer.status == 200
    assert (await fleet.asks(FIRST, payment(""))).answer.status == 201
    # Put back as it was, it is read without a restart.
    path = tmp_path / "data" / "retry-pins.jsonl"
    if path.is_dir():
        path.rmdir()
    path.write_text(kept)

    async def served() -> bool:
        return (await fleet.asks(FIRST, payment("lost"))).answer.status == 200

    await until(served, otherwise="it was not served again")
    assert {side_of(one, bank) for one in _sends(bank, "lost")} == {"modern"}
    assert bank.world.accepted["lost"] == 1
    check_never_twice(bank)


async def _on_modern(directory: Path, bank: Bank, start: Start) -> tuple[Instance, Fleet]:
    """Return an instance that has all its systems on modern, and them; it gives up a silent bank soon."""
    configuration = configured(directory, bank, upstream=f"response_timeout = {SILENT_SECONDS}")
    instance = await start(configuration)
    fleet = Fleet(instance.address)
    await set_weight(directory, configuration, 100)
    await until(lambda: _all_on(fleet, bank, "modern"), otherwise="not every worker had the weight")
    return instance, fleet


async def _roll_back(directory: Path, fleet: Fleet, bank: Bank) -> None:
    code, said = await migration(
        directory, directory / "payproxy.toml", "rollback", "payments", "--reason", "an answer was lost"
    )
    assert (code, said["weight"]) == (0, 0), said
    await until(lambda: _all_on(fleet, bank, "legacy"), otherwise="not every worker went back")


async def _all_on(fleet: Fleet, bank: Bank, side: str) -> bool:
    """Return whether reads on connections of their own, so in all workers, go to *side*."""
    told = await asyncio.gather(*(fleet.asks(system, Request()) for system in SYSTEMS))
    numbers = {one.number for one in told}
    return {side_of(one, bank) for one in bank.world.seen() if one.header("X-Number") in numbers} == {side}


def _sends(bank: Bank, key: str) -> list[Received]:
    return [one for one in bank.world.seen(PAYMENTS, "POST") if one.header("Idempotency-Key") == key]
