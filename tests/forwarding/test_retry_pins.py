"""Retry pins: a payment that may have been made is tried again on the side that may have made it, and on no other."""

import asyncio
import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.link.messages import PinRequest
from proxy.migration.pin import Reason, RetryPin
from proxy.migration.side import Side
from tests.forwarding.migrating import MIGRATION, Moving, moving, token
from tests.forwarding.support import REFUSED, agrees, answer, bearer, callers_are, intents, post, recorded
from tests.upstream.support import OK, Peer, Step, eventually, says, says_and_closes, says_and_resets, says_nothing
from tests.worker.wire import Reply, Wire, ask, request, wire

ORDER = b"Idempotency-Key: order-1"
POST = post(b"/open/pay", ORDER)
QUICK = {"response_timeout": 0.4}
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf"
UNCERTAIN: dict[str, tuple[Step, int]] = {
    "500": (says(answer(500)), 500),
    "503": (says(answer(503)), 503),
    "reset": (says_and_resets(b""), 502),
    "closed": (says_and_closes(b""), 502),
    "nonsense": (says(b"nonsense\r\n\r\n"), 502),
    "silence": (says_nothing, 504),
    "a small body cut": (says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), 502),
}
ENDS = pytest.mark.parametrize(("fate", "status"), list(UNCERTAIN.values()), ids=list(UNCERTAIN))


async def _asked(moved: Moving) -> PinRequest:
    """Return what the keeper was asked to pin, once it was."""
    await eventually(lambda: bool(moved.pins))
    asked: PinRequest
    (asked,) = moved.it.keeper.all(PinRequest)
    return asked


async def _silent(caller: Wire) -> None:
    """Check that nothing comes while the loop turns and other connections are served."""
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert not caller.reader._buffer  # type: ignore[attr-defined]
    assert not caller.reader.at_eof()


@ENDS
async def test_the_pin_stands_before_the_caller_has_its_answer(tmp_path: Path, fate: Step, status: int) -> None:
    """The answer is the signal to try again: it waits until the keeper has said that the pin is kept."""
    async with moving(tmp_path, modern=[fate], upstream=QUICK) as moved, wire(moved.it.port) as caller:
        moved.it.keeper.keeps = None
        await caller.send(POST)
        asked = await _asked(moved)
        await _silent(caller)
        moved.it.keeper.pin(asked, kept=True)
        reply = await caller.answer()

        assert reply.status == status
        digest, (side, upstream, until, migration, reason) = asked.digest, dataclasses.astuple(asked.pin)
        assert (side, upstream, migration) == ("modern", "modern", MIGRATION)
        assert reason == ("answered" if status in {500, 503} else "unknown")
        assert until - moved.it.gateway.now() == pytest.approx(24 * 3600, abs=30)
        assert moved.sends == (0, 1)
        assert [one["retry"] for one in intents(moved.it)] == [digest]
        assert "order-1" not in str(asked)


async def test_one_that_waits_for_its_pin_leaves_the_others_alone(tmp_path: Path) -> None:
    """Its error is nobody else's, at no time: all connections go on, also with pins to wait for."""
    fates = [says_and_resets(b""), says(answer(500)), says(OK)]
    async with (
        moving(tmp_path, modern=fates) as moved,
        wire(moved.it.port) as failing,
        wire(moved.it.port) as other,
    ):
        moved.it.keeper.keeps = None
        await failing.send(POST)
        asked = await _asked(moved)
        for status in (500, 200):
            await other.send(post(b"/open/pay"))
            assert (await other.answer()).status == status
        moved.it.keeper.pin(asked, kept=True)
        assert (await failing.answer()).status == 502
        for caller in (failing, other) * 2:
            await caller.send(POST)
            assert (await caller.answer()).status == 200
        assert [one.code for one in moved.it.ledger.ended] == ["", "", "upstream_reset", "", "", "", ""]


@pytest.mark.parametrize("keeps", [False, None], ids=["refused", "no word"])
async def test_an_answer_goes_out_all_the_same_where_the_pin_can_not_be_kept(
    tmp_path: Path, *, keeps: bool | None
) -> None:
    """After a second at most: the caller is not left without an answer."""
    async with moving(tmp_path, modern=[says(answer(500, body=b"the bank's"))]) as moved:
        moved.it.keeper.keeps = keeps
        reply = await ask(moved.it.port, POST)

        assert (reply.status, reply.body) == (500, b"the bank's")
        assert moved.pins == [("modern", "modern")]


