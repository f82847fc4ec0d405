"""What the bank always answers with 401, beside others: few mints, nobody waits, and a revocation heals at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.simulator.server import Bank
from tests.journeys.caller import Request, ask, get
from tests.journeys.conftest import Start
from tests.journeys.process import Instance
from tests.journeys.support import TOKEN_PATH, configured
from tests.journeys.test_shared_tokens import HELLO, have_one, three
from tests.journeys.waiting import until
from tests.support.redis import redis_server

SYSTEM = SystemClock()
FORBIDDEN = Request(path="/payment/v2/not-entitled")
# On a path that serves others: the caller's own token header, or its merchant, is what the bank refuses.
UNKNOWN = Request(path=HELLO, headers={"merchant-id": "unknown"})
# Of a request that is refused with each token: a mint at once, then after 2 s, 4 s, 8 s and so on.
FIRST_WAIT = 2.0
# If a busy machine serves nobody for a second, that looks as a revocation does: so often at once.
LAST_RESORTS = 3


def most_mints(seconds: float) -> int:
    """Return how many mints one path may cause in *seconds*."""
    mints, wait = 1, FIRST_WAIT
    while seconds >= 0:
        mints, seconds, wait = mints + 1, seconds - wait, wait * 2
    return mints + LAST_RESORTS


def forbid(bank: Bank, refused: Request) -> None:
    """Have the bank answer 401 to *refused*, whatever its token."""
    bank.world.faults.set("status", path=refused.path, having=refused.headers, status=401)


@asynccontextmanager
async def traffic(instances: list[Instance], refused: Request, statuses: set[tuple[bool, int]]) -> AsyncIterator[None]:
    """Send *refused* 20 times a second and another request 50 times, over all *instances*, for the block.

    *statuses* gets what came, with whether it is the answer to *refused*.
    """

    async def send(request: Request, pause: float) -> None:
        number = 0
        while True:
            number += 1
            answer = await ask(instances[number % len(instances)].address, request)
            statuses.add((request is refused, answer.status))
            await asyncio.sleep(pause)

    tasks = [asyncio.create_task(send(*what)) for what in ((refused, 0.05), (Request(path=HELLO), 0.02))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_others_are_served_while_a_refused_path_has_a_token_minted(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """The token that one path refuses is theirs until the next one is there: with either worker, nobody waits."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    for _ in range(10):
        assert (await get(instance.address, HELLO)).status == 200
    forbid(bank, FORBIDDEN)
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=8.0)
    refused = asyncio.create_task(ask(instance.address, FORBIDDEN))
    await until(lambda: len(bank.world.seen(TOKEN_PATH)) == 2, otherwise="no token was minted for the refusal")

    for _ in range(20):
        assert (await get(instance.address, HELLO)).status == 200
        assert not refused.done()
    refused.cancel()


@pytest.mark.parametrize("refused", [FORBIDDEN, UNKNOWN], ids=["a path", "a header"])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
async def test_what_is_always_refused_costs_few_mints(
    tmp_path: Path, bank: Bank, start: Start, workers: int, refused: Request
) -> None:
    """Ten seconds at 20 requests a second; then all tokens are revoked: one more mint, and nobody gets that 401."""
    instance = await start(configured(tmp_path, bank.url, server=f"workers = {workers}"))
    forbid(bank, refused)
    statuses: set[tuple[bool, int]] = set()
    started = SYSTEM.monotonic()
    async with traffic([instance], refused, statuses):
        await asyncio.sleep(10)
        mints, seconds = bank.world.mint_count(), SYSTEM.monotonic() - started
        assert mints <= most_mints(seconds)

        bank.world.tokens.revoke()
        served = await asyncio.gather(*(get(instance.address, HELLO) for _ in range(20)))
        assert {answer.status for answer in served} == {200}
        assert bank.world.mint_count() <= mints + 2  # one for what is refused may fall into that moment

    assert statuses == {(True, 401), (False, 200)}


@pytest.mark.thorough
async def test_replicas_that_share_tokens_are_as_frugal(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Each learns for itself that the path is refused; the token stays the same for all between these mints."""
    async with redis_server(tmp_path) as redis:
        instances = await three(tmp_path, bank, redis, start)
        await have_one(instances)
        forbid(bank, FORBIDDEN)
        statuses: set[tuple[bool, int]] = set()
        started = SYSTEM.monotonic()
        async with traffic(instances, FORBIDDEN, statuses):
            await asyncio.sleep(10)
            mints, seconds = bank.world.mint_count(), SYSTEM.monotonic() - started
            assert mints <= len(instances) * most_mints(seconds)

            bank.world.tokens.revoke()
            served = await asyncio.gather(*(get(one.address, HELLO) for one in instances for _ in range(10)))
            assert {answer.status for answer in served} == {200}

        assert statuses == {(True, 401), (False, 200)}
