"""The books after a load over replicas: what callers were told, what the bank received, what the database has."""

import asyncio
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from proxy.simulator.received import Received
from tests.journeys.balanced import ReplicaFleet
from tests.journeys.counting import Outcome, Try
from tests.journeys.fleet import NUMBER, received, side_of
from tests.journeys.logs import verified
from tests.journeys.waiting import until
from tests.records.postgres import fetch

Record = dict[str, Any]
# Why a request is refused while the Redis counts as away; which replica says when that is so.
PINS_UNREADABLE = "migration payments: its retry pins can't be read"
NOT_AGREED = "no modern token, and the fallback to legacy was not agreed on"
REDIS_TOO_LATE = "migrations: the Redis of [state]: it did not answer in time"


@dataclass(frozen=True, slots=True)
class Books:
    """The bank's receipts and the database's exchanges, each by the number of the try."""

    fleet: ReplicaFleet
    sends: dict[str, list[Received]]
    records: dict[str, list[Record]]

    def check(self, *, allowed: frozenset[Outcome] = frozenset()) -> None:
        """Check that no try failed, other than as *allowed*, and that nothing is doubled, on both sides, or missing.

        What the bank has refused with 401, executing nothing, may be there a second time.
        """
        self._check_callers(allowed)
        self._check_sends()
        self._check_sides()
        self._check_records()

    def of(self, replica: str) -> list[Record]:
        """Return the exchanges of *replica*."""
        return [one for found in self.records.values() for one in found if one["instance"] == replica]

    def _check_callers(self, allowed: frozenset[Outcome]) -> None:
        callers = self.fleet.callers
        failed = [one for one in callers.tries if one.outcome not in {Outcome.SERVED, *allowed}]
        failed = [one for one in failed if not self._was_redis_too_late(one)]
        shown = "\n".join(
            f"{one} {[record['cause'] for record in self.records.get(one.number, ())]}" for one in failed[:10]
        )
        assert not failed, f"{len(failed)} of {len(callers.tries)} tries failed:\n{shown}"
        assert callers.unserved == []
        assert len(callers.of(Outcome.SERVED)) > 100, "there was hardly any load"

    def _was_redis_too_late(self, one: Try) -> bool:
        """Return whether it was refused while its replica said that the Redis was late, as on a busy machine.

        After half a second without an answer the Redis counts as away, whether or not anything else was slow.
        """
        refused = self.records.get(one.number, ()) if one.outcome is Outcome.REFUSED else ()
        late = {each.name for each in self.fleet.replicas if REDIS_TOO_LATE in each.said}
        causes = {record["cause"] for record in refused if record["instance"] in late}
        return bool(refused) and causes <= {PINS_UNREADABLE, NOT_AGREED} and len(causes) == 1

    def _check_sends(self) -> None:
        log = self.fleet.bank.world.log
        assert log.total == len(log.requests), "the bank's books have forgotten something"
        times = Counter({number: sum(one.status != 401 for one in sends) for number, sends in self.sends.items()})
        assert {number: count for number, count in times.items() if count > 1} == {}, "sent twice"
        for one in self.fleet.callers.tries:
            if one.outcome is Outcome.SERVED:
                assert times[one.number] == 1, one
            elif one.outcome in {Outcome.REFUSED, Outcome.NO_SERVER}:
                assert times[one.number] == 0, f"the bank has it: {one}"

    def _check_sides(self) -> None:
        sides: dict[str, set[str]] = defaultdict(set)
        for sends in self.sends.values():
            for one in sends:
                if key := one.header("Idempotency-Key"):
                    sides[key].add(side_of(one, self.fleet.bank))
        assert {key: found for key, found in sides.items() if len(found) > 1} == {}, "paid on both sides"
        paid = {one.key for one in self.fleet.callers.of(Outcome.SERVED) if one.key}
        accepted = self.fleet.bank.world.accepted
        assert {key: accepted[key] for key in paid if accepted[key] != 1} == {}, "not executed once"

    def _check_records(self) -> None:
        ids = {
            one.number: one.answer.request_id
            for one in self.fleet.callers.of(Outcome.SERVED, Outcome.REFUSED)
            if one.answer
        }
        for number in {*self.sends, *ids}:
            found = self.records.get(number, [])
            assert len(found) == 1, f"{number} has {len(found)} records"
            [record] = found
            assert record["id"] == ids.get(number, record["id"])
            assert len(record["attempts"]) == len(self.sends.get(number, ())), record
            assert record["sent_upstream"] in ({"yes", "unknown"} if number in self.sends else {"no", "unknown"}), (
                record
            )


async def books(fleet: ReplicaFleet) -> Books:
    """Wait until the database has all that callers and bank know of, stop the replicas in order, and return all."""
    known = {one.number for one in fleet.callers.of(Outcome.SERVED, Outcome.REFUSED)} | {*received(fleet.bank)} - {""}

    async def missing() -> set[str]:
        return known - {*await _exchanges(fleet)}

    async def complete() -> bool:
        return not await missing()

    try:
        await until(complete, otherwise="records are missing", within=60.0)
    except AssertionError:
        lacking, there = sorted(await missing()), [found for [found, *_] in (await _exchanges(fleet)).values()]
        raise AssertionError(f"no record of {len(lacking)} tries: {lacking[:10]}; one is {there[:1]}") from None
    assert await asyncio.gather(*(one.instance.stop() for one in fleet.replicas)) == [0] * len(fleet.replicas)
    sends = {number: found for number, found in received(fleet.bank).items() if number}
    return Books(fleet, sends, await _exchanges(fleet))


async def check_chains(fleet: ReplicaFleet, *, killed: frozenset[str] = frozenset()) -> None:
    """Check that each stopped replica finds its log whole, in all copies, and has numbered nothing twice.

    A replica that was *killed* has a start without a clean stop before it, which is said; nothing else may be.
    """
    rows = await fetch(fleet.postgres.url(), "SELECT instance, sequence, id::text FROM payproxy.records ORDER BY 1, 2")
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        numbers[row["instance"]].append(row["sequence"])
    for name, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), f"the numbers of {name} have gaps, or one is there twice"
    assert {*numbers} == {one.name for one in fleet.replicas}
    results = await asyncio.gather(
        *(verified(one.directory, "--config", str(one.configuration)) for one in fleet.replicas)
    )
    for one, (code, value) in zip(fleet.replicas, results, strict=True):
        flaws = [flaw for copy in value["copies"] for flaw in copy["flaws"]]
        expected = [flaw for flaw in flaws if flaw["fault"] == "begins_late"]
        expected += [flaw for flaw in flaws if flaw["fault"] == "unclean" and flaw["instance"] in killed]
        assert (code, [flaw for flaw in flaws if flaw not in expected]) == (0, []), one.name


async def _exchanges(fleet: ReplicaFleet) -> dict[str, list[Record]]:
    rows = await fetch(fleet.postgres.url(), "SELECT record FROM payproxy.records WHERE kind = 'exchange'")
    found: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        record = json.loads(row["record"])
        found[record["index"].get(NUMBER.lower(), "")].append(record)  # HAProxy writes names of headers in lower case
    return found
