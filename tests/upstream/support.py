"""A bank made of raw sockets: it counts, records and misbehaves as scripted."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from proxy.clock import SystemClock
from proxy.upstream.connection import Connection
from proxy.upstream.opener import Upstream
from proxy.upstream.pool import Pool
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.upload import send

CLOCK = SystemClock()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /a HTTP/1.1\r\nHost: bank\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.1\r\nHost: bank\r\n\r\n"


def post(size: int) -> bytes:
    """Return the head of a POST with *size* bytes."""
    return b"POST /pay HTTP/1.1\r\nHost: bank\r\nContent-Length: %d\r\n\r\n" % size


CHUNKED_POST = b"POST /pay HTTP/1.1\r\nHost: bank\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(kw_only=True)
class Request:
    """A request that came whole, and the connection (counted from 1) it came on."""

    head: bytes
    body: bytes
    connection: int


class Peer:
    """The bank's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send *data*; a proxy that has gone away is no fault of the bank."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def reset(self) -> None:
        """Close with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def head(self) -> bytes:
        """Read one request head; raises IncompleteReadError at the end of the connection."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> bytes:
        """Read the body that *head* announces, strictly."""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"Content-Length":
                return await self.reader.readexactly(int(value))
            if (name, value) == (b"Transfer-Encoding", b"chunked"):
                return b"".join([piece async for piece in self._chunks()])
        return b""

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            data = await self.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if not size:
                return
            yield data[:-2]


Step = Callable[[Peer], Awaitable[None]]


def says(data: bytes) -> Step:
    """Answer with *data*."""
    return lambda peer: peer.send(data)


def says_and_closes(data: bytes) -> Step:
    """Answer with *data*, then close in good order."""

    async def step(peer: Peer) -> None:
        await peer.send(data)
        peer.writer.close()

    return step


def says_and_resets(data: bytes) -> Step:
    """Answer with *data*, give it time to arrive, then reset the connection."""

    async def step(peer: Peer) -> None:
        await peer.send(data)
        await asyncio.sleep(0.05 if data else 0)
        peer.reset()

    return step


async def says_nothing(peer: Peer) -> None:
    """Let the proxy wait until it gives up."""
    with contextlib.suppress(ConnectionError):
        await peer.reader.read()


@dataclass(kw_only=True)
class Bank:
    """A server whose answer to the nth request is the nth step of its script; the last one repeats.

    With `early`, a step runs when a request's head is there, before its body is read, and nothing is read afterwards.
    """

    script: list[Step] = field(default_factory=lambda: [says(OK)])
    early: bool = False
    connections: int = 0
    heads: int = 0
    requests: list[Request] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    port: int = 0
    handshake_failures: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.connections += 1
        number = self.connections
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            while not writer.is_closing():
                head = await peer.head()
                step = self.script[min(self.heads, len(self.script) - 1)]
                self.heads += 1
                if self.early:
                    await step(peer)
                    return
                self.requests.append(Request(head=head, body=await peer.body(head), connection=number))
                await step(peer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, ssl.SSLError):
            pass
        except RuntimeError:  # uvloop's, for writing to who has hung up
            if not writer.is_closing():
                raise
        finally:
            if not self.early:
                writer.close()


@contextlib.asynccontextmanager
async def bank(*script: Step, early: bool = False, tls: ssl.SSLContext | None = None) -> AsyncIterator[Bank]:
    """Run a bank on loopback."""
    it = Bank(script=list(script) or [says(OK)], early=early)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for peer in it.peers:
            with contextlib.suppress(AttributeError):  # of Python 3.11.2, where TLS is closed already
                peer.writer.transport.abort()
        await server.wait_closed()
        await eventually(lambda: all(peer.writer.transport.is_closing() for peer in it.peers))
        for _ in range(3):
            await asyncio.sleep(0)


UPSTREAM = Upstream(
    scheme="http",
    host="127.0.0.1",
    port=0,
    connect_timeout=2.0,
    response_timeout=2.0,
    idle_timeout=5.0,
    ca_file="",
    client_certificate_file="",
    client_key_file="",
    egress_proxy="",
    max_connections=8,
)


@contextlib.asynccontextmanager
async def pool_of(port: int, **changes: object) -> AsyncIterator[Pool]:
    """Run a pool towards *port* with the settings of UPSTREAM but *changes*."""
    it = Pool(replace(UPSTREAM, **{"port": port, **changes}), clock=CLOCK)  # type: ignore[arg-type]
    try:
        yield it
    finally:
        await it.close()


async def eventually(condition: Callable[[], bool], *, within: float = 60.0) -> None:
    """Wait until *condition* holds; fails after *within* seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - any condition of either side, not one event
            await asyncio.sleep(0.005)


def soon(seconds: float = 10.0) -> float:
    """Return a deadline."""
    return CLOCK.monotonic() + seconds


async def ask(connection: Connection, head: bytes = GET, body: bytes = b"", *, method: str = "GET") -> UpstreamResponse:
    """Send one request."""
    return await send(connection, head, body, method=method, now=soon(0), deadline=soon())


async def whole(answer: UpstreamResponse) -> bytes:
    """Read the rest of *answer*."""
    pieces = []
    while piece := await answer.read():
        pieces.append(piece)
    return b"".join(pieces)


async def call(pool: Pool, head: bytes = GET, body: bytes = b"", *, method: str = "GET") -> tuple[int, bytes, bool]:
    """Make one whole exchange; return status, body and whether the connection was reused."""
    connection = await pool.connect()
    answer = await ask(connection, head, body, method=method)
    try:
        return answer.status, await whole(answer), connection.reused
    finally:
        answer.release()
