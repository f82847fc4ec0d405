"""What the bank may say at the modern host with half of twenty systems there: legacy serves, the guard acts."""

import asyncio
from pathlib import Path

import pytest

from proxy.migration.side import point
from proxy.simulator.clients import JWT_CLIENT_ID
from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.fleet import (
    SYSTEM,
    SYSTEMS,
    Fleet,
    Told,
    check_never_twice,
    configured,
    on_modern,
    received,
    side_of,
    state,
    statuses,
)
from tests.journeys.guard import (
    GOOD,
    HALF,
    check_told,
    goes_on,
    half_on_modern,
    held_one,
    of_the_guard,
    was_on_modern,
    went_back,
)
from tests.journeys.migrated import set_weight
from tests.journeys.proc import starved_seconds
from tests.journeys.process import Instance
from tests.journeys.waiting import until

FIRST, SECOND, *_ = sorted(SYSTEMS, key=lambda system: point("payments", system))
# What the promise allows a change of weight until it is in force everywhere.
PROMISED_SECONDS = 2.0
IN_FLIGHT_SECONDS = 0.3


async def test_revoked_modern_tokens_are_seen_by_no_caller(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The bank's 401 is followed by one send with the legacy token; two callers' refusals are enough to go back."""
    instance = await half_on_modern(tmp_path, bank, start)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        _revoke(bank, client_id=JWT_CLIENT_ID)
        await until(lambda: went_back(instance), otherwise="the guard did not go back")
        await goes_on(told)

    assert set(statuses(told)) == GOOD
    assert "the modern token was refused to" in (await state(instance))["reason"]
    again = [sends for sends in received(bank).values() if len(sends) > 1]
    assert again
    assert {side_of(first, bank) for first, _ in again} == {"modern"}
    assert "legacy" in {side_of(second, bank) for _, second in again}
    check_told(instance, tmp_path)
    check_never_twice(bank)


async def test_when_all_tokens_are_revoked_nothing_is_sent_a_third_time(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """The legacy token that a modern system falls back on is dead too: the bank's 401 is the answer, now and then."""
    instance = await half_on_modern(tmp_path, bank, start)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        _revoke(bank)
        revoked = asyncio.get_running_loop().time()
        await until(lambda: went_back(instance), otherwise="the guard did not go back")
        await goes_on(told)

    refused = [one for one in told if one.answer.status == 401]
    assert set(statuses(told)) <= GOOD | {401}
    assert {one.system for one in refused} <= on_modern(HALF)
    allowed = await _allowed_seconds(instance)
    assert all(one.started - revoked < allowed for one in refused)
    assert all(len(received(bank)[one.number]) == 2 for one in refused)
    check_never_twice(bank)


async def test_a_401_for_one_system_holds_that_system(tmp_path: Path, bank: Bank, start: Start) -> None:
    """It is served by legacy from the first request on and held there; the others stay where they are."""
    instance = await half_on_modern(tmp_path, bank, start)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        bank.world.faults.set("refuse", client=JWT_CLIENT_ID, path="/payment", having={SYSTEM: FIRST})
        await until(lambda: held_one(instance), otherwise="nobody was held")
        await goes_on(told)

    assert set(statuses(told)) == GOOD
    assert ((await state(instance))["weight"], (await state(instance))["guard_pinned"]) == (HALF, [FIRST])
    assert await _modern_now(instance, bank) == on_modern(HALF) - {FIRST}
    check_told(instance, tmp_path)
    check_never_twice(bank)


@pytest.mark.parametrize("systems", [(FIRST, SECOND), ()], ids=["two", "all"])
async def test_a_401_for_two_systems_or_all_goes_back(
    tmp_path: Path, bank: Bank, start: Start, systems: tuple[str, ...]
) -> None:
    """To the last weight without a breach, which is not 0, and from there on to 0 if that is no better."""
    configuration = configured(tmp_path, bank)
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, 10)
    await set_weight(tmp_path, configuration, HALF)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        for having in [{SYSTEM: system} for system in systems] or [{}]:
            bank.world.faults.set("refuse", client=JWT_CLIENT_ID, path="/payment", having=having)
        await until(lambda: went_back(instance), otherwise="the guard did not go back")
        await goes_on(told)

    assert set(statuses(told)) == GOOD
    weights = [(one["values"]["old_weight"], one["values"]["weight"]) for one in of_the_guard(tmp_path)]
    assert weights == [(str(HALF), "10"), ("10", "0")]
    check_never_twice(bank)


