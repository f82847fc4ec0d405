"""A token that one request is refused with stays in service for the others until its successor is there."""

import asyncio

from tests.support.clock import settle
from tests.tokens.support_slot import OUTAGE, World, running


async def fresh_refused(world: World, source: str) -> None:
    """Have *source* refused with the current token, and with its successor too."""
    before = world.mint or 0
    assert await world.replace(before, source, route="pay") == "replaced"
    world.slot.refused_fresh(before + 1, route="pay", source=source)


def serve(world: World, *, later: float = 0.0) -> None:
    """Have the bank accept the current token in a request sent *later* seconds from now."""
    world.slot.replacement.accepted(world.mint or 0, sent=world.clock.monotonic() + later)


async def test_a_token_that_worked_stays_until_the_next_one_is_there() -> None:
    """Nobody else waits for the mint, and the workers report whether it still works."""
    async with running(3600.0) as world:
        serve(world, later=-1)
        world.bank.gate.clear()
        waiter = asyncio.create_task(world.replace(1, "a"))
        await settle()

        assert (world.mint, world.bank.under_way) == (1, 1)
        assert world.asked == [(1, world.clock.monotonic())]
        world.bank.gate.set()
        assert await waiter == "replaced"
        assert world.published == [(1, None), (2, None)]


async def test_a_request_that_went_on_with_a_fallback_withdraws_it() -> None:
    """Those that follow have the fallback too: refused with it once more, they would roll the migration back."""
    async with running(3600.0) as world:
        serve(world, later=-1)
        world.bank.gate.clear()
        waiter = asyncio.create_task(world.replace(1, "a", behind=True))
        await settle()

        assert (world.mint, world.bank.under_way) == (None, 1)
        world.bank.gate.set()
        assert await waiter == "replaced"


async def test_one_that_did_not_came_first() -> None:
    """The token is withdrawn as soon as the first request with a fallback was refused too, but not for a suspect."""
    async with running(3600.0) as world:
        serve(world, later=-1)
        await fresh_refused(world, "c")
        serve(world, later=-1)
        world.bank.gate.clear()
        waiters = [asyncio.create_task(world.replace(2, "a"))]
        await settle()
        waiters.append(asyncio.create_task(world.replace(2, "c", behind=True)))
        await settle()
        assert world.mint == 2

        waiters.append(asyncio.create_task(world.replace(2, "b", behind=True)))
        await settle()
        assert world.mint is None
        world.bank.gate.set()
        assert set(await asyncio.gather(*waiters)) == {"replaced"}


async def test_a_second_source_withdraws_it() -> None:
    """It is void for all: they wait for the one mint instead of being refused."""
    async with running(3600.0) as world:
        serve(world, later=-1)
        world.bank.gate.clear()
        waiters = [asyncio.create_task(world.replace(1, source)) for source in ("a", "a", "b", "c")]
        await settle()

        assert world.mint is None
        world.bank.gate.set()
        assert set(await asyncio.gather(*waiters)) == {"replaced"}
        assert world.bank.mints == 2


async def test_a_later_refusal_of_it_is_no_refusal_of_its_successor() -> None:
    """Else the status would say that there is no newer token yet."""
    async with running(3600.0) as world:
        serve(world, later=-1)
        world.bank.gate.clear()
        refused = world.clock.monotonic()
        first = asyncio.create_task(world.replace(1, "a"))
        await settle()
        await world.clock.advance(0.5)
        second = asyncio.create_task(world.replace(1, "b"))
        await settle()
        world.bank.gate.set()
        await asyncio.gather(first, second)

        assert world.slot.current is not None
        assert world.slot.refused_at == refused <= world.slot.current.minted


async def test_a_second_source_does_not_if_others_are_served() -> None:
    """By a request that was sent after the first refusal; one that was sent before proves nothing."""
    async with running(3600.0) as world:
        serve(world, later=-1)
        world.bank.gate.clear()
        waiters = [asyncio.create_task(world.replace(1, "a"))]
        await settle()
        serve(world, later=0)
        waiters.append(asyncio.create_task(world.replace(1, "b")))
        await settle()

        assert world.mint == 1
        world.bank.gate.set()
        assert await asyncio.gather(*waiters) == ["replaced", "replaced"]


async def test_after_a_failed_mint_it_stays_only_if_it_works() -> None:
    """Others need not suffer for one path while the token endpoint is down; a void token is not sent again."""
    for works in (True, False):
        async with running(3600.0, OUTAGE) as world:
            serve(world, later=-1)
            world.bank.gate.clear()
            waiter = asyncio.create_task(world.replace(1, "a"))
            await settle()
            if works:
                serve(world)
            world.bank.gate.set()
            await world.clock.advance(0 if works else 1)

            assert await waiter == "failed"
            assert world.mint == (1 if works else None)
            assert await world.replace(1, "a") == "failed"
            assert world.bank.mints == 2


