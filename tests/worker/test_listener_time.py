"""How long callers are waited for, and that nobody else waits with them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.worker.caller_connection import CallerConnection
from proxy.worker.timeouts import CALLER_TIMEOUTS
from tests.forwarding.support import callers_are
from tests.upstream.support import Peer, eventually, says
from tests.worker.support import Proxy, proxy
from tests.worker.timeouts import HASTE, timeouts
from tests.worker.wire import Wire, ask, request, wire

POST = b"POST /open/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


async def _is_cut_off(it: Proxy, caller: Wire, status: int) -> None:
    reply = await caller.answer()
    assert (reply.status, reply.problem["code"]) == (status, "bad_request")
    assert await caller.closed() == b""
    assert it.untouched


async def test_a_connection_without_a_byte_is_closed_silently(tmp_path: Path) -> None:
    """Nothing was asked, so nothing is answered or recorded."""
    async with proxy(tmp_path, timeouts=timeouts(head=HASTE)) as it, wire(it.port) as caller:
        assert await caller.closed() == b""
        assert it.ledger.ended == []


@pytest.mark.parametrize("part", [b"G", request()[:-2], b"\r\nGET /"])
async def test_a_head_that_stops_is_answered_with_408(part: bytes, tmp_path: Path) -> None:
    """Its first byte starts the clock."""
    async with proxy(tmp_path, timeouts=timeouts(head=HASTE)) as it, wire(it.port) as caller:
        await caller.send(part)
        await _is_cut_off(it, caller, 408)


async def _drip(caller: Wire, data: bytes, *, gap: float) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            caller.writer.write(data)
            await caller.writer.drain()
            await asyncio.sleep(gap)


@contextlib.asynccontextmanager
async def _dripping(caller: Wire, data: bytes, *, gap: float) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(_drip(caller, data, gap=gap))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_head_that_drips_gets_no_more_time(tmp_path: Path) -> None:
    """Slowloris: each header line is in time, the head is not."""
    async with proxy(tmp_path, timeouts=timeouts(head=0.3)) as it, wire(it.port) as caller:
        await caller.send(b"GET /open/a HTTP/1.1\r\n")
        async with _dripping(caller, b"X: y\r\n", gap=0.02):
            await _is_cut_off(it, caller, 408)


async def test_a_second_head_has_its_own_deadline(tmp_path: Path) -> None:
    """Also when it began while the first request was in service."""
    async with proxy(tmp_path, timeouts=timeouts(head=0.3)) as it, wire(it.port) as caller:
        await caller.send(request() + b"GET /open/b")
        assert (await caller.answer()).status == 200
        reply = await caller.answer()
        assert reply.status == 408
        assert await caller.closed() == b""
        assert len(it.bank.requests) == 1


async def test_an_idle_connection_is_closed_silently(tmp_path: Path) -> None:
    """After its answer, in good order."""
    async with proxy(tmp_path, timeouts=timeouts(idle=HASTE)) as it, wire(it.port) as caller:
        await caller.send(request())
        assert (await caller.answer()).status == 200
        assert await caller.closed() == b""
        assert len(it.ledger.ended) == 1


@pytest.mark.parametrize("target", [b"/open/a", b"/nowhere"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_callers_are_told_to_close_an_idle_connection_first(
    target: bytes, version: bytes, tmp_path: Path
) -> None:
    """Before we do: else a request may be on its way to a connection that is being closed, and is lost."""
    asks = b"close" if version == b"1.0" and target == b"/nowhere" else b"keep-alive"  # our own answers end HTTP/1.0
    async with proxy(tmp_path) as it:
        for connection in (asks, b"close"):
            reply = await ask(it.port, request(b"GET", target, b"Connection: " + connection, version=version))
            said = b"timeout=120" if connection == b"keep-alive" else None
            assert (reply.header(b"Connection"), reply.header(b"Keep-Alive")) == (connection, said)
    assert 120 < CALLER_TIMEOUTS.idle < 130


async def test_a_body_that_stops_is_answered_with_408(tmp_path: Path) -> None:
    """Nothing was sent: the body was to be held."""
    async with proxy(tmp_path, timeouts=timeouts(body_gap=HASTE, linger=0.1)) as it, wire(it.port) as caller:
        await caller.send(POST + b"abc")
        await _is_cut_off(it, caller, 408)


async def test_a_body_that_drips_ends_with_the_exchange(tmp_path: Path) -> None:
    """Each byte is in time, the body is not within exchange_timeout."""
    async with proxy(tmp_path, server={"exchange_timeout": 0.3}, timeouts=timeouts(linger=0.1)) as it:
        async with wire(it.port) as caller:
            await caller.send(POST.replace(b"10", b"1000"))
            async with _dripping(caller, b"a", gap=0.02):
                await _is_cut_off(it, caller, 408)
        assert it.gateway.admission.in_flight == 0


async def test_a_streamed_body_that_stops_is_never_complete_at_the_bank(tmp_path: Path) -> None:
    """The bank's connection is closed in the middle; whether it acted on what it has is unknown."""
    async with proxy(tmp_path, timeouts=timeouts(body_gap=0.2, linger=0.1)) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", b"/small/a", b"Content-Length: 1000") + b"a" * 500)
        reply = await caller.answer()
        assert (reply.status, reply.problem["sent_upstream"]) == (408, "unknown")
        assert await caller.closed() == b""
        await eventually(it.bank.peers[0].writer.is_closing)
        assert (it.bank.heads, it.bank.requests) == (1, [])