async def test_a_401_for_the_only_system_there_is_goes_back(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Nobody is left who could say that modern works."""
    configuration = configured(tmp_path, bank, systems=[FIRST])
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, HALF)

    async with Fleet(instance.address, names=(FIRST,)).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        bank.world.faults.set("refuse", client=JWT_CLIENT_ID, path="/payment")
        await until(lambda: went_back(instance), otherwise="the guard did not go back")
        await goes_on(told)

    assert set(statuses(told)) == GOOD
    assert "the only caller there is" in (await state(instance))["reason"]
    check_never_twice(bank)


@pytest.mark.parametrize("status", [404, 422, 500])
async def test_what_all_systems_get_at_the_modern_host_goes_back(
    tmp_path: Path, bank: Bank, start: Start, status: int
) -> None:
    """Callers see the first answers of a host with another schema, and none two seconds after the third."""
    instance = await half_on_modern(tmp_path, bank, start)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        bank.world.faults.set("status", client=JWT_CLIENT_ID, path="/payment", status=status)
        await until(lambda: went_back(instance), otherwise="the guard did not go back")
        await goes_on(told)

    _check_first_only(told, status, allowed=await _allowed_seconds(instance))
    assert ("failed" if status == 500 else "ended with a client error") in (await state(instance))["reason"]
    assert {len(sends) for sends in received(bank).values()} == {1}
    check_told(instance, tmp_path)
    check_never_twice(bank)


@pytest.mark.parametrize("status", [404, 422, 403])
async def test_what_one_system_gets_at_the_modern_host_holds_it(
    tmp_path: Path, bank: Bank, start: Start, status: int
) -> None:
    """A 403 too, since legacy let it; the others stay where they are, and see nothing."""
    configuration = configured(tmp_path, bank)
    instance = await start(configuration)
    await Fleet(instance.address).round()
    await set_weight(tmp_path, configuration, HALF)

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: was_on_modern(told, bank), otherwise="nobody came to modern")
        bank.world.faults.set("status", client=JWT_CLIENT_ID, path="/payment", status=status, having={SYSTEM: FIRST})
        await until(lambda: held_one(instance), otherwise="nobody was held")
        await goes_on(told)

    _check_first_only(told, status, allowed=await _allowed_seconds(instance))
    assert {one.system for one in told if one.answer.status == status} == {FIRST}
    assert ((await state(instance))["weight"], (await state(instance))["guard_pinned"]) == (HALF, [FIRST])
    check_never_twice(bank)


async def test_client_errors_that_legacy_gave_too_change_nothing(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A system whose requests are wrong wherever they go is no reason to go back, nor to be held."""
    configuration = configured(tmp_path, bank)
    bank.world.faults.set("status", path="/payment", status=422, having={SYSTEM: FIRST})
    instance = await start(configuration)
    fleet = Fleet(instance.address)
    await fleet.round(times=3)
    await set_weight(tmp_path, configuration, HALF)

    told = [one for _ in range(10) for one in await fleet.round(times=3)]

    assert {one.system for one in told if one.answer.status == 422} == {FIRST}
    assert ((await state(instance))["weight"], (await state(instance))["guard_pinned"]) == (HALF, [])
    assert await _modern_now(instance, bank) == on_modern(HALF)


def _revoke(bank: Bank, *, client_id: str = "") -> None:
    """Revoke tokens while all that is on its way to modern takes its time, so that several requests have them."""
    bank.world.faults.set("slow", client=JWT_CLIENT_ID, path="/payment", seconds=IN_FLIGHT_SECONDS)
    bank.world.tokens.revoke(client_id=client_id)


async def _modern_now(instance: Instance, bank: Bank) -> set[str]:
    told = await Fleet(instance.address).round()
    assert set(statuses(told)) <= {*GOOD, 422}
    numbers = received(bank)
    return {one.system for one in told if side_of(numbers[one.number][0], bank) == "modern"}


async def _allowed_seconds(instance: Instance) -> float:
    """Return the promised time, longer on a busy machine by what a process of the instance waited for a CPU."""
    return PROMISED_SECONDS + max(map(starved_seconds, [instance.pid, *await instance.serving()]))


def _check_first_only(told: list[Told], status: int, *, allowed: float) -> None:
    """Check that only *status* went wrong, and ended within *allowed* seconds after the third, which is a breach."""
    wrong = sorted(one.started for one in told if one.answer.status not in GOOD)
    assert set(statuses(told)) - GOOD == {status}
    assert wrong[-1] - wrong[2] < allowed
