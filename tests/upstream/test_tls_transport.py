import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.upstream.certificates import Authority, server_context
from tests.upstream.support import OK, Peer, bank, call, eventually, pool_of, post, says

_DATA_RECORD = b"\x17\x03\x03\x00\x40"  # RFC 8446 5.1: application data, 64 bytes that don't come
_HALVES = [_DATA_RECORD[:1], _DATA_RECORD, _DATA_RECORD + bytes(20)]


def write_below_tls(peer: Peer, data: bytes) -> None:
    """Put *data* on the wire as it is."""
    os.write(peer.writer.get_extra_info("socket").fileno(), data)


@pytest.mark.parametrize("half", _HALVES, ids=["one byte", "a header", "some of it"])
async def test_half_a_record_on_an_idle_connection_makes_it_dirty(tmp_path: Path, half: bytes) -> None:
    """Its other half, after our next request, would pass for the answer to that (bad-inputs 89)."""
    authority = Authority(tmp_path)
    async with bank(tls=server_context(authority.identity("bank"))) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            await call(pool)
            write_below_tls(it.peers[0], half)
            await eventually(lambda: not pool._open)
            assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (2, 2)


async def test_half_a_record_behind_an_answer_ends_the_connection(tmp_path: Path) -> None:
    """The answer is whole and good, and no other request is sent where the next one may have begun."""

    async def says_more(peer: Peer) -> None:
        await peer.send(OK)
        write_below_tls(peer, _DATA_RECORD)

    authority = Authority(tmp_path)
    async with bank(says_more, says(OK), tls=server_context(authority.identity("bank"))) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            assert await call(pool) == (200, b"ok", False)
            await eventually(lambda: not pool._open)
            assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (2, 2)


@contextlib.asynccontextmanager
async def dripping(port: int) -> AsyncIterator[int]:
    """Run a relay to *port* on loopback that hands on what comes back in single bytes; gives its own port."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upload = asyncio.ensure_future(pump(reader, forth, 65536))
        await pump(back, writer, 1)
        await upload

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(size):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_records_that_come_byte_by_byte_are_put_together(tmp_path: Path) -> None:
    """While a handshake or an answer is due, a record in pieces is no fault, and the connection serves again."""
    authority = Authority(tmp_path)
    async with bank(tls=server_context(authority.identity("bank"))) as it, dripping(it.port) as port:
        async with pool_of(port, scheme="https", ca_file=str(authority.own.file)) as pool:
            assert await call(pool, post(100_000), bytes(100_000), method="POST") == (200, b"ok", False)
            assert await call(pool) == (200, b"ok", True)
        assert (it.heads, it.connections) == (2, 1)
