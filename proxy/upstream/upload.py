"""Sends request bodies that don't fit in one write."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

# Bodies up to this size are sent with the head in one write; larger ones in pieces of this size, so that an early
# response stops them, and encrypting one piece never blocks the loop for a millisecond.
PIECE_BYTES: Final = 65536


class Writer(Protocol):
    """What an upload needs from its connection."""

    def settled(self) -> bool:
        """Return whether the response's head or an error is there; then nothing more is sent."""

    async def write(self, pieces: Sequence[bytes | memoryview]) -> bool:
        """Write *pieces* once there is room; return False, and write nothing, if the exchange is settled before."""

    async def wait(self) -> None:
        """Wait until the connection settles or `wake` is called."""

    def wake(self) -> None:
        """Wake the waiting coroutine."""

    def wait_for_caller(self) -> None:
        """Charge the time from now on to the caller, not to the bank."""


async def send_pieces(writer: Writer, head: bytes, body: bytes) -> bool:
    """Send *head* and *body* in pieces; return whether all of it was written."""
    view = memoryview(body)
    if not await writer.write((head, view[:PIECE_BYTES])):
        return False
    for start in range(PIECE_BYTES, len(body), PIECE_BYTES):
        await asyncio.sleep(0)  # let other requests run between the pieces
        if not await writer.write((view[start : start + PIECE_BYTES],)):
            return False
    return True


async def send_stream(writer: Writer, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    """Send *head* and the pieces of *body* as they arrive; return whether all of it was written.

    A separate task sends them, since the bank may answer while the iterator is awaited; it has ended when this returns.
    Exceptions of the iterator propagate, unless the exchange was settled before.
    """
    pump = asyncio.get_running_loop().create_task(_pump(writer, head, body, chunked=chunked))
    pump.add_done_callback(lambda _: writer.wake())
    try:
        while not (pump.done() or writer.settled()):
            await writer.wait()
    finally:
        stopped = not pump.done()
        if stopped:
            pump.cancel()
            await asyncio.wait((pump,))
    if stopped or writer.settled():
        if not pump.cancelled():
            pump.exception()  # the exchange is settled: errors in the rest of the body are irrelevant
        return pump.done() and not stopped and not pump.cancelled() and pump.exception() is None and pump.result()
    return pump.result()


async def _pump(writer: Writer, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    start: tuple[bytes, ...] = (head,)  # sent with the first piece: if the body fails at once, nothing was sent
    try:
        writer.wait_for_caller()
        async for piece in body:
            if not piece:
                continue  # an empty chunk would end the body
            framed = (b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else (piece,)
            if not await writer.write((*start, *framed)):
                return False
            start = ()
            writer.wait_for_caller()
        end = (*start, b"0\r\n\r\n") if chunked else start
        return not end or await writer.write(end)
    finally:
        close = getattr(body, "aclose", None)  # of a generator, as tests use
        if close is not None:
            await close()
