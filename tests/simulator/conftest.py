from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.server import Bank, simulator
from tests.simulator.support import Identity, identity


@pytest.fixture(scope="session")
def who() -> Identity:
    """The identity whose certificate is registered."""
    return identity()


@pytest.fixture
async def bank(who: Identity) -> AsyncIterator[Bank]:
    """A running simulator with all three default clients."""
    async with simulator(
        clock=SystemClock(), entropy=SystemEntropy(), jwt_certificate=who.pem, adfs_certificate=who.pem
    ) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without cookies, proxies or decompression."""
    async with aiohttp.ClientSession(
        auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=60)
    ) as client:
        yield client
