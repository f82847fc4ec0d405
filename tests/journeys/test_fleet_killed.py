"""One of three replicas is killed under load, and comes back."""

from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.balanced import fleet_with_redis
from tests.journeys.books import books, check_chains
from tests.journeys.conftest import Start
from tests.journeys.counting import Outcome


async def test_a_killed_replica_costs_what_it_had_in_flight_and_nothing_else(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """SIGKILL to keeper and workers: its callers get a 502 or no server, and pay elsewhere with the same key."""
    async with fleet_with_redis(tmp_path, bank, start) as fleet:
        await fleet.moves_to(50)
        killed = fleet.replicas[1]
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            await killed.instance.kill_all()
            await fleet.all_up("a", "c")
            await fleet.callers.goes_on()
            await killed.begin()
            await fleet.all_up()
            await fleet.callers.goes_on(300)
        found = await books(fleet)

        found.check(allowed=frozenset({Outcome.UNKNOWN, Outcome.NO_SERVER}))
        await check_chains(fleet, killed=frozenset({"b"}))