@pytest.mark.parametrize(("path", "heads"), [(b"/open/a", 0), (b"/small/a", 1)])
async def test_a_body_that_stops_until_the_exchange_is_over_is_the_callers_fault(
    path: bytes, heads: int, tmp_path: Path
) -> None:
    """Held or streamed: less than a gap is left of exchange_timeout, and nobody blames the bank."""
    async with proxy(tmp_path, server={"exchange_timeout": 0.3}, timeouts=timeouts(linger=0.1)) as it:
        async with wire(it.port) as caller:
            await caller.send(request(b"POST", path, b"Content-Length: 1000") + b"a" * 500)
            reply = await caller.answer()
        assert (reply.status, reply.problem["code"]) == (408, "bad_request")
        assert (it.bank.heads, it.bank.requests) == (heads, [])


BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"a" * 50_000_000


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_answer_that_is_not_read_is_given_up(method: bytes, tmp_path: Path) -> None:
    """The caller's connection is reset, and the record says that it left."""
    haste = timeouts(unread_answer=0.2)
    async with proxy(tmp_path, says(BIG), timeouts=haste) as it, wire(it.port, receive_buffer=8192) as caller:
        await caller.send(request(method))
        await caller.reader.readuntil(b"\r\n\r\n")
        exchange = await it.ended()
        assert exchange.caller_left
        assert (exchange.origin, exchange.status) == ("bank", 200)
        assert exchange.response_bytes < 20_000_000
        await eventually(lambda: not it.server.connections)


async def test_a_closing_connection_whose_answer_is_not_read_does_not_stay(tmp_path: Path) -> None:
    """What is left of the answer sits in the transport's buffer, below the mark at which anyone would wait."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"a" * 60_000
    async with proxy(tmp_path, says(answer), timeouts=timeouts(unread_answer=0.3, idle=0.2, linger_gap=0.2)) as it:
        for lines in ([], [b"Connection: close"]):
            async with wire(it.port, receive_buffer=2048) as caller:
                await caller.send(request(b"GET", b"/open/a", *lines) * 50)
                await caller.reader.readuntil(b"\r\n\r\n")
                await eventually(lambda: not it.server.connections)


async def test_a_caller_that_is_gone_leaves_no_timer(tmp_path: Path) -> None:
    """Its connection was clogged, and is not kept for the time that it had to read on."""
    async with proxy(tmp_path, says(BIG)) as it, wire(it.port, receive_buffer=8192) as caller:
        connection = await _takes_little(it)
        await caller.send(request(b"POST"))
        await eventually(lambda: connection.write_would_block)
        caller.reset()
        await it.ended()
        assert connection._timer._handle is None


async def _takes_little(it: Proxy) -> CallerConnection:
    """Return the connection of the one caller, whose kernel buffers hardly anything from now on."""
    await callers_are(it, 1)
    (connection,) = it.server.connections
    assert connection.transport is not None
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return connection


async def test_errors_that_are_not_read_do_not_pile_up(tmp_path: Path) -> None:
    """A caller that pipelines requests without end and reads nothing is stopped, and then given up."""
    async with proxy(tmp_path, timeouts=timeouts(unread_answer=0.3)) as it:
        async with wire(it.port, receive_buffer=2048) as caller:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(3):
                    while True:
                        caller.writer.write(request(b"GET", b"/nowhere") * 200)
                        await caller.writer.drain()
            await eventually(lambda: not it.server.connections)
        assert len(it.ledger.ended) < 20_000


async def test_others_do_not_wait_with_a_slow_one(tmp_path: Path) -> None:
    """Half a head, half a body and an unread answer hold up nobody."""

    async def by_target(peer: Peer) -> None:
        await peer.send(BIG if it.last.head.startswith(b"GET /open/big") else b"HTTP/1.1 204 No\r\n\r\n")

    async with proxy(tmp_path, by_target) as it, contextlib.AsyncExitStack() as stack:
        for data in (b"GET /op", POST + b"a", request(b"GET", b"/open/big")):
            caller = await stack.enter_async_context(wire(it.port, receive_buffer=8192))
            await caller.send(data)
        await eventually(lambda: len(it.bank.requests) == 1)
        for _ in range(20):
            assert (await ask(it.port, request(b"GET", b"/open/b"))).status == 204
