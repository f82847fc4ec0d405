import asyncio
from itertools import pairwise
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.support import TOKEN_PATH, configured

LIFETIME = 5.0
# Renewed after three of five seconds; where mints are slow, as on a busy machine, after half of the life.
SECONDS_PER_MINT = 1.5
SLOW_MINT = 1.0
MINTS = 4


async def test_tokens_of_five_seconds_cost_one_mint_in_three_and_no_wait(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """With four callers and a token endpoint that takes a second, only requests before the first token wait for one."""
    bank.world.faults.set("lifetime", path=TOKEN_PATH, seconds=LIFETIME)
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=SLOW_MINT)
    instance = await start(configured(tmp_path, bank.url))
    loop = asyncio.get_running_loop()
    took: list[float] = []

    async def call_until_enough() -> None:
        while bank.world.mint_count() < MINTS:
            started = loop.time()
            assert (await get(instance.address, "/payment/helloworld")).status == 200
            took.append(loop.time() - started)
            await asyncio.sleep(0.05)  # else the bank's list of requests does not reach back to the first mint

    async with asyncio.timeout(60):
        await asyncio.gather(*(call_until_enough() for _ in range(4)))

    minted = [one.when for one in bank.world.seen(TOKEN_PATH)]
    assert len(minted) >= MINTS
    assert min(later - earlier for earlier, later in pairwise(minted)) >= SECONDS_PER_MINT
    assert len(took) > 50
    assert max(took) < SLOW_MINT * 0.8
