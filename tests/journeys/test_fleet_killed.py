"""One of three replicas is killed under load, and comes back."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import Replica, ReplicaFleet, fleet_with_redis
from tests.journeys.books import books, check_chains
from tests.journeys.conftest import Start
from tests.journeys.counting import Outcome
from tests.journeys.waiting import until

# How long the bank takes for a payment while the replica is killed, so that some are in flight there.
SLOW_SECONDS = 1.0


@pytest.mark.timeout(600)
async def test_a_killed_replica_costs_what_it_had_in_flight_and_nothing_else(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """SIGKILL to keeper and workers: its callers get a 502 or no server, and pay elsewhere with the same key."""
    loop = asyncio.get_running_loop()
    async with fleet_with_redis(tmp_path, bank, start) as fleet:
        await fleet.moves_to(50)
        killed = fleet.replicas[1]
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            bank.world.faults.set("slow", path="/payment/v2", method="POST", seconds=SLOW_SECONDS)
            await until(partial(_has_payments, fleet, killed), otherwise="it has nothing in flight")
            began = loop.time()
            await killed.instance.kill_all()
            await fleet.all_up("a", "c")
            noticed = loop.time()
            bank.world.faults.clear()
            await fleet.callers.goes_on()
            await killed.begin()
            await fleet.all_up()
            await fleet.callers.goes_on(300)
        found = await books(fleet)

        found.check(allowed=frozenset({Outcome.UNKNOWN, Outcome.NO_SERVER}))
        failed = fleet.callers.of(Outcome.UNKNOWN, Outcome.NO_SERVER)
        assert [str(one) for one in failed if one.started > noticed or one.ended < began] == []
        sent = [record for one in failed for record in found.records.get(one.number, ())]
        assert {record["instance"] for record in sent} == {killed.name}
        assert "unknown" in {record["sent_upstream"] for record in sent} <= {"unknown", "yes"}
        assert any(one.key for one in failed if one.number in found.sends), "no payment was in flight"
        await check_chains(fleet, killed=frozenset({killed.name}))


async def _has_payments(fleet: ReplicaFleet, one: Replica) -> bool:
    """Return whether at least two requests are in flight at the replica: one may be a GET that is about to end."""
    return await fleet.haproxy.in_flight(one.name) >= 2
