"""A caller that is refused by ever new sources, whatever the token, costs few mints and disturbs nobody."""

import asyncio

from tests.support.clock import settle
from tests.tokens.support_slot import World, running
from tests.tokens.test_slot_doubt import fresh_refused, serve


async def err(world: World) -> None:
    """Have three sources of the caller x refused with fresh tokens too."""
    for path in ("a", "b", "c"):
        serve(world, later=-1)
        await fresh_refused(world, f"pay x GET /{path}")


async def test_ever_new_refused_paths_cost_few_mints() -> None:
    """Each path is new, on any route; that others are served shows that it is not the token."""
    async with running(3600.0) as world:
        await err(world)
        for number in range(50):
            waiter = asyncio.create_task(world.replace(4, f"route-{number} x GET /new-{number}"))
            await settle()
            serve(world)
            assert await waiter == "kept"

        assert (world.mint, world.bank.mints) == (4, 4)


async def test_such_a_caller_withdraws_no_token() -> None:
    """Others go on with it while the next one is minted, although a second path was refused; others may withdraw it."""
    async with running(3600.0) as world:
        await err(world)
        serve(world, later=-1)
        world.bank.gate.clear()
        waiters = [asyncio.create_task(world.replace(4, f"pay x GET /{path}")) for path in ("d", "e")]
        await settle()
        await world.clock.advance(1)
        waiters.append(asyncio.create_task(world.replace(4, "pay x GET /f")))
        await settle()
        assert (world.mint, world.bank.under_way) == (4, 1)

        waiters.append(asyncio.create_task(world.replace(4, "pay erp GET /a")))
        await settle()
        assert world.mint is None
        world.bank.gate.set()
        assert set(await asyncio.gather(*waiters)) == {"replaced"}
        assert world.bank.mints == 5


async def test_a_void_token_is_replaced_for_such_a_caller_too() -> None:
    """A second later, if it is alone, at once if another one is refused; its 401 is not passed on."""
    async with running(3600.0) as world:
        await err(world)
        alone = asyncio.create_task(world.replace(4, "pay x GET /d"))
        await world.clock.advance(1)
        assert await alone == "replaced"
        assert world.mint == 5

        beside = asyncio.create_task(world.replace(5, "pay x GET /e"))
        await settle()
        assert await world.replace(5, "pay erp GET /a") == "replaced"
        assert await beside == "replaced"
        assert (world.mint, world.bank.mints) == (6, 6)


async def test_with_a_fallback_such_a_caller_has_it_withdrawn_at_once() -> None:
    """As any other: each request that is still sent with it counts against the migration, and two roll it back."""
    async with running(3600.0) as world:
        await err(world)
        serve(world, later=-1)
        world.bank.gate.clear()
        waiter = asyncio.create_task(world.replace(4, "pay x GET /d", behind=True))
        await settle()

        assert (world.mint, world.bank.under_way) == (None, 1)
        world.bank.gate.set()
        assert await waiter == "replaced"
        assert world.bank.mints == 5


async def test_with_a_fallback_it_is_withdrawn_although_one_without_came_first() -> None:
    """While that one waits, or when its mint has begun; but a path that is refused with any token shows nothing."""
    for seconds, under_way in ((0, 0), (1, 1)):
        async with running(3600.0) as world:
            await err(world)
            serve(world, later=-1)
            world.bank.gate.clear()
            waiters = [asyncio.create_task(world.replace(4, "pay x GET /d"))]
            await world.clock.advance(seconds)
            waiters.append(asyncio.create_task(world.replace(4, "pay x GET /c", behind=True)))
            await settle()
            assert (world.mint, world.bank.under_way) == (4, under_way)

            waiters.append(asyncio.create_task(world.replace(4, "pay x GET /e", behind=True)))
            await settle()
            assert (world.mint, world.bank.under_way) == (None, 1)
            world.bank.gate.set()
            assert set(await asyncio.gather(*waiters)) == {"replaced"}
