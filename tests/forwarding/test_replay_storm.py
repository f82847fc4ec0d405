"""Many refusals at once, with the keeper's real slots: one mint per refused token, never more than two sends each."""

import asyncio
from collections import Counter
from pathlib import Path

from proxy.link.messages import TokenRefusal
from tests.forwarding.support import Judge, Slots, bearer, exchanged, post
from tests.worker.support import Proxy, proxy
from tests.worker.wire import Reply, ask, wire

CALLERS = 200
LIMITS = {"connect_timeout": 10.0, "max_connections": 16}


def _sends(it: Proxy) -> Counter[str]:
    """Return by Idempotency-Key how often the bank got a request."""
    lines = [line for request in it.bank.requests for line in request.head.decode().split("\r\n")]
    return Counter(line.partition(": ")[2] for line in lines if line.startswith("Idempotency-Key: "))


async def _all_at_once(it: Proxy) -> list[Reply]:
    return await asyncio.gather(
        *(ask(it.port, post(b"/open/pay", b"Idempotency-Key: order-%d" % number)) for number in range(CALLERS))
    )


async def test_a_revoked_token_costs_one_mint_whoever_has_it(tmp_path: Path) -> None:
    """200 callers have their requests refused at once: all are served, each in at most two sends."""
    judge = Judge(1)
    async with proxy(tmp_path, judge, tokens=False, upstream=LIMITS) as it, Slots(it).running() as slots:
        judge.bank = it.bank
        replies = await _all_at_once(it)

        assert Counter(reply.status for reply in replies) == {200: CALLERS}
        assert len(_sends(it)) == CALLERS
        assert max(_sends(it).values()) == 2
        assert slots.mints["open"] == 2
        assert len({one.mint for one in slots.received if isinstance(one, TokenRefusal)}) == 1


async def test_a_bank_that_refuses_every_token_can_not_make_us_hammer_the_token_endpoint(tmp_path: Path) -> None:
    """All get 401 in at most two sends each, and the budget of 20 replacements bounds the mints."""
    judge = Judge(*range(1, 500))
    async with proxy(tmp_path, judge, tokens=False, upstream=LIMITS) as it, Slots(it).running() as slots:
        judge.bank = it.bank
        for _ in range(2):
            replies = await _all_at_once(it)
            assert Counter(reply.status for reply in replies) == {401: CALLERS}
        async with wire(it.port) as caller:
            for number in range(60):
                order = b"Idempotency-Key: late-%d" % number
                assert (await exchanged(caller, post(b"/open/pay", order))).status == 401

        sends = _sends(it)
        assert max(sends[f"late-{number}"] for number in range(60)) <= 2
        assert max(sends.values()) <= 4  # each order of the storms was asked for twice
        assert slots.mints["open"] <= 1 + 20 + 2


async def test_refusals_of_one_audience_leave_the_other_alone(tmp_path: Path) -> None:
    """Tokens go where their audience is, also while one of them is replaced."""
    judge = Judge(1, 2, 3)
    async with proxy(tmp_path, judge, tokens=False, upstream=LIMITS) as it, Slots(it).running() as slots:
        judge.bank = it.bank
        replies = await asyncio.gather(
            *(ask(it.port, post(b"/open/pay" if number % 2 else b"/closed/pay")) for number in range(CALLERS))
        )

        assert len(replies) == CALLERS
        assert slots.mints["closed"] == 1
        for request in it.bank.requests:
            audience = request.head.split(b"/", 2)[1].decode()
            assert bearer(request.head).startswith(f"canary-{audience}-")