async def test_a_large_answer_that_is_cut_is_pinned_before_the_caller_sees_the_cut(tmp_path: Path) -> None:
    """The head has gone out by then; the cut is what makes the caller try again."""
    async with moving(tmp_path, modern=[says_and_closes(CUT)]) as moved, wire(moved.it.port) as caller:
        moved.it.keeper.keeps = None
        await caller.send(POST)
        asked = await _asked(moved)
        await asyncio.wait_for(caller.reader.readuntil(b"half"), 60)
        await _silent(caller)
        assert caller.reader.exception() is None
        moved.it.keeper.pin(asked, kept=True)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(caller.reader.read(), 60)


@pytest.mark.parametrize("status", [200, 201, 302, 400, 403, 404, 409, 422, 429])
async def test_a_certain_end_is_not_pinned(tmp_path: Path, status: int) -> None:
    """The bank said what it did."""
    async with moving(tmp_path, modern=[says(answer(status))]) as moved:
        assert (await ask(moved.it.port, POST)).status == status
        assert moved.pins == []


@pytest.mark.parametrize(
    "sends",
    [
        post(b"/open/pay"),
        post(b"/open/pay", b"Idempotency-Key:"),
        request(b"GET", b"/open/pay", ORDER),
        request(b"HEAD", b"/open/pay", ORDER),
        request(b"OPTIONS", b"/open/pay", ORDER),
    ],
    ids=["no key", "an empty key", "GET", "HEAD", "OPTIONS"],
)
@pytest.mark.parametrize("fate", [says(answer(500)), says_and_resets(b"")], ids=["500", "reset"])
async def test_what_needs_no_pin_gets_none(tmp_path: Path, sends: bytes, fate: Step) -> None:
    """A safe method changes nothing, and without a key nobody could tell a retry."""
    async with moving(tmp_path, modern=[fate]) as moved, wire(moved.it.port) as caller:
        await caller.send(sends)
        assert (await caller.answer(method=sends.split(b" ")[0].decode())).status in {500, 502}
        assert moved.pins == []


async def test_other_rules_pin_nothing(tmp_path: Path) -> None:
    """Where there is one side only a retry can't go elsewhere."""
    async with moving(tmp_path, legacy=[says(answer(500))]) as moved:
        assert (await ask(moved.it.port, post(b"/plain/pay", ORDER))).status == 500
        assert moved.pins == []
        assert all("retry" not in one for one in intents(moved.it))


async def test_what_was_not_sent_is_not_pinned(tmp_path: Path) -> None:
    """A 503 of the proxy's own says so, and the next try is free to go wherever."""
    async with moving(tmp_path, tokens=[]) as moved:
        for side in ("legacy", "modern"):
            moved.it.keeper.failure(moved.key(side), "token_unavailable")
        assert (await ask(moved.it.port, POST)).status == 503
        assert moved.pins == []


async def test_a_fallback_is_pinned_to_legacy(tmp_path: Path) -> None:
    """Where the second send went, since the first was refused."""
    async with moving(tmp_path, modern=[says(REFUSED)], legacy=[says(answer(500))]) as moved:
        assert (await ask(moved.it.port, POST)).status == 500
        assert moved.pins == [("legacy", "bank")]


@pytest.mark.parametrize("weights", [(0, 100), (100, 0)], ids=["ramp", "rollback"])
async def test_a_retry_goes_where_the_first_try_went(tmp_path: Path, weights: tuple[int, int]) -> None:
    """Whatever the weight is by then; a payment with another key follows the weight."""
    first, then = weights
    fails_once = [says(answer(500)), says(OK)]
    async with moving(tmp_path, legacy=fails_once, modern=fails_once, weight=first) as moved:
        assert (await ask(moved.it.port, POST)).status == 500
        moved.state(then, version=2)
        assert (await ask(moved.it.port, POST)).status == 200
        record = await recorded(moved.it, 2)
        assert (await ask(moved.it.port, post(b"/open/pay", b"Idempotency-Key: order-2"))).status == 500

        assert moved.sends == ((2, 1) if first == 0 else (1, 2))
        side = "legacy" if first == 0 else "modern"
        assert (record["side"], record["why"]) == (side, f"an earlier try with this key went to {side}")


