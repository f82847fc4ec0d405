import asyncio
from itertools import pairwise
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.support import TOKEN_PATH, configured

LIFETIME = 5.0
# Renewed after three of five seconds; where mints are slow, as on a busy machine, after half of the life. A mint
# is noted with the next answer.
SECONDS_PER_MINT = 1.5
SLOW_MINT = 1.0
MINTS = 4


async def test_tokens_of_five_seconds_cost_one_mint_in_three_and_no_wait(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Under load, with a token endpoint that takes a second, only requests before the first token wait for one."""
    bank.world.faults.set("lifetime", path=TOKEN_PATH, seconds=LIFETIME)
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=SLOW_MINT)
    instance = await start(configured(tmp_path, bank.url))
    loop = asyncio.get_running_loop()
    took: list[float] = []
    minted: list[float] = []  # the bank's list of requests does not reach back so far under load

    async def call_until_enough() -> None:
        while bank.world.mint_count() < MINTS:
            started = loop.time()
            answer = await get(instance.address, "/payment/helloworld")
            took.append(loop.time() - started)
            assert answer.status == 200
            if bank.world.mint_count() > len(minted):
                minted.append(loop.time())

    async with asyncio.timeout(60):
        await asyncio.gather(*(call_until_enough() for _ in range(4)))

    assert min(later - earlier for earlier, later in pairwise(minted)) >= SECONDS_PER_MINT
    assert len(took) > 50
    assert max(took) < SLOW_MINT * 0.8
