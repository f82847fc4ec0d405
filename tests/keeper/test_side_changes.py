"""A change of side is certain once every worker has said what it has in flight."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.keeper.migrations import Migrations
from proxy.link.messages import Acknowledged, ClaimCheck, ClaimDropped, MigrationStates, NewPins, Numbered, ToWorker
from proxy.migration.former import FormerSetting
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.pin_rows import Pins
from proxy.migration.side import Side
from tests.keeper.migrating import BY, PAYMENTS, Migrating, configured
from tests.upstream.support import eventually

CLOCK = SystemClock()
DIGEST = f"{1:016x}"
UNTIL = float(int(CLOCK.now()) + PIN_SECONDS)


def pin(side: Side = Side.MODERN, reason: Reason = Reason.IN_FLIGHT) -> RetryPin:
    """Return a pin that holds for a day."""
    return RetryPin(side, "bank", UNTIL, "payments", reason)


class Serving(Migrating):
    """A keeper with workers; those in *dumb* never answer."""

    def __init__(self, directory: Path, *workers: str) -> None:
        self.workers = list(workers)
        self.dumb: set[str] = set()
        self.in_flight: dict[str, Pins] = {}
        self.killed: list[str] = []
        super().__init__(directory=directory)
        self.migrations.changes._kill = self.killed.append

    def _send(self, message: ToWorker) -> list[str]:
        self.sent.append(message)
        for worker in self.workers:
            if isinstance(message, Numbered) and message.serial and worker not in self.dumb:
                self.answer(worker, message)
        return list(self.workers)

    def answer(self, worker: str, message: Numbered) -> None:
        """Let *worker* answer: with its keys in flight, with yes, or that it has the pins."""
        pins = self.in_flight.get(worker, {})
        if isinstance(message, MigrationStates):
            answer = Acknowledged(message.serial, pins=pins)
        else:
            answer = Acknowledged(message.serial, agreed=not (isinstance(message, ClaimCheck) and pins))
        asyncio.get_running_loop().call_soon(self.migrations.answers.on_answer, worker, answer)

    def unsettled(self) -> list[FormerSetting]:
        """Return the former settings of which workers have heard last that somebody may still send by them."""
        return [one for one in self.payments.former if not one.settled]

    def pins_sent(self) -> list[Pins]:
        """Return the pins that workers have got, one by one, in order."""
        messages = [message for message in self.sent if isinstance(message, NewPins)]
        return [{digest: pin} for message in messages for digest, pin in message.pins.items()]


@asynccontextmanager
async def serving(directory: Path, *workers: str, tables: Iterable[Any] = (PAYMENTS,)) -> AsyncIterator[Serving]:
    """Run a keeper's migrations with *workers* for the block."""
    keeper = Serving(directory, *workers)
    await keeper.open(tables)
    try:
        yield keeper
    finally:
        await keeper.migrations.close()


async def changed(migrations: Migrations, weight: int) -> str:
    """Set the weight and return what is not certain."""
    return (await migrations.set("payments", weight, **BY)).unsettled


async def test_what_is_in_flight_is_pinned_in_all_workers_before_the_change_is_certain(tmp_path: Path) -> None:
    """They hear of the change at once, then of the pins, then that it is settled: in this order on each link."""
    async with serving(tmp_path, "a", "b") as keeper:
        await changed(keeper.migrations, 100)
        keeper.sent.clear()
        keeper.in_flight["a"] = {DIGEST: pin()}

        assert await changed(keeper.migrations, 0) == ""

        kinds = [
            any(not former.settled for former in one.states["payments"].former)
            if isinstance(one, MigrationStates)
            else "pins"
            for one in keeper.sent
        ]
        assert kinds.index("pins") > kinds.index(True)
        assert kinds[kinds.index("pins") :].count(True) == 0
        assert not keeper.unsettled()
        assert keeper.migrations.pins.get(DIGEST) == pin()
        assert (tmp_path / "retry-pins.jsonl").read_text().count(DIGEST) == 1


@pytest.mark.thorough
async def test_a_worker_that_does_not_answer_is_killed_and_its_journal_waited_for(tmp_path: Path) -> None:
    """The command says after two seconds what is waited for; the weight holds meanwhile, and others are told."""
    async with serving(tmp_path, "a", "b") as keeper:
        keeper.dumb = {"b"}

        assert "not every worker" in await changed(keeper.migrations, 100)

        assert keeper.weight == 100
        assert keeper.unsettled()
        await eventually(lambda: keeper.killed == ["b"])
        keeper.workers = ["a"]
        keeper.migrations.answers.ended("b")
        assert keeper.unsettled()
        keeper.migrations.answers.recovered("b")
        await eventually(lambda: not keeper.unsettled())
        assert keeper.migrations.states()[0].unsettled == ""


async def test_what_follows_before_a_change_is_certain_is_settled_with_it(tmp_path: Path) -> None:
    """Each setting that was left meanwhile is one by which a first try may have gone."""
    async with serving(tmp_path, "a") as keeper:
        keeper.dumb = {"a"}
        await asyncio.gather(changed(keeper.migrations, 30), changed(keeper.migrations, 60))
        assert sorted(one.weight for one in keeper.unsettled()) == [0, 30]
        keeper.dumb = set()
        for message in [one for one in keeper.sent if isinstance(one, Numbered) and one.serial]:
            keeper.answer("a", message)
        await eventually(lambda: not keeper.unsettled())