async def _ended_elsewhere(moved: Moving) -> str:
    """Let the worker know that another one's try went to legacy, and ended well after the weight was changed."""
    async with wire(moved.it.port) as caller:
        await caller.send(post(b"/open/pay", b"Idempotency-Key: order-1"))
        assert (await caller.answer()).status == 500
        asked = await _asked(moved)
    moved.it.keeper.received.clear()
    now = moved.it.gateway.now()
    soon = RetryPin(Side.LEGACY, "bank", now + 9, asked.pin.migration, Reason.IN_FLIGHT)
    moved.it.gateway.migrations.add_pins({asked.digest: soon}, now)
    return asked.digest


async def test_a_pin_that_soon_ends_is_made_longer_before_the_retry_is_sent(tmp_path: Path) -> None:
    """Else a third try, at another worker, would follow the weight while the second is still at the bank."""
    first = post(b"/open/pay", b"Idempotency-Key: order-1")
    async with moving(tmp_path, weight=0, legacy=[says(answer(500)), says(OK)]) as moved:
        digest = await _ended_elsewhere(moved)
        moved.state(100, version=2)
        moved.it.keeper.keeps = None
        async with wire(moved.it.port) as caller:
            await caller.send(first)
            asked = await _asked(moved)
            await _silent(caller)
            assert moved.sends == (1, 0)
            assert (asked.digest, asked.pin.side, asked.pin.upstream) == (digest, "legacy", "bank")
            assert asked.pin.reason == "unknown"
            assert asked.pin.until - moved.it.gateway.now() == pytest.approx(24 * 3600, abs=30)
            moved.it.keeper.pin(asked, kept=True)
            assert (await caller.answer()).status == 200
        assert moved.sends == (2, 0)


async def test_a_retry_whose_pin_can_not_be_made_longer_is_not_sent(tmp_path: Path) -> None:
    """503 side_unknown: the next try may find the disk or the other replicas again."""
    async with moving(tmp_path, weight=0, legacy=[says(answer(500)), says(OK)]) as moved:
        await _ended_elsewhere(moved)
        moved.state(100, version=2)
        moved.it.keeper.keeps = False
        reply = await ask(moved.it.port, post(b"/open/pay", b"Idempotency-Key: order-1"))
        _side_unknown(reply)
        agrees(reply, await recorded(moved.it, 2), sent="no")
        assert moved.sends == (1, 0)


async def test_a_request_id_is_a_key_too(tmp_path: Path) -> None:
    """Without an Idempotency-Key it is what the bank knows a request by."""
    sends = post(b"/open/pay", b"requestId: 7f3c")
    async with moving(tmp_path, modern=[says_nothing, says(OK)], upstream=QUICK) as moved:
        assert (await ask(moved.it.port, sends)).status == 504
        moved.state(0, version=2)
        assert (await ask(moved.it.port, sends)).status == 200
        assert moved.sends == (0, 2)


async def test_a_pinned_retry_whose_token_is_refused_does_not_fall_back(tmp_path: Path) -> None:
    """Modern may have made the payment: the retry waits for a modern token, as on any route."""
    async with moving(tmp_path, modern=[says(answer(500)), says(REFUSED), says(OK)]) as moved:
        assert (await ask(moved.it.port, POST)).status == 500
        assert (await ask(moved.it.port, POST)).status == 200

        assert moved.sends == (0, 3)
        assert [bearer(one.head) for one in moved.modern.requests] == [token("modern", n) for n in (1, 1, 2)]


async def test_a_pinned_retry_without_a_token_does_not_fall_back(tmp_path: Path) -> None:
    """It waits for the modern mint."""
    async with moving(tmp_path, modern=[says(answer(500)), says(OK)]) as moved:
        assert (await ask(moved.it.port, POST)).status == 500
        moved.it.keeper.mint(moved.key("modern"), seconds=0.0)
        async with wire(moved.it.port) as caller:
            await caller.send(POST)
            await eventually(lambda: moved.it.gateway.admission.in_flight == 1)
            moved.it.keeper.mint(moved.key("modern"))
            assert (await caller.answer()).status == 200
        assert moved.sends == (0, 2)


