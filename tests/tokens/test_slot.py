"""One slot's life, under a clock turned by hand (bad-inputs 106 to 113, 119, 124)."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import MintFailed, TokenMinted
from proxy.secret import Secret
from proxy.tokens.response import Minted, MintRefused
from proxy.tokens.slot import Slot
from proxy.tokens.token import Freshness, fingerprint
from tests.support.clock import ManualClock, settle
from tests.tokens.support import KEY, Events, FixedEntropy

ORIGINS = frozenset({"https://api.test:443"})
OUTAGE = TokenUnavailable("The token endpoint gave no token (status 500).", cause="500, an empty body")
REFUSAL = MintRefused("refused (invalid_client).", error="invalid_client", cause="401 invalid_client: no")


class Bank:
    """The token endpoint as a slot sees it: *results* one by one, the last one for ever; *gate* holds answers back."""

    def __init__(self, *results: float | Exception) -> None:
        self.results = list(results) or [3600.0]
        self.mints = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0

    async def mint(self) -> Minted:
        """Answer with the next result: a lifetime or an error."""
        self.mints += 1
        number = self.mints
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return Minted(value=Secret(f"token-{number}"), lifetime=result)


class World:
    """A slot, its bank, its clock and all that it told."""

    def __init__(self, *results: float | Exception, jitter: float = 0) -> None:
        self.bank = Bank(*results)
        self.clock = ManualClock()
        self.events = Events()
        self.published: list[tuple[int | None, str | None]] = []
        serial = itertools.count(1)
        self.slot = Slot(
            KEY,
            origins=ORIGINS,
            mint=self.bank.mint,
            clock=self.clock,
            entropy=FixedEntropy(jitter),
            observe=self.events,
            publish=self._publish,
            serial=lambda: next(serial),
        )

    def _publish(self, slot: Slot) -> None:
        self.published.append(
            (slot.current.mint if slot.current else None, slot.failure.code if slot.failure else None)
        )

    @property
    def mint(self) -> int | None:
        """Return the serial of the current token."""
        return self.slot.current.mint if self.slot.current else None


@asynccontextmanager
async def running(*results: float | Exception, jitter: float = 0) -> AsyncIterator[World]:
    """Give a world whose slot runs and has made its first attempt."""
    world = World(*results, jitter=jitter)
    task = asyncio.create_task(world.slot.run())
    try:
        await settle()
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- minting and renewing


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


async def test_the_lifetime_counts_from_the_beginning_of_the_call() -> None:
    """The endpoint may have started counting as soon as it was asked."""
    world = World(100.0)
    world.bank.gate.clear()
    task = asyncio.create_task(world.slot.run())
    await world.clock.advance(7)
    world.bank.gate.set()
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert world.slot.current is not None
    assert (world.slot.current.minted, world.slot.current.stale_at) == (1000, 1080)
    assert isinstance(world.events[0], TokenMinted)
    assert world.events[0].seconds == 7


async def test_two_slots_renew_in_parallel() -> None:
    """Two audiences that go stale together cost one mint each, side by side (bad-inputs 124)."""
    async with running(3600.0) as one, running(3600.0) as other:
        one.bank.gate.clear()
        other.bank.gate.clear()
        await one.clock.advance(3000)
        await other.clock.advance(3000)

        assert (one.bank.under_way, other.bank.under_way) == (1, 1)
        assert (one.bank.mints, other.bank.mints) == (2, 2)


# --- failures


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
    waiters = [asyncio.create_task(world.slot.replace(0, "r")) for _ in range(200)]
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


# --- replacing


async def test_a_refused_token_is_replaced() -> None:
    """It is given up before the mint, and the answer comes after the new one was published."""
    async with running(3600.0) as world:
        assert await world.slot.replace(1, "payments") == "replaced"

        assert world.published == [(1, None), (None, None), (2, None)]
        assert world.bank.mints == 2


async def test_a_replacement_re_arms_the_timer() -> None:
    """The new token's own end counts from now on."""
    async with running(3600.0) as world:
        await world.clock.advance(2000)
        await world.slot.replace(1, "payments")
        await world.clock.advance(2999)
        assert world.bank.mints == 2
        await world.clock.advance(1)
        assert world.bank.mints == 3


async def test_a_late_refusal_of_an_old_token_spares_the_newer_one() -> None:
    """It was replaced meanwhile: no mint, no budget."""
    async with running(3600.0) as world:
        await world.slot.replace(1, "payments")
        for _ in range(100):
            assert await world.slot.replace(1, "payments") == "replaced"

        assert world.mint == 2
        assert world.bank.mints == 2


