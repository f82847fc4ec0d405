"""The weight is changed while everybody works: no request fails, and within two seconds all are where they belong."""

import asyncio
from functools import partial
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.fleet import Fleet, Told, check_never_twice, configured, on_modern, received, side_of, statuses
from tests.journeys.guard import GOOD
from tests.journeys.migrated import migration
from tests.journeys.waiting import until

PROMISED_SECONDS = 2.0
# Of each weight so many answers are looked at that were asked for after the promised time.
LATER = 200
COMMANDS = (
    (10, ("set", "payments", "10")),
    (50, ("set", "payments", "50")),
    (100, ("set", "payments", "100")),
    (50, ("rollback", "payments")),
    (0, ("rollback", "payments", "--to", "0")),
)


async def test_a_change_of_weight_reaches_all_in_time_and_costs_no_request(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Up by steps, down by steps, back by a rollback: counted from when the command began, with both workers busy."""
    configuration = configured(tmp_path, bank)
    instance = await start(configuration)
    loop = asyncio.get_running_loop()
    changes: list[tuple[float, int]] = []

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: len(told) > LATER, otherwise="nobody works")
        for weight, command in COMMANDS:
            changes.append((loop.time(), weight))
            code, said = await migration(tmp_path, configuration, *command, "--reason", "a test")
            assert code == 0, said
            due = changes[-1][0] + PROMISED_SECONDS
            await until(partial(_later, told, due), otherwise="the systems' work does not go on")

    assert set(statuses(told)) == GOOD
    ends = [started for started, _ in changes[1:]] + [loop.time()]
    for (started, weight), end in zip(changes, ends, strict=True):
        settled = [one for one in told if started + PROMISED_SECONDS <= one.started < end]
        assert len(settled) >= LATER / 2
        assert _modern(settled, bank) == on_modern(weight), f"at weight {weight}"
    assert {len(sends) for sends in received(bank).values()} == {1}
    check_never_twice(bank)


def _later(told: list[Told], due: float) -> bool:
    return len(told) > LATER and told[-LATER].started > due


def _modern(told: list[Told], bank: Bank) -> set[str]:
    numbers = received(bank)
    return {one.system for one in told if side_of(numbers[one.number][0], bank) == "modern"}
