"""A caller made of a raw socket: it sends what it is told, and reads answers strictly."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

PATIENCE = 60.0  # seconds until a test that waits for the proxy has failed


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer as it came."""

    status: int
    reason: bytes
    lines: tuple[tuple[bytes, bytes], ...]
    body: bytes
    cut: bool = False

    def header(self, name: bytes) -> bytes | None:
        """Return the one value of *name*, None without it."""
        values = [value for key, value in self.lines if key.lower() == name.lower()]
        assert len(values) < 2
        return values[0] if values else None

    @property
    def problem(self) -> dict[str, Any]:
        """Return the problem document."""
        assert self.header(b"Content-Type") == b"application/problem+json"
        document = json.loads(self.body)
        assert set(document) == {
            "type", "title", "status", "detail", "code", "request_id", "sent_upstream", "retryable",
        }  # fmt: skip
        assert document["type"] == f"docs/errors.md#{document['code']}"
        assert document["status"] == self.status
        assert document["request_id"].encode() == self.header(b"Payproxy-Request-Id")
        return document  # type: ignore[no-any-return]


class Wire:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send each of *pieces* as a segment of its own; a proxy that has closed is no fault here."""
        for number, piece in enumerate(pieces):
            if self.writer.is_closing():  # uvloop raises RuntimeError for a write then, asyncio nothing
                return
            with contextlib.suppress(ConnectionError):
                self.writer.write(piece)
                await self.writer.drain()
            if number + 1 < len(pieces):
                await asyncio.sleep(0.002)

    async def drip(self, data: bytes, *, size: int = 1) -> None:
        """Send *data* in segments of *size* bytes."""
        for start in range(0, len(data), size):
            self.writer.write(data[start : start + size])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def answer(self, *, method: str = "GET") -> Reply:
        """Read one answer to a *method* request, skipping none; raises what the connection's end raises."""
        async with asyncio.timeout(PATIENCE):
            return await self._answer(method)

    async def _answer(self, method: str) -> Reply:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = head[:-4].split(b"\r\n")
        version, status, reason = first.split(b" ", 2)
        assert version == b"HTTP/1.1"
        lines = tuple(_field(line) for line in rest)
        named = {name.lower(): value for name, value in lines}
        code = int(status)
        reply = Reply(status=code, reason=reason, lines=lines, body=b"")
        if code < 200 or method == "HEAD" or code in {204, 304}:
            return reply
        body, cut = await self._body(named)
        return Reply(status=code, reason=reason, lines=lines, body=body, cut=cut)

    async def _body(self, named: dict[bytes, bytes]) -> tuple[bytes, bool]:
        found = b""
        try:
            if b"content-length" in named:
                assert b"transfer-encoding" not in named
                return await self.reader.readexactly(int(named[b"content-length"])), False
            if b"transfer-encoding" in named:
                assert named[b"transfer-encoding"] == b"chunked"
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    found += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
                return found, False
            assert named[b"connection"] == b"close"
            while piece := await self.reader.read(65536):
                found += piece
        except asyncio.IncompleteReadError as error:
            return found + error.partial, True
        except ConnectionError:
            return found, True
        return found, False

    async def closed(self) -> bytes:
        """Wait for the end of the connection; return what came before it."""
        rest = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    rest += piece
        return rest

    def half_close(self) -> None:
        """Send no more."""
        self.writer.write_eof()

    def leave(self) -> None:
        """Go away in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Go away with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    assert colon, line
    return name, value.strip(b" \t")


@contextlib.asynccontextmanager
async def wire(port: int, *, receive_buffer: int = 0) -> AsyncIterator[Wire]:
    """Open a connection to *port* of loopback; *receive_buffer* makes a caller that takes little."""
    raw = socket.socket()
    raw.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    except BaseException:
        raw.close()
        raise
    reader, writer = await asyncio.open_connection(sock=raw, limit=receive_buffer or 262144)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(port: int, *pieces: bytes, method: str = "GET") -> Reply:
    """Return the first answer to *pieces* on a connection of their own."""
    async with wire(port) as it:
        await it.send(*pieces)
        return await it.answer(method=method)


def request(
    method: bytes = b"GET", target: bytes = b"/open/a", *lines: bytes, body: bytes = b"", version: bytes = b"1.1"
) -> bytes:
    """Return a request with Host, *lines* and, if there is a *body*, its Content-Length."""
    length = [b"Content-Length: %d" % len(body)] if body else []
    head = [b"%b %b HTTP/%b" % (method, target, version), b"Host: localhost", *lines, *length, b"", b""]
    return b"\r\n".join(head) + body


def chunked(*pieces: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    """Return *pieces* as chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + last


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return *data* cut at *cuts*."""
    at = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(at)]
