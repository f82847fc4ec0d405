"""Half of the systems on modern, and what the guard made of it."""

from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, lines
from tests.journeys.fleet import Told, configured, on_modern, received, side_of, state
from tests.journeys.migrated import set_weight
from tests.journeys.process import Instance
from tests.journeys.waiting import until

GOOD = {200, 201}
HALF = 50


async def half_on_modern(directory: Path, bank: Bank, start: Start) -> Instance:
    """Return an instance that has half of the systems' points on modern."""
    configuration = configured(directory, bank)
    instance = await start(configuration)
    await set_weight(directory, configuration, HALF)
    return instance


def was_on_modern(told: list[Told], bank: Bank) -> bool:
    """Return whether all who belong there came to modern with anything."""
    numbers = received(bank)
    wanted = on_modern(HALF).intersection(one.system for one in told)
    came = {one.system for one in told if side_of(numbers[one.number][0], bank) == "modern"}
    return bool(wanted) and came >= wanted


async def went_back(instance: Instance) -> bool:
    """Return whether the guard has taken everybody back to legacy."""
    found = await state(instance)
    return (found["weight"], found["who"]) == (0, "guard")


async def held_one(instance: Instance) -> bool:
    """Return whether the guard holds a system on legacy."""
    return bool((await state(instance))["guard_pinned"])


async def goes_on(told: list[Told]) -> None:
    """Return when every system was served several times more."""
    wanted = len(told) + 20 * len({one.system for one in told})
    await until(lambda: len(told) >= wanted, otherwise="the systems' work does not go on")


def check_told(instance: Instance, directory: Path) -> None:
    """Check that the operator was told, and whether a legacy token is available."""
    assert of_the_guard(directory)
    assert "guard: migration payments" in instance.stderr.read_text()
    assert "a legacy token is available" in instance.stderr.read_text()


def of_the_guard(directory: Path) -> list[Record]:
    """Return the records of what the guard did."""
    return [
        line for line in lines(directory / "requests.jsonl") if line["kind"] == "operation" and line["who"] == "guard"
    ]
