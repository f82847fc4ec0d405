"""The PostgreSQL that three replicas have as their log's database is killed under load, and comes back."""

import asyncio
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import fleet_with_redis
from tests.journeys.books import books, check_chains
from tests.journeys.conftest import Start

pytestmark = pytest.mark.timeout(600)
FAILS = "request log: database takes no records"
RECOVERS = "request log: database takes records again"


async def test_a_database_that_is_killed_costs_no_request_and_no_record(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Callers don't notice; what was kept meanwhile arrives once, in order, from all three."""
    async with fleet_with_redis(tmp_path, bank, start) as fleet:
        await fleet.moves_to(50)
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            fleet.postgres.kill()
            for one in fleet.replicas:
                await one.says(FAILS)
            await fleet.callers.goes_on(300)
            await asyncio.to_thread(fleet.postgres.start)
            for one in fleet.replicas:
                await one.says(RECOVERS)
            await fleet.callers.goes_on()
        found = await books(fleet)

        found.check()
        await check_chains(fleet)
