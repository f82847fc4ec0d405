"""Request bodies that don't leave in one write."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

# Bodies up to this size leave together with the head in one write; larger ones in pieces of this size, so that an
# early answer stops them and encrypting one piece never holds the loop for a millisecond.
PIECE_BYTES: Final = 65536


class Writer(Protocol):
    """What an upload needs of its connection."""

    def settled(self) -> bool:
        """Tell whether the answer's head, or a failure, is there: then nothing more is to be sent."""

    async def write(self, pieces: Sequence[bytes | memoryview]) -> bool:
        """Hand *pieces* over once there is room; false, and nothing handed over, if settled before."""

    async def wait(self) -> None:
        """Wait until the connection settles or somebody calls `wake`."""

    def wake(self) -> None:
        """Wake whoever waits."""

    def wait_for_caller(self) -> None:
        """Count the time from now on as the caller's, not the bank's."""


async def send_pieces(writer: Writer, head: bytes, body: bytes) -> bool:
    """Send *head* and *body* in pieces; return whether all of it was handed over."""
    view = memoryview(body)
    if not await writer.write((head, view[:PIECE_BYTES])):
        return False
    for start in range(PIECE_BYTES, len(body), PIECE_BYTES):
        await asyncio.sleep(0)  # other requests have their turn between the pieces
        if not await writer.write((view[start : start + PIECE_BYTES],)):
            return False
    return True


async def send_stream(writer: Writer, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    """Send *head* and the pieces of *body* as they come; return whether all of it was handed over.

    A task of its own pumps them, since the bank may answer while the iterator is waited for; it has ended when this
    returns. What the iterator raises passes, unless the bank has settled the matter before.
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
            pump.exception()  # the bank has spoken or is gone: what became of the rest of the body is of no interest
        return pump.done() and not stopped and not pump.cancelled() and pump.exception() is None and pump.result()
    return pump.result()


async def _pump(writer: Writer, head: bytes, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
    start: tuple[bytes, ...] = (head,)  # leaves with the first piece: a body that fails at once has sent nothing
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
        close = getattr(body, "aclose", None)  # of a generator, as tests have
        if close is not None:
            await close()
