"""Sends a request with a body of any size; for the usual one, in one write, see `Connection.send_whole`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Final

from proxy.upstream.connection import Connection
from proxy.upstream.response import UpstreamResponse

# Bodies up to this size are sent with the head in one write; larger ones in pieces of this size, so that an early
# response stops them, and encrypting one piece never blocks the loop for a millisecond.
PIECE_BYTES: Final = 65536


async def send(
    connection: Connection,
    head: bytes,
    body: bytes | AsyncIterator[bytes],
    *,
    method: str,
    chunked: bool = False,
    now: float,
    deadline: float,
) -> UpstreamResponse:
    """Send one request on *connection* at monotonic *now*; return its response as soon as the response's head is there.

    *head* ends in CRLF CRLF and says how *body* is framed; an iterator's pieces are chunk-encoded if *chunked*.
    *deadline* (monotonic) ends the whole exchange, and no single wait for the bank exceeds the response time-out. If
    the bank answers early, the rest of the body is not sent. If the iterator raises, the connection is aborted, so that
    the bank never sees a complete request, and the exception propagates.

    Raises UpstreamUnreachable while `sent` is false, else UpstreamReset, UpstreamBadResponse or UpstreamTimedOut.
    """
    to_head = method == "HEAD"
    if isinstance(body, bytes) and len(body) <= PIECE_BYTES:
        waiting: Awaitable[UpstreamResponse]
        waiting = connection.send_whole(head + body, to_head=to_head, now=now, deadline=deadline)
    else:
        connection.begin(to_head=to_head, now=now, deadline=deadline)
        waiting = _send_long(connection, head, body, chunked=chunked)
    try:
        return await waiting
    except BaseException:
        connection.abort()
        raise


async def _send_long(
    connection: Connection, head: bytes, body: bytes | AsyncIterator[bytes], *, chunked: bool
) -> UpstreamResponse:
    if isinstance(body, bytes):
        complete = await _send_pieces(connection, head, body)
    else:
        complete = await _send_stream(connection, head, body, chunked=chunked)
    return await connection.response(complete=complete)


async def _send_pieces(connection: Connection, head: bytes, body: bytes) -> bool:
    """Send *head* and *body* in pieces; return whether all of it was written."""
    view = memoryview(body)
    if not await connection.write((head, view[:PIECE_BYTES])):
        return False
    for start in range(PIECE_BYTES, len(body), PIECE_BYTES):
        await asyncio.sleep(0)  # let other requests run between the pieces
        if not await connection.write((view[start : start + PIECE_BYTES],)):
            return False
    return True


async def _send_stream(connection: Connection, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    """Send *head* and the pieces of *body* as they arrive; return whether all of it was written.

    A separate task sends them, since the bank may answer while the iterator is awaited; it has ended when this returns.
    Exceptions of the iterator propagate, unless the exchange was settled before.
    """
    pump = asyncio.get_running_loop().create_task(_pump(connection, head, body, chunked=chunked))
    pump.add_done_callback(lambda _: connection.wake())
    try:
        while not (pump.done() or connection.settled()):
            await connection.wait()
    finally:
        stopped = not pump.done()
        if stopped:
            pump.cancel()
            await asyncio.wait((pump,))
    if stopped or connection.settled():
        if not pump.cancelled():
            pump.exception()  # the exchange is settled: errors in the rest of the body are irrelevant
        return pump.done() and not stopped and not pump.cancelled() and pump.exception() is None and pump.result()
    return pump.result()


async def _pump(connection: Connection, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    start: tuple[bytes, ...] = (head,)  # sent with the first piece: if the body fails at once, nothing was sent
    try:
        connection.wait_for_caller()
        async for piece in body:
            if not piece:
                continue  # an empty chunk would end the body
            framed = (b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else (piece,)
            if not await connection.write((*start, *framed)):
                return False
            start = ()
            connection.wait_for_caller()
        end = (*start, b"0\r\n\r\n") if chunked else start
        return not end or await connection.write(end)
    finally:
        close = getattr(body, "aclose", None)  # of a generator, as tests use
        if close is not None:
            await close()
