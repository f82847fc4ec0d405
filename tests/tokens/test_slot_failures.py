"""Mints that fail: who waits, for how long, and with what (bad-inputs 109 to 113, 119)."""

import asyncio

from proxy.errors import TokenUnavailable
from proxy.events import MintFailed
from proxy.tokens.token_share import TokenShare
from tests.support.clock import settle
from tests.tokens.support_slot import OUTAGE, REFUSAL, World, running


async def test_a_failed_renewal_keeps_the_old_token_until_it_expires() -> None:
    """The endpoint is down for the whole window: the token serves until EXPIRED, never after (bad-inputs 112)."""
    async with running(3600.0, OUTAGE) as world:
        await world.clock.advance(3000)
        assert world.mint == 1
        assert world.slot.failure is not None
        assert world.published[-1] == (1, "token_unavailable")
        await world.clock.advance(569)
        assert world.mint == 1
        await world.clock.advance(61)

        assert world.mint is None
        assert world.published[-1] == (None, "token_unavailable")


async def test_outages_back_off_and_a_success_clears_them() -> None:
    """1, 2, 4 s and so on up to a minute; after a success the next outage starts at 1 s again."""
    async with running(OUTAGE, OUTAGE, OUTAGE, 3600.0, OUTAGE) as world:
        assert [event.retry_in for event in world.events if isinstance(event, MintFailed)] == [1]
        await world.clock.advance(0.9)
        assert world.bank.mints == 1
        await world.clock.advance(0.1)
        assert world.bank.mints == 2
        await world.clock.advance(2 + 4)
        assert world.mint == 1
        assert world.slot.failure is None
        await world.clock.advance(3000)

        assert [event.retry_in for event in world.events if isinstance(event, MintFailed)] == [1, 2, 4, 1]


async def test_a_long_outage_costs_a_mint_a_minute_at_most() -> None:
    """An hour of it: below 100 attempts, with all jitter and without."""
    for jitter in (0, 1):
        async with running(OUTAGE, jitter=jitter) as world:
            await world.clock.advance(3600)

            assert 60 <= world.bank.mints <= 100


async def test_refusals_back_off_to_a_quarter_of_an_hour() -> None:
    """A bank sees every failed client authentication (bad-inputs 119)."""
    async with running(REFUSAL) as world:
        assert world.slot.failure is not None
        assert world.slot.failure.until == 1030
        await world.clock.advance(86400)

        waits = [event.retry_in for event in world.events if isinstance(event, MintFailed)]
        assert waits[:7] == [30, 60, 120, 240, 480, 900, 900]
        assert world.bank.mints == len(waits) < 105


async def test_what_a_failure_says() -> None:
    """Detail for the caller, cause for the operator, the endpoint's word in the event."""
    async with running(REFUSAL) as world:
        failure = world.slot.failure

        assert failure is not None
        assert (failure.code, failure.detail) == ("token_refused", "refused (invalid_client).")
        assert failure.cause == "401 invalid_client: no"
        assert world.events == [
            MintFailed(
                credential="login",
                audience="jpm:uri:test",
                code="token_refused",
                error="invalid_client",
                cause="401 invalid_client: no",
                retry_in=30,
            )
        ]


async def test_an_outage_after_refusals_starts_its_own_back_off() -> None:
    """The two kinds are counted apart."""
    async with running(REFUSAL, REFUSAL, OUTAGE, REFUSAL) as world:
        await world.clock.advance(30 + 60 + 1)

        waits = [event.retry_in for event in world.events if isinstance(event, MintFailed)]
        assert waits == [30, 60, 1, 30]


async def test_retry_after_is_honoured() -> None:
    """The endpoint's own wait counts (bad-inputs 113)."""
    async with running(TokenUnavailable("slow down", cause="429", retry_after=120), 3600.0) as world:
        await world.clock.advance(119)
        assert world.bank.mints == 1
        await world.clock.advance(1)
        assert world.mint == 1


async def test_a_defect_ends_no_task() -> None:
    """An exception that nobody expects is a failure like others, named by its class alone."""
    async with running(KeyError("a secret"), 3600.0) as world:
        assert world.slot.failure is not None
        assert world.slot.failure.cause == "a defect of the proxy: KeyError"
        await world.clock.advance(1)
        assert world.mint == 1


async def test_waiters_share_a_failure() -> None:
    """All of them learn of it at once, by one mint (bad-inputs 111)."""
    world = World(OUTAGE)
    world.bank.gate.clear()
    task = asyncio.create_task(world.slot.run())
    waiters = [asyncio.create_task(world.replace(0, "r")) for _ in range(200)]
    await settle()
    world.bank.gate.set()
    await settle()

    assert {waiter.result() for waiter in waiters} == {"failed"}
    assert world.bank.mints == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_five_hundred_callers_at_expiry_cost_one_mint() -> None:
    """Whoever waits for the next token shares it (bad-inputs 109)."""
    world = World(3600.0)
    world.bank.gate.clear()
    task = asyncio.create_task(world.slot.run())
    waiters = [asyncio.create_task(world.slot.outcome()) for _ in range(500)]
    await settle()
    assert not any(waiter.done() for waiter in waiters)
    world.bank.gate.set()
    await settle()

    assert all(waiter.done() for waiter in waiters)
    assert world.bank.mints == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_failure_of_the_old_credential_does_not_hold_up_the_new_one() -> None:
    """Its key was revoked, and replaced while the last mint with it was under way: the next one is at once."""
    async with running(REFUSAL, REFUSAL, 3600.0) as world:
        world.bank.gate.clear()
        await world.clock.advance(30)
        assert world.bank.under_way == 1
        world.slot.share_by(TokenShare())  # as `TokenManager.replace_credential`
        world.slot.retry_now()
        world.bank.gate.set()
        await settle()

        assert world.mint == 1
        assert world.slot.failure is None
        assert world.bank.mints == 3
