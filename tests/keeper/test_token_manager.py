"""The keeper's tokens, as workers ask for them: a worker parses untrusted bytes, and may be in a stranger's hands."""

import asyncio
from pathlib import Path

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.server import simulator
from tests.journeys.support import TOKEN_PATH
from tests.keeper.sharing import ROUTE, each_has_one, made, running
from tests.upstream.support import eventually


async def test_a_route_that_no_rule_has_costs_no_mint_and_no_memory(tmp_path: Path) -> None:
    """Each route has its own rate limit: by made-up names a worker would have the bank asked without end."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        one = made(tmp_path / "a", bank, "")
        async with running(one):
            await each_has_one(one)
            [update] = one.manager.messages()
            told = set()
            for number in range(30):
                name, mint = f"made-up-{number}", one.token.mint
                told.add(await one.manager.replace(update.key, mint, route=name, source=name))
                one.manager.replayed(update.key, mint, route=name, source=name, refused_again=True)

            assert told == {"failed"}
            assert bank.world.mint_count() == 1
            assert not one.manager._slots[update.key].replacement._limits
            assert await one.refuse(one.token) == "replaced"


async def test_a_source_is_bounded_whatever_a_worker_says(tmp_path: Path) -> None:
    """A thousand are remembered."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        one = made(tmp_path / "a", bank, "")
        async with running(one):
            await each_has_one(one)
            [update] = one.manager.messages()
            for number in range(1100):
                source = f"{number} " + "x" * 100_000
                one.manager.replayed(update.key, one.token.mint, route=ROUTE, source=source, refused_again=True)
            kept = one.manager._slots[update.key].replacement._suspects._sources

    assert len(kept) == 1000
    assert max(map(len, kept)) == 200


async def test_a_refused_token_does_not_look_like_one_that_was_never_tried(tmp_path: Path) -> None:
    """While its successor is minted: a young instance would be taken out of service, and all replicas at once."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        one = made(tmp_path / "a", bank, "")
        async with running(one):
            await each_has_one(one)
            bank.world.faults.set("slow", path=TOKEN_PATH, seconds=30.0)
            refusing = asyncio.create_task(one.refuse(one.token))
            await eventually(lambda: one.manager.statuses()[0].fingerprint == "")
            [status] = one.manager.statuses()
            refusing.cancel()

    assert status.tried
    assert not status.usable
