"""The weight is changed while everybody works: no request fails, and within two seconds all are where they belong."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.fleet import (
    Fleet,
    Told,
    check_never_twice,
    configured,
    on_modern,
    received,
    side_of,
    state,
    statuses,
)
from tests.journeys.guard import GOOD
from tests.journeys.migrated import migration
from tests.journeys.proc import starved_seconds
from tests.journeys.process import Instance
from tests.journeys.waiting import until

PROMISED_SECONDS = 2.0
# If one of our processes waited for a CPU for so long while the side changed, it can't keep to the promised times.
STARVED_SECONDS = 0.3
# Of each weight so many answers are looked at that were asked for once all were to be where they belong.
LATER = 200
COMMANDS = (
    (10, ("set", "payments", "10")),
    (50, ("set", "payments", "50")),
    (100, ("set", "payments", "100")),
    (50, ("rollback", "payments")),
    (0, ("rollback", "payments", "--to", "0")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """*began* with the command for *weight*, and was *settled*, by the loop's clock; how long a process *starved*."""

    weight: int
    began: float
    settled: float
    starved: float


async def test_a_change_of_weight_reaches_all_in_time_and_costs_no_request(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Up by steps, down by steps, back by a rollback: counted from when the command began, with both workers busy."""
    configuration = configured(tmp_path, bank)
    instance = await start(configuration)
    changes: list[Change] = []

    async with Fleet(instance.address).at_work() as told:
        await until(lambda: len(told) > LATER, otherwise="nobody works")
        for weight, command in COMMANDS:
            changes.append(await _changed(instance, tmp_path, configuration, weight, command))
            await until(partial(_later, told, changes[-1].settled), otherwise="the systems' work does not go on")

    if max(change.starved for change in changes) < STARVED_SECONDS:
        assert set(statuses(told)) == GOOD
        assert max(change.settled - change.began for change in changes) < PROMISED_SECONDS
    assert {_code(one) for one in told if one.answer.status not in GOOD} <= {"side_unknown"}
    ends = [change.began for change in changes[1:]] + [asyncio.get_running_loop().time()]
    for change, end in zip(changes, ends, strict=True):
        later = [one for one in told if change.settled <= one.started < end and one.answer.status in GOOD]
        assert len(later) >= LATER / 2
        assert _modern(later, bank) == on_modern(change.weight), f"at weight {change.weight}"
    assert {len(sends) for sends in received(bank).values()} == {1}
    check_never_twice(bank)


async def _changed(
    instance: Instance, directory: Path, configuration: Path, weight: int, command: tuple[str, ...]
) -> Change:
    """Run *command*, and return once the instance says that its *weight* is certain."""

    async def is_settled() -> bool:
        now = await state(instance)
        return bool(now["weight"] == weight and not now["unsettled"])

    pids = [instance.pid, *await instance.serving()]
    before, began = list(map(starved_seconds, pids)), asyncio.get_running_loop().time()
    code, said = await migration(directory, configuration, *command, "--reason", "a test")
    assert code == 0, said
    await until(is_settled, otherwise=f"the weight {weight} does not become certain")
    starved = max(after - one for one, after in zip(before, map(starved_seconds, pids), strict=True))
    return Change(weight=weight, began=began, settled=asyncio.get_running_loop().time(), starved=starved)


def _code(one: Told) -> str:
    return str(one.answer.json.get("code"))


def _later(told: list[Told], due: float) -> bool:
    return len(told) > LATER and told[-LATER].started > due


def _modern(told: list[Told], bank: Bank) -> set[str]:
    numbers = received(bank)
    return {one.system for one in told if side_of(numbers[one.number][0], bank) == "modern"}
