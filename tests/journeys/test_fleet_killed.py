"""One of three replicas is killed under load, and comes back."""

import asyncio
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import fleet_with_redis
from tests.journeys.books import books, check_chains
from tests.journeys.conftest import Start
from tests.journeys.counting import Outcome


@pytest.mark.timeout(300)
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
            began = loop.time()
            await killed.instance.kill_all()
            await fleet.all_up("a", "c")
            noticed = loop.time()
            await fleet.callers.goes_on()
            await killed.begin()
            await fleet.all_up()
            await fleet.callers.goes_on(300)
        found = await books(fleet)

        found.check(allowed=frozenset({Outcome.UNKNOWN, Outcome.NO_SERVER}))
        failed = fleet.callers.of(Outcome.UNKNOWN, Outcome.NO_SERVER)
        assert [str(one) for one in failed if one.started > noticed or one.ended < began] == []
        sent = [record for one in failed for record in found.records.get(one.number, ())]
        assert {record["instance"] for record in sent} <= {killed.name}
        assert {record["sent_upstream"] for record in sent} <= {"unknown", "yes"}
        await check_chains(fleet, killed=frozenset({killed.name}))
