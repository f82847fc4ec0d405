"""The guard's minute, which no clock of a test can shorten in a real process."""

from pathlib import Path

from proxy.migration.side import point
from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.fleet import MODERN, SYSTEMS, Fleet, check_never_twice, configured, received, state, statuses
from tests.journeys.guard import GOOD, HALF, check_told, goes_on, went_back
from tests.journeys.migrated import set_weight
from tests.journeys.waiting import until

MINUTE_SECONDS = 60.0


async def test_a_minute_without_a_modern_token_goes_back(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Also where the share of failures is no reason; all the while legacy serves, and nobody waits."""
    first, second, *_, last = sorted(SYSTEMS, key=lambda system: point("payments", system))
    bank.world.faults.set("down", path=MODERN)
    configuration = configured(tmp_path, bank, migration="max_failure_ratio = 1.0")
    instance = await start(configuration)
    await set_weight(tmp_path, configuration, HALF)

    async with Fleet(instance.address, names=(first, second, last)).at_work() as told:
        await until(lambda: went_back(instance), otherwise="the guard did not go back", within=MINUTE_SECONDS + 45.0)
        await goes_on(told)

    assert set(statuses(told)) == GOOD
    assert "no modern token could be had for" in (await state(instance))["reason"]
    assert {len(sends) for sends in received(bank).values()} == {1}
    check_told(instance, tmp_path)
    check_never_twice(bank)