async def test_a_thousand_simultaneous_refusals_cost_one_mint() -> None:
    """They share it, and one share of the budget (bad-inputs 106)."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        waiters = [asyncio.create_task(world.slot.replace(1, f"route-{n % 3}")) for n in range(1000)]
        await settle()
        world.bank.gate.set()

        assert set(await asyncio.gather(*waiters)) == {"replaced"}
        assert world.bank.mints == 2
        mints = [await world.slot.replace(2 + n, "route-0") for n in range(19)]
        assert mints == ["replaced"] * 19
        assert await world.slot.replace(21, "route-0") == "kept"


async def test_refusals_and_no_mint_end_in_the_same_failure() -> None:
    """The mint for a thousand fails once, and the refused token is never handed out again."""
    async with running(3600.0, OUTAGE) as world:
        waiters = [asyncio.create_task(world.slot.replace(1, "payments")) for _ in range(1000)]

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
            assert await world.slot.replace(1, "payments") == "failed"
        assert world.bank.mints == 2
        assert world.mint is None
        assert world.published[-1] == (None, "token_refused")
        await world.clock.advance(30)

        assert world.mint == 2


async def test_without_budget_the_token_stays() -> None:
    """The twenty-first refusal at once is handed on, other routes have their own budget, and 2 s buy one more."""
    async with running(3600.0) as world:
        for n in range(20):
            assert await world.slot.replace(n + 1, "payments") == "replaced"
        published = len(world.published)

        assert await world.slot.replace(21, "payments") == "kept"
        assert world.mint == 21
        assert len(world.published) == published
        assert await world.slot.replace(21, "balances") == "replaced"
        await world.clock.advance(2)
        assert await world.slot.replace(22, "payments") == "replaced"


async def test_fresh_refusals_slow_the_budget_until_a_replay_succeeds() -> None:
    """A missing entitlement can't hammer the token endpoint (bad-inputs 107)."""
    async with running(86400.0) as world:
        serial = 1
        for _ in range(3600):
            if await world.slot.replace(serial, "payments") == "replaced":
                serial += 1
                world.slot.refused_fresh("payments")
            await world.clock.advance(1)
        assert world.bank.mints <= 1 + 20 + 3600 / 60 + 20
        before = world.bank.mints
        world.slot.replay_succeeded("payments")
        await world.clock.advance(40)
        while await world.slot.replace(serial, "payments") == "replaced":
            serial += 1

        assert world.bank.mints - before >= 20


async def test_a_refusal_during_a_renewal_shares_its_mint() -> None:
    """The new token is already on its way."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        await world.clock.advance(3000)
        waiter = asyncio.create_task(world.slot.replace(1, "payments"))
        await settle()
        assert world.mint is None
        world.bank.gate.set()

        assert await waiter == "replaced"
        assert world.bank.mints == 2


async def test_a_waiter_that_is_cancelled_cancels_nobody() -> None:
    """The caller who reported the refusal leaves; the mint goes on and the others get its token (bad-inputs 110)."""
    async with running(3600.0) as world:
        world.bank.gate.clear()
        first, second = (asyncio.create_task(world.slot.replace(1, "payments")) for _ in range(2))
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

        assert await world.slot.replace(1, "payments") == "replaced"
        assert world.mint == 2


async def test_a_serial_that_was_never_given_out_changes_nothing() -> None:
    """A report about no token of ours costs none."""
    async with running(3600.0) as world:
        assert await world.slot.replace(7, "payments") == "kept"
        assert world.mint == 1


async def test_a_refusal_of_an_expired_token_costs_no_budget() -> None:
    """The next token is due anyway."""
    async with running(3600.0, OUTAGE, 3600.0) as world:
        await world.clock.advance(3000)
        world.bank.gate.clear()
        await world.clock.advance(600)
        waiter = asyncio.create_task(world.slot.replace(1, "payments"))
        await settle()
        world.bank.gate.set()

        assert await waiter == "replaced"
        assert repr(world.slot._budgets) == "{}"


# --- changes from outside


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

        assert await world.slot.replace(0, "payments") == "replaced"


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
        waiter = asyncio.create_task(world.slot.replace(1, "payments"))
        await settle()
    assert await waiter == "failed"
    assert await asyncio.wait_for(world.slot.replace(1, "payments"), 5) == "failed"


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
