"""Three replicas are restarted one after the other with a new configuration, under load, and nobody notices."""

from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import NAMES, Replica, caller_lines, fleet_with_redis
from tests.journeys.books import books, check_chains
from tests.journeys.caller import Request, get
from tests.journeys.conftest import Start

pytestmark = pytest.mark.timeout(600)
# A system that only the new configuration knows.
NEWCOMER = "newcomer"


async def test_a_rolling_restart_with_a_new_configuration_costs_no_request(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Each drains for as long as HAProxy takes to notice; no try fails, though HAProxy sends nothing twice."""
    # Where the listener is on loopback alone it closes at once; load balancers are given 5 seconds anywhere else.
    async with fleet_with_redis(tmp_path, bank, start, listen="0.0.0.0") as fleet:
        await fleet.moves_to(50)
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            for one in fleet.replicas:
                assert await _newcomers_status(one) == 403
                one.configuration.write_text(one.configuration.read_text() + caller_lines(NEWCOMER))
                assert await one.instance.stop() == 0
                await fleet.all_up(*(name for name in NAMES if name != one.name))
                await one.begin()
                await fleet.all_up()
                await fleet.callers.goes_on()
                assert await _newcomers_status(one) == 200
        found = await books(fleet)

        found.check()
        digests = {name: {record["config_digest"] for record in found.of(name)} for name in NAMES}
        assert {name: len(some) for name, some in digests.items()} == dict.fromkeys(NAMES, 2)
        await check_chains(fleet)


async def _newcomers_status(one: Replica) -> int:
    return (await get(("127.0.0.1", one.port), Request().path, {"X-Payproxy-Key": NEWCOMER})).status
