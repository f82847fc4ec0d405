"""A migration is rolled back on three replicas under load; also where their clocks are 5 s apart."""

from datetime import datetime
from pathlib import Path
from statistics import fmean

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import BUSY, NAMES, ReplicaFleet, Rollback, fleet_with_redis
from tests.journeys.books import Books, books, check_chains
from tests.journeys.conftest import Start
from tests.journeys.counting import Outcome
from tests.journeys.fleet import SYSTEM, on_modern, side_of
from tests.journeys.waiting import until
from tests.support.other_clock import python_with_clock

pytestmark = pytest.mark.timeout(600)
HALF = 50
PROMISED_SECONDS = 2.0
MOVED = tuple(sorted(on_modern(HALF).intersection(BUSY)))
STAYED = tuple(sorted(set(BUSY).difference(MOVED)))
# The systems whose payments get no answer while the rollback happens: they pay again all the time.
LOST = (*MOVED[:2], STAYED[0])


@pytest.mark.parametrize("ahead", [0.0, 5.0], ids=["same-time", "clocks-apart"])
async def test_a_rollback_is_on_all_replicas_in_time_and_moves_no_payment(
    tmp_path: Path, bank: Bank, start: Start, *, ahead: float
) -> None:
    """Payments whose answer is lost while it happens are paid again with their key, at the bank that has them."""
    python = {"b": python_with_clock(tmp_path, seconds=ahead)} if ahead else {}
    async with fleet_with_redis(tmp_path, bank, start, python=python) as fleet:
        await fleet.moves_to(HALF)
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            first = await _rolls_back_while_answers_are_lost(fleet, by="b")
            await fleet.moves_to(HALF)
            await fleet.callers.goes_on()
            second = await _rolls_back_while_answers_are_lost(fleet, by="c")
        found = await books(fleet)

        found.check(allowed=frozenset({Outcome.REFUSED, Outcome.UNKNOWN}))
        for one in (first, second):
            seconds = _last_on_modern(found, one)
            # On a machine that is busy everything takes longer: by as much as an answer took that usually takes 0.01 s.
            most = PROMISED_SECONDS + _slowest(found, one)
            assert max(*one.seconds.values(), seconds) <= most, one
        _check_clocks(found, {"b": ahead})
        await check_chains(fleet)


async def _rolls_back_while_answers_are_lost(fleet: ReplicaFleet, *, by: str) -> Rollback:
    """Roll back once a payment of each of `LOST` has got no answer; after it, one of each is served where it was."""
    faults, tries = fleet.bank.world.faults, fleet.callers.tries
    before = len(tries)

    def keys() -> dict[str, str]:
        return {one.system: one.key for one in tries[before:] if one.outcome is Outcome.UNKNOWN}

    for system in LOST:
        faults.set("reset", path="/payment/v2", method="POST", having={SYSTEM: system})
    await until(lambda: keys().keys() == {*LOST}, otherwise="no answer was lost")
    done = await fleet.rolls_back(by=by)
    lost = keys()
    faults.clear()
    await fleet.callers.goes_on()
    sides = {
        one.header(SYSTEM): side_of(one, fleet.bank)
        for one in fleet.bank.world.seen("/payment/v2")
        if one.status < 500 and one.status and one.header("Idempotency-Key") in lost.values()
    }
    assert sides == {system: "modern" if system in MOVED else "legacy" for system in LOST}
    return done


def _last_on_modern(found: Books, rollback: Rollback) -> float:
    """Return how long after *rollback* began the last request was sent that went to modern though it was no retry."""
    firsts = {one.key or one.number: one for one in reversed(found.fleet.callers.tries)}
    later = [
        (one.started - rollback.began, side_of(found.sends[one.number][0], found.fleet.bank))
        for one in firsts.values()
        if one.system in MOVED and one.number in found.sends and rollback.began < one.started < rollback.over
    ]
    assert "legacy" in {side for _, side in later}, "nobody has gone back"
    return max((after for after, side in later if side == "modern"), default=0.0)


def _slowest(found: Books, rollback: Rollback) -> float:
    tries = found.fleet.callers.of(Outcome.SERVED)
    return max(one.seconds for one in tries if rollback.began < one.ended and one.started < rollback.over)


def _check_clocks(found: Books, ahead: dict[str, float]) -> None:
    """Check by the bank's books, whose clock is right, that the replicas' workers have the times that they should."""
    for name in NAMES:
        apart = [
            datetime.fromisoformat(record["time"]).timestamp() - found.sends[number][0].when
            for number, [record, *_] in found.records.items()
            if record["instance"] == name and number in found.sends
        ]
        assert abs(fmean(apart) - ahead.get(name, 0.0)) < 1.0, name
