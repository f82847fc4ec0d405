"""The simulator in the test's process, and a starter of instances that ends what it started."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.server import Bank, simulator
from tests.journeys.process import Instance

Start = Callable[..., Awaitable[Instance]]
_NOTHING: Mapping[str, str] = {}


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    """Run the simulator in the test's process."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as running:
        yield running


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Return a function that starts `payproxy serve` with a configuration, and waits until it is ready."""
    instances: list[Instance] = []

    async def started(
        configuration: Path, *, env: Mapping[str, str] = _NOTHING, ready: bool = True, python: str = sys.executable
    ) -> Instance:
        instance = await Instance.run(
            tmp_path, "-m", "proxy", "serve", "--config", str(configuration), env=env, python=python
        )
        instances.append(instance)
        await instance.started(ready=ready)
        return instance

    yield started
    for instance in instances:
        await instance.end()
