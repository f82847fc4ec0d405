"""Refused tokens are replaced, within a budget (bad-inputs 106, 107, 110)."""

import asyncio

from proxy.secret import Secret
from proxy.tokens.response import Minted
from tests.support.clock import settle
from tests.tokens.support_slot import OUTAGE, REFUSAL, running


async def test_a_refused_token_is_replaced() -> None:
    """It is given up before the mint, and the answer comes after the new one was published."""
    async with running(3600.0) as world:
        assert await world.replace(1, "payments") == "replaced"

        assert world.published == [(1, None), (None, None), (2, None)]
        assert world.bank.mints == 2


async def test_a_replacement_re_arms_the_timer() -> None:
    """The new token's own end counts from now on."""
    async with running(3600.0) as world:
        await world.clock.advance(2000)
        await world.replace(1, "payments")
        await world.clock.advance(2999)
        assert world.bank.mints == 2
        await world.clock.advance(1)
        assert world.bank.mints == 3


async def test_a_late_refusal_of_an_old_token_spares_the_newer_one() -> None:
    """It was replaced meanwhile: no mint, no budget."""
    async with running(3600.0) as world:
        await world.replace(1, "payments")
        for _ in range(100):
            assert await world.replace(1, "payments") == "replaced"

        assert world.mint == 2
        assert world.bank.mints == 2


async def test_a_thousand_simultaneous_refusals_cost_one_mint() -> None:
    """They share it, and one share of the budget (bad-inputs 106)."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        waiters = [asyncio.create_task(world.replace(1, f"route-{n % 3}")) for n in range(1000)]
        await settle()
        world.bank.gate.set()

        assert set(await asyncio.gather(*waiters)) == {"replaced"}
        assert world.bank.mints == 2
        mints = [await world.replace(2 + n, f"source-{n}", route="route-0") for n in range(19)]
        assert mints == ["replaced"] * 19
        assert await world.replace(21, "source-20", route="route-0") == "kept"


async def test_refusals_and_no_mint_end_in_the_same_failure() -> None:
    """The mint for a thousand fails once, and the refused token is never handed out again."""
    async with running(3600.0, OUTAGE) as world:
        waiters = [asyncio.create_task(world.replace(1, "payments")) for _ in range(1000)]

        assert set(await asyncio.gather(*waiters)) == {"failed"}
        assert world.bank.mints == 2
        assert world.mint is None
        assert world.published[-1] == (None, "token_unavailable")


async def test_during_back_off_a_refusal_fails_at_once_and_costs_no_mint() -> None:
    """The refused token is given up all the same; the timer mints when the back-off is over."""
    async with running(3600.0, REFUSAL, 3600.0) as world:
        await world.clock.advance(3000)
        assert world.mint == 1
        for _ in range(50):
            assert await world.replace(1, "payments") == "failed"
        assert world.bank.mints == 2
        assert world.mint is None
        assert world.published[-1] == (None, "token_refused")
        await world.clock.advance(30)

        assert world.mint == 2


async def test_without_budget_the_token_stays() -> None:
    """The twenty-first refusal at once is handed on, other routes have their own budget, and 2 s buy one more."""
    async with running(3600.0) as world:
        for n in range(20):
            assert await world.replace(n + 1, f"source-{n}", route="payments") == "replaced"
        published = len(world.published)

        assert await world.replace(21, "source-20", route="payments") == "kept"
        assert world.mint == 21
        assert len(world.published) == published
        assert await world.replace(21, "balances") == "replaced"
        await world.clock.advance(2)
        assert await world.replace(22, "source-21", route="payments") == "replaced"


async def test_fresh_refusals_slow_the_budget_until_a_replay_succeeds() -> None:
    """A missing entitlement can't hammer the token endpoint (bad-inputs 107)."""
    async with running(86400.0) as world:
        serial = 1
        for _ in range(3600):
            if await world.replace(serial, "payments") == "replaced":
                serial += 1
                world.slot.refused_fresh(world.mint or 0, route="payments", source="payments")
            await world.clock.advance(1)
        assert world.bank.mints <= 1 + 20 + 3600 / 60 + 20
        before = world.bank.mints
        world.slot.replay_succeeded(world.mint or 0, route="payments", source="payments")
        await world.clock.advance(40)
        while await world.replace(serial, f"source-{serial}", route="payments") == "replaced":
            serial += 1

        assert world.bank.mints - before >= 20


async def test_a_refusal_during_a_renewal_shares_its_mint() -> None:
    """The new token is already on its way."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        await world.clock.advance(3000)
        waiter = asyncio.create_task(world.replace(1, "payments"))
        await settle()
        assert world.mint is None
        world.bank.gate.set()

        assert await waiter == "replaced"
        assert world.bank.mints == 2


async def test_a_waiter_that_is_cancelled_cancels_nobody() -> None:
    """The caller who reported the refusal leaves; the mint goes on and the others get its token (bad-inputs 110)."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        first, second = (asyncio.create_task(world.replace(1, "payments")) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert world.bank.under_way == 1
        world.bank.gate.set()

        assert await second == "replaced"
        assert first.cancelled()
        assert world.bank.mints == 2


async def test_the_same_string_again_is_a_new_token() -> None:
    """A token is known by its mint, not by its value."""
    async with running(3600.0) as world:

        async def same() -> Minted:
            return Minted(value=Secret("token-1"), lifetime=3600)

        world.slot._mint = same

        assert await world.replace(1, "payments") == "replaced"
        assert world.mint == 2


async def test_a_serial_that_was_never_given_out_changes_nothing() -> None:
    """A report about no token of ours costs none."""
    async with running(3600.0) as world:
        assert await world.replace(7, "payments") == "kept"
        assert world.mint == 1


async def test_a_refusal_of_an_expired_token_costs_no_budget() -> None:
    """The next token is due anyway."""
    async with running(3600.0, OUTAGE, 3600.0) as world:
        await world.clock.advance(3000)
        world.bank.gate.clear()
        await world.clock.advance(600)
        waiter = asyncio.create_task(world.replace(1, "payments"))
        await settle()
        world.bank.gate.set()

        assert await waiter == "replaced"
        assert repr(world.slot.replacement._limits) == "{}"
