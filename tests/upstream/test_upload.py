import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from proxy.errors import Sent, UpstreamReset, UpstreamTimedOut, UpstreamUnreachable
from proxy.upstream.connection import Connection
from proxy.upstream.upload import PIECE_BYTES, send
from tests.upstream.support import (
    CHUNKED_POST,
    OK,
    Peer,
    ask,
    bank,
    call,
    eventually,
    pool_of,
    post,
    says,
    says_and_closes,
    says_and_resets,
    says_nothing,
    soon,
    whole,
)

REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"


class CallerLeft(Exception):
    """What the caller's side raises when the caller dies half-way."""


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    """Yield *given*, letting the loop run between them."""
    for piece in given:
        yield piece
        await asyncio.sleep(0)


async def stream(connection: Connection, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bytes:
    """Send *body* and return the whole answer."""
    answer = await send(connection, head, body, method="POST", chunked=chunked, now=soon(0), deadline=soon())
    try:
        return await whole(answer)
    finally:
        answer.release()


@pytest.mark.parametrize("size", [PIECE_BYTES, PIECE_BYTES + 1, 1_000_000, 5_000_000])
async def test_a_large_body_arrives_whole(size: int) -> None:
    """In one write or in many, the bank reads the same bytes, and the connection stays good."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with bank() as it, pool_of(it.port) as pool:
        assert await call(pool, post(size), body, method="POST") == (200, b"ok", False)
        assert await call(pool) == (200, b"ok", True)
        assert it.requests[0].body == body


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_streamed_body_arrives_whole(*, chunked: bool) -> None:
    """Chunk-encoded or raw, empty pieces skipped since an empty chunk would end the body."""
    head = CHUNKED_POST if chunked else post(11)
    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        assert await stream(connection, head, pieces(b"hello", b"", b" world"), chunked=chunked) == b"ok"
        assert (it.requests[0].head, it.requests[0].body) == (head, b"hello world")
        assert await call(pool) == (200, b"ok", True)


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_empty_stream_is_an_empty_body(*, chunked: bool) -> None:
    """No piece at all is a body of no bytes."""
    head = CHUNKED_POST if chunked else post(0)
    async with bank() as it, pool_of(it.port) as pool:
        assert await stream(await pool.connect(), head, pieces(), chunked=chunked) == b"ok"
        assert it.requests[0].body == b""


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_fails_half_way_is_never_completed(*, chunked: bool) -> None:
    """The caller's error passes, and the bank sees a cut, not an end (bad-inputs 20, 21)."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"hello"
        await asyncio.sleep(0.02)
        raise CallerLeft

    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        with pytest.raises(CallerLeft):
            await stream(connection, CHUNKED_POST if chunked else post(11), failing(), chunked=chunked)

        assert (connection.sent, connection.closed) == (True, True)
        await eventually(lambda: bool(it.peers) and it.peers[0].writer.is_closing())
        assert (it.heads, it.requests) == (1, [])


async def test_a_body_that_fails_at_once_has_sent_nothing() -> None:
    """The head leaves with the first piece."""

    async def failing() -> AsyncIterator[bytes]:
        raise CallerLeft
        yield b""

    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        with pytest.raises(CallerLeft):
            await stream(connection, CHUNKED_POST, failing(), chunked=True)
        assert not connection.sent
        assert it.heads == 0


async def test_a_connection_lost_before_the_first_piece_has_sent_nothing() -> None:
    """While the caller's first byte is waited for, the bank may go away without harm."""
    ended = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        try:
            await asyncio.sleep(30)
            yield b""
        finally:
            ended.set()

    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        request = asyncio.ensure_future(stream(connection, CHUNKED_POST, waiting(), chunked=True))
        await eventually(lambda: it.connections == 1)
        it.peers[0].reset()
        with pytest.raises(UpstreamUnreachable) as refusal:
            await request
        assert (connection.sent, refusal.value.sent) == (False, Sent.NO)
        assert ended.is_set()


async def test_an_answer_before_the_first_piece_is_nobodys() -> None:
    """Nothing was sent yet, so what the bank says is no answer to it."""

    async def waiting() -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        request = asyncio.ensure_future(stream(connection, CHUNKED_POST, waiting(), chunked=True))
        await eventually(lambda: it.connections == 1)
        await it.peers[0].send(OK)
        with pytest.raises(UpstreamUnreachable):
            await request
        assert not connection.sent


@pytest.mark.parametrize(
    ("step", "status"),
    [(says_and_closes(REFUSAL), 413), (says(REFUSAL), 413), (says(OK), 200), (says_and_resets(REFUSAL), 413)],
    ids=["413, fin", "413, keep-alive", "200, keep-alive", "413, rst"],
)
@pytest.mark.parametrize("kind", ["bytes", "raw stream", "chunked stream"])
async def test_an_early_answer_stops_the_body(step: object, status: int, kind: str) -> None:
    """The bank answers a body of 20 MB after its head: the answer is handed on, the rest not sent (bad-inputs 91)."""
    produced = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(300):
            produced += 1
            yield bytes(65536)

    size = 300 * 65536
    body = bytes(size) if kind == "bytes" else endless()
    head = CHUNKED_POST if kind == "chunked stream" else post(size)
    async with bank(step, early=True) as it, pool_of(it.port) as pool:  # type: ignore[arg-type]
        connection = await pool.connect()
        answer = await send(
            connection, head, body, method="POST", chunked=kind == "chunked stream", now=soon(0), deadline=soon()
        )
        assert answer.status == status
        assert await whole(answer) in {b"big", b"ok"}
        answer.release()

        assert connection.closed
        assert kind == "bytes" or 0 < produced < 300
        assert it.heads == 1


async def test_an_early_answer_is_read_before_a_write_fails_for_the_reset_behind_it() -> None:
    """Answer and reset are in the kernel when the next piece is to be written: the answer counts (bad-inputs 91)."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        async def body() -> AsyncIterator[bytes]:
            yield bytes(1000)
            await asyncio.sleep(0.02)
            peer, _ = server.accept()  # the bank acts between two turns of our loop
            with peer:
                peer.recv(10)
                peer.sendall(REFUSAL)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            yield bytes(1000)
            yield bytes(1000)

        async with pool_of(server.getsockname()[1]) as pool:
            connection = await pool.connect()
            answer = await send(connection, post(3000), body(), method="POST", now=soon(0), deadline=soon())
            assert (answer.status, await whole(answer)) == (413, b"big")
            answer.release()
            assert connection.closed


async def test_an_early_answer_ends_a_body_that_waits_for_its_caller() -> None:
    """The iterator is cancelled and has ended when the answer is returned."""
    ended = False

    async def stuck() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            yield b"hello"
            await asyncio.sleep(30)
        finally:
            ended = True

    async with bank(says(REFUSAL), early=True) as it, pool_of(it.port) as pool:
        answer = await send(
            await pool.connect(), CHUNKED_POST, stuck(), method="POST", chunked=True, now=soon(0), deadline=soon()
        )
        assert (answer.status, ended) == (413, True)
        answer.release()
        assert pool.idle() is None


async def test_an_early_answer_ends_a_body_that_waits_for_room() -> None:
    """The iterator is closed also when it is the connection that has no room."""
    ended = False

    async def fast() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield bytes(1_000_000)
        finally:
            ended = True

    async def late(peer: Peer) -> None:
        await asyncio.sleep(0.1)
        await peer.send(REFUSAL)

    async with bank(late, early=True) as it, pool_of(it.port) as pool:
        answer = await send(
            await pool.connect(), CHUNKED_POST, fast(), method="POST", chunked=True, now=soon(0), deadline=soon()
        )
        assert (answer.status, ended) == (413, True)
        answer.release()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_bank_that_reads_no_more_is_given_up(*, streamed: bool) -> None:
    """A stalled upload is bounded like any other wait (finding 12)."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async with bank(deaf, early=True) as it, pool_of(it.port, response_timeout=0.1) as pool:
        connection = await pool.connect()
        body = endless() if streamed else bytes(50_000_000)
        with pytest.raises(UpstreamTimedOut) as refusal:
            await send(connection, post(50_000_000), body, method="POST", now=soon(0), deadline=soon())
        assert "handed to the bank" in refusal.value.detail


async def test_a_slow_caller_is_not_held_against_the_bank() -> None:
    """Waiting for the next piece of the body does not count as the bank's silence."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"hello"
        await asyncio.sleep(0.2)
        yield b" world"

    async with bank() as it, pool_of(it.port, response_timeout=0.08) as pool:
        assert await stream(await pool.connect(), post(11), slow(), chunked=False) == b"ok"
        assert it.requests[0].body == b"hello world"


async def test_the_deadline_ends_a_body_that_never_comes() -> None:
    """Nothing waits longer than the exchange may last."""

    async def stuck() -> AsyncIterator[bytes]:
        yield b"hello"
        await asyncio.sleep(30)

    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        with pytest.raises(UpstreamTimedOut):
            await send(connection, post(11), stuck(), method="POST", now=soon(0), deadline=soon(0.05))
        assert it.requests == []


async def test_back_pressure_reaches_the_iterator() -> None:
    """A bank that does not read stops the pieces from being asked for: they would fill the memory."""
    asked = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield bytes(65536)

    async with bank(says_nothing, early=True) as it, pool_of(it.port) as pool:
        # says_nothing reads; this one must not.
        async def deaf(peer: Peer) -> None:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

        it.script = [deaf]
        connection = await pool.connect()
        request = asyncio.ensure_future(
            send(connection, CHUNKED_POST, counted(), method="POST", chunked=True, now=soon(0), deadline=soon())
        )
        before = -1
        while before != asked:
            before = asked
            await asyncio.sleep(0.05)
        assert connection._transport.get_write_buffer_size() < 400_000
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert connection.closed


@pytest.mark.parametrize("step", [says_and_closes(b""), says_and_resets(b"")], ids=["fin", "rst"])
async def test_a_connection_that_breaks_during_the_body_is_a_reset(step: object) -> None:
    """Outcome unknown, and the body is not sent again (bad-inputs 76)."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    async with bank(step, early=True) as it, pool_of(it.port) as pool:  # type: ignore[arg-type]
        connection = await pool.connect()
        with pytest.raises(UpstreamReset):
            await send(connection, CHUNKED_POST, endless(), method="POST", chunked=True, now=soon(0), deadline=soon())
        assert connection.sent
        assert it.heads == 1


async def test_an_early_answer_on_a_reused_connection_ends_it_too() -> None:
    """What the exchange before it did does not count."""
    async with bank() as it, pool_of(it.port) as pool:
        await call(pool)
        it.early = True
        connection = await pool.connect()
        assert connection.reused
        answer = await ask(connection, post(20_000_000), bytes(20_000_000), method="POST")
        assert await whole(answer) == b"ok"
        answer.release()
        assert connection.closed


async def test_an_answer_that_comes_before_the_kernel_has_taken_the_body_ends_the_connection() -> None:
    """All was handed to the transport, but the bank can't have read it: the rest may look like a request to it."""
    async with bank(early=True) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        assert await stream(connection, post(20_000_000), pieces(bytes(20_000_000)), chunked=False) == b"ok"
        assert connection.closed


async def test_a_slow_caller_after_a_slow_bank_is_not_held_against_the_bank() -> None:
    """Once there is room again, the time is the caller's."""

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(8_000_000)
        yield b"hello"
        await asyncio.sleep(0.3)
        yield b" world"

    async with bank() as it, pool_of(it.port, response_timeout=0.15) as pool:
        assert await stream(await pool.connect(), post(8_000_011), slow(), chunked=False) == b"ok"
        assert it.requests[0].body.endswith(b"hello world")


async def test_a_whole_body_sent_before_the_answer_keeps_the_connection() -> None:
    """Only an answer that comes early spoils the connection."""
    async with bank() as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect(), post(300_000), bytes(300_000), method="POST")
        answer.release()
        assert await call(pool) == (200, b"ok", True)
