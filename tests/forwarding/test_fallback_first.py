"""Fallback before the first send: legacy serves where no modern token is available."""

import asyncio
from pathlib import Path

import pytest

from tests.forwarding.migrating import Moving, moving, token
from tests.forwarding.support import Record, afterwards, agrees, bearer, intents, post, recorded
from tests.upstream.support import OK, eventually
from tests.worker.wire import ask, request, wire

GET = request(b"GET", b"/open/pay?x=1", b"X-A: 1")
POST = post(b"/open/pay?x=1", b"Idempotency-Key: order-1", b"X-A: 1")
AWAITED = "not minted yet"


def _without_a_modern_token(it: Moving, how: str) -> None:
    """Let there be no modern token in the way that *how* names."""
    if how == "refused by the token endpoint":
        it.it.keeper.shortage(it.key("modern"), "token_refused")
    elif how == "expired":
        it.it.keeper.mint(it.key("modern"), seconds=0.0)


async def _records(it: Moving, count: int) -> list[Record]:
    return [await recorded(it.it, number) for number in range(1, count + 1)]


@pytest.mark.parametrize("sends", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("how", [AWAITED, "refused by the token endpoint", "expired"])
async def test_without_a_modern_token_legacy_serves_at_once(tmp_path: Path, how: str, sends: bytes) -> None:
    """The first send goes to legacy, with its token, host and path; nobody waits for a modern mint.

    What speaks against modern is told: a mint that failed or came too late, not one that is under way.
    """
    async with moving(tmp_path, tokens=["legacy"]) as moved:
        _without_a_modern_token(moved, how)
        reply = await ask(moved.it.port, sends)
        record = await recorded(moved.it)

        assert reply.status == 200
        assert reply.header(b"Proxy-Status") == b'payproxy; received-status=200; details="modern_token_missing"'
        assert moved.sends == (1, 0)
        (got,) = moved.legacy.requests
        assert got.head.split(b"\r\n", 1)[0].split(b" ")[1] == b"/open/pay?x=1"
        assert bearer(got.head) == token("legacy")
        assert (record["side"], record["upstream"], record["credential"]) == ("legacy", "bank", "adfs")
        assert record["why"] == "fallback from modern (weight 100)"
        assert (record["note"], record["replayed"]) == ("modern_token_missing", False)
        assert [(one["status"], one["side"]) for one in record["attempts"]] == [(200, "legacy")]
        assert [one["side"] for one in intents(moved.it)] == (["legacy"] if sends is POST else [])
        method_is_safe = sends is GET
        failed = [("payments", "modern", "", method_is_safe, "failed", 0, False)] if how != AWAITED else []
        assert await moved.rows(len(failed) + 1) == [
            *failed,
            ("payments", "legacy", "", method_is_safe, "ok", 200, False),
        ]


async def test_a_modern_token_that_runs_out_while_its_request_waits_is_not_missed(tmp_path: Path) -> None:
    """The only connection to modern is busy until the token has ended: nothing was sent with it, and legacy serves."""
    ready = asyncio.Event()
    async with (
        moving(tmp_path, modern=[afterwards(b"", OK, ready=ready)], upstream={"max_connections": 1}) as moved,
        wire(moved.it.port) as busy,
        wire(moved.it.port) as late,
    ):
        await busy.send(GET)
        await eventually(lambda: moved.sends == (0, 1))
        moved.it.keeper.mint(moved.key("modern"), seconds=0.2)
        await late.send(POST)
        await eventually(lambda: moved.it.gateway.admission.in_flight == 2)
        await asyncio.sleep(0.3)
        ready.set()

        assert (await late.answer()).status == 200
        assert (await busy.answer()).status == 200
        assert moved.sends == (1, 1)
        [late_record] = [one for one in (await _records(moved, 2)) if one["method"] == "POST"]
        assert [(one["sent"], one["side"]) for one in late_record["attempts"]] == [("no", "modern"), ("yes", "legacy")]
        assert (late_record["sent_upstream"], late_record["replayed"]) == ("yes", False)
        assert [(one["attempt"], one["side"]) for one in intents(moved.it)] == [(1, "modern"), (2, "legacy")]
        told = [row[1:2] + row[4:5] for row in await moved.rows(3)]
        assert sorted(told) == [("legacy", "ok"), ("modern", "failed"), ("modern", "ok")]


async def test_without_a_fallback_a_request_waits_for_the_modern_mint(tmp_path: Path) -> None:
    """As on any route; it then goes to modern."""
    async with moving(tmp_path, tokens=["legacy"], fallback=False) as moved, wire(moved.it.port) as caller:
        await caller.send(POST)
        await eventually(lambda: moved.it.gateway.admission.in_flight == 1)
        moved.it.keeper.mint(moved.key("modern"))

        assert (await caller.answer()).status == 200
        assert moved.sends == (0, 1)


async def test_a_fallback_waits_for_the_legacy_mint_only(tmp_path: Path) -> None:
    """With neither token at hand it goes out as soon as the legacy one comes."""
    async with moving(tmp_path, tokens=[]) as moved, wire(moved.it.port) as caller:
        await caller.send(POST)
        await eventually(lambda: moved.it.gateway.admission.in_flight == 1)
        moved.it.keeper.mint(moved.key("legacy"))

        assert (await caller.answer()).status == 200
        assert moved.sends == (1, 0)


async def test_with_both_tokens_unavailable_the_caller_is_told_of_legacys(tmp_path: Path) -> None:
    """Nothing is sent, and both sides are told to have failed."""
    async with moving(tmp_path, tokens=[]) as moved:
        for side in ("legacy", "modern"):
            moved.it.keeper.shortage(moved.key(side), "token_unavailable")
        reply = await ask(moved.it.port, POST)
        record = await recorded(moved.it)

        assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
        agrees(reply, record, sent="no")
        assert record["side"] == "legacy"
        assert moved.sends == (0, 0)
        assert [row[1:5] for row in await moved.rows(2)] == [
            ("modern", "", False, "failed"),
            ("legacy", "", False, "failed"),
        ]


async def test_a_mint_that_ends_while_a_fallback_is_agreed_on_speaks_not_against_modern(tmp_path: Path) -> None:
    """It replaced a token that another caller was refused; that it is over by now makes it no failure."""
    async with moving(tmp_path, tokens=["legacy"]) as moved, wire(moved.it.port) as caller:
        keeper = moved.it.keeper
        keeper.keeps = None
        await caller.send(POST)
        await eventually(lambda: any(one["type"] == "claim" for one in keeper.heard))
        keeper.mint(moved.key("modern"))
        keeper.pin(next(one for one in keeper.heard if one["type"] == "claim"), kept=True)

        assert (await caller.answer()).status == 200
        assert moved.sends == (1, 0)
        assert await moved.rows(1) == [("payments", "legacy", "", False, "ok", 200, False)]