async def test_a_caller_that_leaves_is_pinned_at_once(tmp_path: Path) -> None:
    """It may try again long before the bank has answered: the pin does not wait for that, and a retry finds it."""
    go = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await go.wait()
        await peer.send(OK)

    async with moving(tmp_path, modern=[slow]) as moved:
        async with wire(moved.it.port) as caller:
            await caller.send(POST)
            await eventually(lambda: len(moved.modern.requests) == 1)
        await eventually(lambda: bool(moved.pins))
        moved.state(0, version=2)
        retry = asyncio.create_task(ask(moved.it.port, POST))
        await eventually(lambda: len(moved.modern.requests) == 2)
        go.set()

        assert (await retry).status == 200
        assert moved.sends == (0, 2)
        assert moved.pins == [("modern", "modern")]
        await moved.it.ended(2)
        assert sum(one.caller_left for one in moved.it.ledger.ended) == 1


async def test_a_caller_that_leaves_within_its_upload_is_pinned(tmp_path: Path) -> None:
    """Part of a streamed body has been sent: nobody knows what the bank made of it."""
    head = b"\r\n".join([b"POST /open/pay HTTP/1.1", b"Host: localhost", ORDER, b"Content-Length: 4000000", b"", b""])
    async with moving(tmp_path, route={"replay_body_bytes": 8}) as moved:
        async with wire(moved.it.port) as caller:
            await caller.send(head, bytes(100_000))
            await eventually(lambda: moved.modern.heads == 1)
        await moved.it.ended()

        assert moved.pins == [("modern", "modern")]
        assert [row[4] for row in await moved.rows(1)] == ["none"]


async def test_a_caller_that_leaves_within_a_refusal_is_not_pinned(tmp_path: Path) -> None:
    """Modern did nothing, which a caller that knows the head of the 401 knows too."""
    refusal = b"HTTP/1.1 401 No\r\nContent-Length: 100000\r\n\r\nhalf"
    async with moving(tmp_path, tokens=["modern"], modern=[says(refusal)]) as moved:
        moved.it.keeper.failure(moved.key("legacy"), "token_unavailable")
        async with wire(moved.it.port) as caller:
            await caller.send(POST)
            await asyncio.wait_for(caller.reader.readuntil(b"half"), 60)
        await callers_are(moved.it, 0)
        for peer in moved.modern.peers:
            peer.writer.close()
        exchange = await moved.it.ended()

        assert (moved.pins, exchange.caller_left, exchange.sent_upstream) == ([], True, "no")


async def test_a_caller_that_leaves_before_anything_is_sent_is_not_pinned(tmp_path: Path) -> None:
    """Nothing is at the bank."""
    async with moving(tmp_path) as moved:
        async with wire(moved.it.port) as caller:
            await caller.send(POST[:-4])
            await eventually(lambda: moved.it.gateway.admission.in_flight == 1)
        await moved.it.ended()

        assert (moved.pins, moved.sends) == ([], (0, 0))


def _side_unknown(reply: Reply) -> None:
    assert (reply.status, reply.problem["code"], reply.problem["retryable"]) == (503, "side_unknown", True)
    assert int(reply.header(b"Retry-After") or b"0") >= 1


async def test_while_pins_can_not_be_read_a_payment_that_may_be_a_retry_is_not_sent(tmp_path: Path) -> None:
    """503 side_unknown with Retry-After, recorded; what needs no pin is served, and all is once they can be read."""
    async with moving(tmp_path) as moved:
        moved.state(100, readable=False, former=[[0, "", moved.it.gateway.now() - 3600, True]])
        reply = await ask(moved.it.port, POST)
        _side_unknown(reply)
        agrees(reply, await recorded(moved.it), sent="no")
        assert moved.sends == (0, 0)
        for free in (request(b"GET", b"/open/pay", ORDER), post(b"/open/pay"), post(b"/plain/pay", ORDER)):
            assert (await ask(moved.it.port, free)).status == 200
        moved.state(100)
        assert (await ask(moved.it.port, POST)).status == 200


async def test_a_pin_to_an_upstream_that_is_no_more_sends_nothing(tmp_path: Path) -> None:
    """The side has another upstream since: whether that one knows the payment can't be told."""
    async with moving(tmp_path, modern=[says(answer(500))]) as moved:
        moved.it.keeper.keeps = None
        async with wire(moved.it.port) as caller:
            await caller.send(POST)
            asked = await _asked(moved)
            moved.it.keeper.pin(asked._replace(pin=replace(asked.pin, upstream="gone")), kept=True)
            assert (await caller.answer()).status == 500
        _side_unknown(await ask(moved.it.port, POST))
        assert moved.sends == (0, 1)
