"""What becomes of the first answer: unread until the second send can be made, then dropped without waiting for it."""

import asyncio
from pathlib import Path

import pytest

from tests.forwarding.support import REFUSED, afterwards, answer, post, recorded, refusals
from tests.upstream.support import OK, Peer, eventually, says
from tests.worker.support import CLOCK, proxy
from tests.worker.wire import ask, wire


async def test_a_refusal_that_is_whole_frees_its_connection_for_the_second_send(tmp_path: Path) -> None:
    """With a single connection allowed, nothing waits for another one."""
    async with proxy(tmp_path, says(REFUSED), says(OK), upstream={"max_connections": 1}) as it:
        assert (await ask(it.port, post())).status == 200
        assert [request.connection for request in it.bank.requests] == [1, 1]


async def _endless(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not peer.writer.is_closing():
        await peer.send(b"1000\r\n" + bytes(4096) + b"\r\n")
        await asyncio.sleep(0)


async def test_an_endless_refusal_is_not_drained(tmp_path: Path) -> None:
    """It is cut off, its connection used no more, and the second send made on another one."""
    async with proxy(tmp_path, _endless, says(OK)) as it:
        assert (await ask(it.port, post())).status == 200
        await eventually(it.bank.peers[0].writer.is_closing)
        assert (await ask(it.port, post())).status == 200
        assert [request.connection for request in it.bank.requests] == [1, 2, 2]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 401 No\r\nContent-Length: 100\r\n\r\nabc",
        b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 401 No\r\nContent-Length: 10000000\r\n\r\nabc",
    ],
    ids=["its length known", "in chunks", "large"],
)
async def test_a_refusal_that_does_not_end_holds_nobody_up(tmp_path: Path, head: bytes) -> None:
    """The rest of its body does not come: the second send is made at once all the same, on another connection."""
    step = afterwards(head, ready=asyncio.Event())
    async with proxy(tmp_path, step, says(OK), upstream={"response_timeout": 3600.0}) as it:
        assert (await ask(it.port, post())).status == 200
        assert (await ask(it.port, post())).status == 200
        assert [request.connection for request in it.bank.requests] == [1, 2, 2]
        assert len((await recorded(it))["attempts"]) == 2


async def test_a_refusal_in_pieces_is_handed_on_whole(tmp_path: Path) -> None:
    """Without a newer token the caller gets all of the bank's answer, also what came while the keeper was asked."""
    ready = asyncio.Event()
    whole = answer(401, body=b"first, second")
    step = afterwards(whole[:-6], whole[-6:], ready=ready)
    async with proxy(tmp_path, step) as it, wire(it.port) as caller:
        it.keeper.answer = ""
        await caller.send(post())
        await eventually(lambda: refusals(it) == [1])
        ready.set()
        await asyncio.sleep(0.05)
        it.gateway.tokens.hear({"type": "answer", "ask": it.keeper.heard[0]["ask"], "outcome": "kept"})
        reply = await caller.answer()

        assert (reply.status, reply.body, reply.cut) == (401, b"first, second", False)


async def test_a_refusal_in_pieces_may_wait_for_the_mint(tmp_path: Path) -> None:
    """Its rest comes when the response time-out is over, but nobody had asked for it: it is handed on all the same."""
    ready = asyncio.Event()
    whole = answer(401, body=b"first, second")
    step = afterwards(whole[:-6], whole[-6:], ready=ready)
    async with proxy(tmp_path, step, upstream={"response_timeout": 0.2}) as it, wire(it.port) as caller:
        it.keeper.answer = ""
        await caller.send(post())
        await eventually(lambda: refusals(it) == [1])
        late = CLOCK.monotonic() + 0.3
        await eventually(lambda: CLOCK.monotonic() > late)
        it.gateway.tokens.hear({"type": "answer", "ask": it.keeper.heard[0]["ask"], "outcome": "failed"})
        ready.set()
        reply = await caller.answer()

        assert (reply.status, reply.body, reply.cut) == (401, b"first, second", False)