async def test_a_mint_that_fails_at_once_leaves_a_second_to_see_whether_it_works() -> None:
    """The bank takes longer to accept a payment than a token endpoint that is down to say so."""
    async with running(3600.0, OUTAGE) as world:
        serve(world, later=-1)
        waiter = asyncio.create_task(world.replace(1, "a"))
        await world.clock.advance(0.9)
        assert world.bank.mints == 2
        serve(world, later=-0.8)

        assert await waiter == "failed"
        assert world.mint == 1


async def test_a_suspect_costs_no_mint_while_others_are_served() -> None:
    """Its 401 is passed on once another request, sent after it was refused, is accepted."""
    async with running(3600.0) as world:
        await fresh_refused(world, "a")
        serve(world, later=-1)
        waiter = asyncio.create_task(world.replace(2, "a", route="pay"))
        await settle()
        serve(world, later=-0.001)
        await settle()
        assert not waiter.done()
        assert world.asked == [(2, world.clock.monotonic())] * 2  # that answer came too early: asked once more
        serve(world)

        assert await waiter == "kept"
        assert (world.mint, world.bank.mints) == (2, 2)


async def test_a_suspect_has_a_void_token_replaced_after_a_second() -> None:
    """Nobody is served with it: all that wait share the mint."""
    async with running(3600.0) as world:
        await fresh_refused(world, "a")
        serve(world, later=-1)
        waiters = [asyncio.create_task(world.replace(2, "a", route="pay")) for _ in range(100)]
        await world.clock.advance(0.99)
        assert world.bank.mints == 2
        await world.clock.advance(0.01)

        assert set(await asyncio.gather(*waiters)) == {"replaced"}
        assert world.bank.mints == 3
        assert len(world.asked) == 2  # for all that waited, and for others when the mint began


async def test_another_source_has_a_void_token_replaced_at_once() -> None:
    """And what waits for a sign joins it."""
    async with running(3600.0) as world:
        await fresh_refused(world, "a")
        serve(world, later=-1)
        waiter = asyncio.create_task(world.replace(2, "a", route="pay"))
        await settle()

        assert await world.replace(2, "b", route="pay") == "replaced"
        assert await waiter == "replaced"
        assert (world.mint, world.bank.mints) == (3, 3)


async def test_a_suspect_of_a_token_that_nobody_was_served_with_waits_for_its_time() -> None:
    """There is no sign to wait for."""
    async with running(3600.0) as world:
        await fresh_refused(world, "a")
        assert await world.replace(2, "a", route="pay") == "kept"
        await world.clock.advance(2)

        assert await world.replace(2, "a", route="pay") == "replaced"


async def test_refusals_without_a_second_send_cost_few_mints() -> None:
    """As of a body too large to hold, or of an inquiry: each comes with the token that was minted for the last one."""
    async with running(3600.0) as world:
        for _ in range(100):
            await world.replace(world.mint or 0, "a", route="pay")
            await world.clock.advance(6)

        assert world.bank.mints <= 12


async def test_a_token_revoked_twice_costs_a_source_without_second_sends_no_wait() -> None:
    """What was minted for it longer ago than a minute has been in use."""
    async with running(3600.0) as world:
        for mint in (1, 2):
            assert await world.replace(mint, "a", route="pay") == "replaced"
            await world.clock.advance(61)

        assert world.bank.mints == 3


async def test_many_in_flight_make_a_source_suspect_once() -> None:
    """The bank refuses what is in flight, and its second sends: one mint, so 2 s as for one request, not 15 minutes."""
    async with running(3600.0) as world:
        waiters = [asyncio.create_task(world.replace(1, "a", route="pay")) for _ in range(50)]
        assert set(await asyncio.gather(*waiters)) == {"replaced"}
        for _ in waiters:
            world.slot.refused_fresh(2, route="pay", source="a")
        await world.clock.advance(2)

        assert await world.replace(2, "a", route="pay") == "replaced"


async def test_a_route_without_mints_heals_by_the_last_resort() -> None:
    """Its budget was used up by a hundred paths, then the token is revoked."""
    async with running(3600.0) as world:
        for number in range(20):
            await fresh_refused(world, f"path-{number}")
        serve(world, later=-1)
        waiter = asyncio.create_task(world.replace(21, "good", route="pay"))
        await world.clock.advance(1)

        assert await waiter == "replaced"


async def test_the_last_resort_is_limited() -> None:
    """Where others are served less than once a second, one path still costs few mints."""
    async with running(3600.0) as world:
        await fresh_refused(world, "a")
        for _ in range(600):
            serve(world, later=-1)
            mint = world.mint or 0
            waiter = asyncio.create_task(world.replace(mint, "a", route="pay"))
            await world.clock.advance(1)
            if await waiter == "replaced":
                world.slot.refused_fresh(mint + 1, route="pay", source="a")

        assert world.bank.mints <= 2 + 3 + 600 / 60 + 8


async def test_what_an_operator_changes_clears_the_suspects() -> None:
    """An entitlement was granted, and `payproxy token` has a new token minted."""
    async with running(3600.0) as world:
        await fresh_refused(world, "a")
        world.slot.retry_now()

        assert await world.replace(2, "a", route="pay") == "replaced"
