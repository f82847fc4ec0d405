"""One slot's life, under a clock turned by hand (bad-inputs 109, 115, 124)."""

import asyncio

import pytest

from proxy.errors import TokenRefused
from proxy.events import MintFailed, TokenMinted
from proxy.tokens.token import Freshness, fingerprint
from tests.support.clock import settle
from tests.tokens.support import KEY
from tests.tokens.support_slot import ORIGINS, OUTAGE, REFUSAL, World, running


async def test_it_mints_at_start_and_says_so() -> None:
    """The first token needs no caller; board and observers hear of it once."""
    async with running(3600.0) as world:
        token = world.slot.current

        assert token is not None
        assert (token.mint, token.value.reveal(), token.origins, token.key) == (1, "token-1", ORIGINS, KEY)
        assert (token.minted, token.stale_at, token.expires) == (1000, 4000, 4570)
        assert world.published == [(1, None)]
        assert world.events == [
            TokenMinted(
                credential="login",
                audience="jpm:uri:test",
                mint=1,
                fingerprint=fingerprint("token-1"),
                seconds=0,
                lifetime=3600,
                expires=world.clock.now() + 3570,
            )
        ]


async def test_it_renews_when_the_token_goes_stale() -> None:
    """Not a second before, and the old token stays current until the new one is there."""
    async with running(3600.0) as world:
        await world.clock.advance(2999)
        assert world.bank.mints == 1
        world.bank.gate.clear()
        await world.clock.advance(1)
        assert world.bank.mints == 2
        assert world.mint == 1
        world.bank.gate.set()
        await settle()

        assert world.mint == 2


async def test_jitter_delays_the_renewal_by_up_to_a_tenth_of_the_window() -> None:
    """With all jitter 60 s later, out of ten minutes."""
    async with running(3600.0, jitter=1) as world:
        await world.clock.advance(3059)
        assert world.bank.mints == 1
        await world.clock.advance(1)
        assert world.bank.mints == 2


async def test_a_token_of_five_seconds_costs_at_most_a_mint_per_three() -> None:
    """Short-lived tokens are renewed ahead as well, and there is never a moment without one."""
    async with running(5.0) as world:
        for _ in range(300):
            await world.clock.advance(0.1)
            assert world.slot.current is not None
            assert world.slot.current.freshness(world.clock.monotonic()) is not Freshness.EXPIRED

        assert world.bank.mints <= 1 + 30 / 3


async def test_a_token_of_a_second_costs_at_most_a_mint_per_second() -> None:
    """Whatever lifetimes come, the endpoint isn't hammered (bad-inputs 115)."""
    async with running(1.0) as world:
        await world.clock.advance(30)

        assert world.bank.mints <= 31


async def test_a_slow_endpoint_with_short_tokens_is_not_hammered() -> None:
    """A token that is over when it arrives doesn't make the next mint follow at once."""
    async with running(1.0) as world:
        world.bank.gate.clear()
        await world.clock.advance(1)
        assert world.bank.mints == 2
        await world.clock.advance(20)
        world.bank.gate.set()
        await settle()
        assert world.bank.mints == 2
        await world.clock.advance(1)

        assert world.bank.mints == 3


@pytest.mark.parametrize(("lifetime", "stale_at"), [(100.0, 1080.0), (20.0, 1010.5)])
async def test_the_lifetime_counts_from_the_beginning_of_the_call(lifetime: float, stale_at: float) -> None:
    """The endpoint may count from when it was asked; a short life is renewed in time for a slow mint."""
    world = World(lifetime)
    world.bank.gate.clear()
    task = asyncio.create_task(world.slot.run())
    await world.clock.advance(5)
    world.bank.gate.set()
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert world.slot.current is not None
    assert (world.slot.current.minted, world.slot.current.stale_at) == (1000, stale_at)
    assert isinstance(world.events[0], TokenMinted)
    assert world.events[0].seconds == 5


async def test_two_slots_renew_in_parallel() -> None:
    """Two audiences that go stale together cost one mint each, side by side (bad-inputs 124)."""
    async with running(3600.0) as one, running(3600.0) as other:
        one.bank.gate.clear()
        other.bank.gate.clear()
        await one.clock.advance(3000)
        await other.clock.advance(3000)

        assert (one.bank.under_way, other.bank.under_way) == (1, 1)
        assert (one.bank.mints, other.bank.mints) == (2, 2)


async def test_retry_now_ends_a_back_off() -> None:
    """A reload, a rotation or an operator: the next attempt is now, and counts as the first."""
    async with running(REFUSAL, REFUSAL, REFUSAL, 3600.0) as world:
        await world.clock.advance(30)
        world.slot.retry_now()
        await settle()
        waits = [event.retry_in for event in world.events if isinstance(event, MintFailed)]
        assert waits == [30, 60, 30]
        world.slot.retry_now()
        await settle()

        assert world.mint == 1


async def test_retry_now_lets_a_refusal_wait_again() -> None:
    """After it a replacement is no longer answered by the back-off but by the attempt."""
    async with running(REFUSAL, 3600.0) as world:
        world.slot.retry_now()

        assert await world.replace(0, "payments") == "replaced"


async def test_retry_now_does_nothing_to_a_healthy_slot() -> None:
    """No failure, no mint."""
    async with running(3600.0) as world:
        world.slot.retry_now()
        await settle()

        assert world.bank.mints == 1


async def test_a_slot_that_ends_leaves_nobody_waiting() -> None:
    """Drain cancels the task: waiters get `failed`, those who come later too."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        waiter = asyncio.create_task(world.replace(1, "payments"))
        await settle()
    assert await waiter == "failed"
    assert await asyncio.wait_for(world.replace(1, "payments"), 60) == "failed"


async def test_no_task_is_left_behind() -> None:
    """Neither timers nor waits outlive the slot."""
    before = asyncio.all_tasks()
    async with running(OUTAGE, OUTAGE, 3600.0) as world:
        await world.clock.advance(100)
        world.slot.retry_now()
        await settle()
    await settle()

    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (3600.0, "<Slot <TokenKey login jpm:uri:test -> fresh, 3570 s left>"),
        (TokenRefused("no"), "<Slot <TokenKey login jpm:uri:test -> no token, token_refused>"),
    ],
)
async def test_repr_is_a_line_for_a_log(result: float | Exception, line: str) -> None:
    """State and seconds, never the token."""
    async with running(result) as world:
        assert repr(world.slot) == line
