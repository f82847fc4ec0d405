import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.upstream.write_coalescer import WriteCoalescer
from proxy.worker.response_writer import Outgoing


@asynccontextmanager
async def outgoing() -> AsyncIterator[tuple[Outgoing, asyncio.Transport, socket.socket]]:
    """Yield what writes to a socket, its transport, and the socket's other end, which never blocks."""
    near, far = socket.socketpair()
    far.settimeout(0)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    try:
        outbox = WriteCoalescer()
        outbox._usual = 1000  # a busy loop
        yield Outgoing(transport, outbox), transport, far
    finally:
        transport.abort()
        far.close()


def received(far: socket.socket) -> bytes:
    """Return what has come by now."""
    try:
        return far.recv(1 << 20)
    except BlockingIOError:
        return b""


async def test_what_is_written_in_a_turn_goes_out_at_its_end() -> None:
    """In order and in one piece."""
    async with outgoing() as (it, _, far):
        it.write(b"one ")
        it.write(b"two")
        assert received(far) == b""
        await asyncio.sleep(0)
        assert received(far) == b"one two"


async def test_it_goes_out_at_once_where_somebody_is_about_to_close() -> None:
    """Nothing comes twice."""
    async with outgoing() as (it, transport, far):
        it.write(b"all")
        it.flush()
        transport.close()
        it.write(b"too late")
        for _ in range(3):
            await asyncio.sleep(0)
        assert received(far) == b"all"


async def test_what_is_large_does_not_wait() -> None:
    """Behind what was written before."""
    async with outgoing() as (it, _, far):
        it.write(b"small")
        it.write(bytes(65536))
        assert received(far) == b"small" + bytes(65536)


async def test_nothing_is_gathered_behind_what_the_caller_has_not_taken() -> None:
    """The transport tells at once that it has no room: who asks then must not hear of an earlier time."""
    async with outgoing() as (it, transport, _):
        while not transport.get_write_buffer_size():
            it.write(bytes(65537))
        unsent = transport.get_write_buffer_size()
        it.write(b"more")
        assert transport.get_write_buffer_size() == unsent + 4