async def test_a_hold_of_the_guard_is_a_change_too(tmp_path: Path) -> None:
    """For that caller alone."""
    async with serving(tmp_path, "a") as keeper:
        await changed(keeper.migrations, 100)
        keeper.in_flight["a"] = {DIGEST: pin()}
        await keeper.migrations.hold_caller("payments", "erp", "it fails")
        assert [(one.weight, one.caller) for one in keeper.payments.former] == [(0, ""), (0, "erp")]
        assert keeper.migrations.pins.get(DIGEST) is not None


@pytest.mark.thorough
async def test_a_fallback_is_agreed_on_by_all_other_workers(tmp_path: Path) -> None:
    """One that has the key in flight says no, and so does one that says nothing; else there is a pin everywhere."""
    async with serving(tmp_path, "a", "b", "c") as keeper:
        pins = keeper.migrations.pins
        keeper.in_flight["a"] = {f"{9:016x}": pin()}
        assert await pins.claim("a", DIGEST, pin(Side.LEGACY))
        assert keeper.pins_sent() == [{DIGEST: pin(Side.LEGACY)}]

        keeper.in_flight["b"] = {f"{2:016x}": pin()}
        assert not await pins.claim("a", f"{2:016x}", pin(Side.LEGACY))
        assert keeper.sent[-1] == ClaimDropped(f"{2:016x}")
        keeper.in_flight.clear()
        keeper.dumb = {"c"}
        assert not await pins.claim("a", f"{3:016x}", pin(Side.LEGACY))
        assert not await pins.claim("a", DIGEST, pin(Side.MODERN))
        assert len(keeper.pins_sent()) == 1


async def test_a_request_that_a_change_has_pinned_may_fall_back(tmp_path: Path) -> None:
    """The 401 that it got may be what the change is made for; one of which the end is uncertain stays."""
    async with serving(tmp_path, "a", "b") as keeper:
        pins = keeper.migrations.pins
        legacy = pin(Side.LEGACY, Reason.FALLBACK)
        await pins.keep({DIGEST: pin(reason=Reason.IN_FLIGHT), f"{2:016x}": pin(reason=Reason.UNKNOWN)})
        assert await pins.claim("a", DIGEST, legacy)
        assert pins.get(DIGEST) == legacy
        assert not await pins.claim("a", f"{2:016x}", legacy)
        assert pins.get(f"{2:016x}") == pin(reason=Reason.UNKNOWN)


async def test_a_fallback_holds_that_was_agreed_on_while_a_change_asked(tmp_path: Path) -> None:
    """The side that the request had left is told later, in the same breath as what else is in flight."""
    async with serving(tmp_path, "a", "b") as keeper:
        await keeper.migrations.set("payments", 100, **BY)
        pins, legacy = keeper.migrations.pins, pin(Side.LEGACY, Reason.FALLBACK)
        keeper.in_flight["a"] = {DIGEST: pin()}
        keeper.dumb = {"b"}
        rolling = asyncio.create_task(keeper.migrations.rollback("payments", **BY))
        await eventually(lambda: bool(keeper.unsettled()))
        asked = keeper.message
        keeper.dumb.clear()
        assert await pins.claim("a", DIGEST, legacy)
        keeper.answer("b", asked)
        await rolling
        await eventually(lambda: not keeper.unsettled())
        assert pins.get(DIGEST) == legacy
        assert keeper.pins_sent()[-1] == {DIGEST: legacy}


async def test_a_pin_of_a_try_in_flight_ends_with_it(tmp_path: Path) -> None:
    """Unless another try of the same request ended uncertain."""
    async with serving(tmp_path, "a") as keeper:
        pins = keeper.migrations.pins
        soon = replace(pin(), until=float(int(CLOCK.now()) + 10))
        await pins.keep({DIGEST: pin()})
        await pins.release(DIGEST, soon)
        assert pins.get(DIGEST) == soon
        await pins.keep({DIGEST: pin(reason=Reason.UNKNOWN)})
        await pins.release(DIGEST, soon)
        assert pins.get(DIGEST) == pin(reason=Reason.UNKNOWN)
        assert keeper.pins_sent()[-1] == {DIGEST: pin(reason=Reason.UNKNOWN)}


async def test_a_table_that_takes_over_is_told_to_the_workers_of_the_old_one(tmp_path: Path) -> None:
    """What it would move is pinned before a new worker serves; whoever is on the way away from a side keeps it."""
    pinned = replace(PAYMENTS, pinned_legacy=("erp",))
    async with serving(tmp_path, "a") as keeper:
        await changed(keeper.migrations, 100)
        keeper.in_flight["a"] = {DIGEST: pin()}

        assert await keeper.migrations.hand_over(configured(pinned)) == ""

        assert keeper.payments.policies[0].pinned == {"erp": Side.LEGACY}
        assert keeper.migrations.pins.get(DIGEST) is not None
        assert await keeper.migrations.hand_over(configured(PAYMENTS)) == ""
        assert keeper.payments.policies[0].pinned == {}


@pytest.mark.parametrize("side", Side)
async def test_a_table_goes_when_nothing_is_in_flight_to_the_side_that_is_left(tmp_path: Path, side: Side) -> None:
    """A payment that is on its way there would be sent again to the other."""
    async with serving(tmp_path, "a") as keeper:
        await changed(keeper.migrations, 100)
        await keeper.migrations.finish("payments", **BY)
        keeper.in_flight["a"] = {DIGEST: pin(side)}

        objection = await keeper.migrations.hand_over(configured(credential="login"))

        assert ("1 to legacy" in objection) == (side is Side.LEGACY)
        sent = keeper.payments
        assert (sent.weight, sent.guard_pinned, sent.policies[0].pinned) == (100, (), {})
