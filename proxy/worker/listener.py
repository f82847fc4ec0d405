"""The callers' server: aiohttp's web.Server with our own parser and connection life cycle.

This file holds every private name of aiohttp that the product uses; `check_seam` checks them at start. aiohttp's own
`start()` creates a task per request, echoes the input in answers to parse errors, has no deadline for head or body, and
does not report that a caller has disconnected; this one avoids all of that.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

from proxy.errors import BadRequest
from proxy.http1.inline_future import InlineFuture, InlineRun
from proxy.http1.notifier import Notifier
from proxy.http1.timer import NEVER, Timer
from proxy.http1.write_coalescer import CoalescedWriter, WriteCoalescer
from proxy.request_summary import RequestSummary
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.worker.caller_request import CallerRequest, Life
from proxy.worker.lingering import Lingering, LingeringClose
from proxy.worker.peer_certificate import peer_subject
from proxy.worker.request_head import HeadParser, refused
from proxy.worker.request_parser import NO_BODY, Message, RequestParser
from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts

_READ_BUFFER = 65536
_SILENT = logging.getLogger("proxy.worker.aiohttp")

# Requests parsed ahead of the current one; reading resumes when half of them are served. aiohttp's own numbers.
_MOST_WAITING = 32
_RESUME_WAITING = _MOST_WAITING // 2

Serve = Callable[[CallerRequest], Awaitable[None]]


def check_seam() -> None:
    """Raise RuntimeError if a private name that this file uses is missing in aiohttp."""
    wanted = (
        "_buffer_paused",
        "_loop",
        "_parser",
        "_pause_reading_for_buffer",
        "_resume_reading_for_buffer",
        "_waiter",
    )
    missing = [name for name in wanted if not hasattr(RequestHandler, name)]
    if missing:
        from importlib.metadata import version  # noqa: PLC0415 - 1 MB that no worker needs

        raise RuntimeError(f"aiohttp {version('aiohttp')} does not fit: missing {', '.join(missing)}")


class CallerServer(Server):
    """Creates the caller connections of all listening sockets of a worker."""

    def __init__(
        self,
        serve: Serve,
        *,
        max_header_bytes: int,
        max_body_bytes: int = 0,
        timeouts: CallerTimeouts = CALLER_TIMEOUTS,
    ) -> None:
        super().__init__(_no_handler)
        self.serve = serve
        self.timeouts = timeouts
        self.max_head = max_header_bytes + MAX_TARGET_BYTES
        self.max_body = max_body_bytes
        self.heads = HeadParser()
        self.life = Life()
        self.coalescer = WriteCoalescer()
        self.open_connections = 0  # number of open connections; aiohttp's `connections` builds a list
        self.serving = 0  # requests that are not recorded yet, even if their callers have disconnected
        self.lingering = Lingering(timeouts.lingering)

    def __call__(self) -> "CallerConnection":
        """Return the protocol object of a new connection."""
        return CallerConnection(self)

    def awaiting(self) -> Iterator[RequestSummary]:
        """Yield the summary of every request in flight whose caller is connected and has sent all of it."""
        for connection in self.connections:
            if isinstance(connection, CallerConnection) and (summary := connection.awaiting) is not None:
                yield summary

    def drain(self) -> None:
        """Close idle connections; the others close after their next response."""
        self.life.draining = True
        for connection in self.connections:
            if isinstance(connection, CallerConnection):
                connection.close_if_idle()


async def _no_handler(_: BaseRequest) -> StreamResponse:
    raise NotImplementedError


class CallerConnection(RequestHandler):
    """One connection of a caller; its requests are served one after the other."""

    __slots__ = (
        "_awaiting_head", "_dropping", "_head_started", "_lingering", "_queue", "_request", "_requests",
        "_room", "_server", "_timer", "_wire", "certificate_subject", "peer", "write_would_block", "writer",
    )  # fmt: skip

    def __init__(self, server: CallerServer) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=0,  # we have our own deadlines
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # as its own default says
            logger=_SILENT,
        )
        self._server = server
        self._timer = Timer(self._close_silently, monotonic=self._loop.time)
        self._awaiting_head = True
        self._head_started = False
        self._requests = RequestParser(
            self,
            self._loop,
            max_head=server.max_head,
            max_waiting=_MOST_WAITING,
            read_buffer=_READ_BUFFER,
            max_body=server.max_body,
            heads=server.heads,
        )
        self._parser = self._requests  # type: ignore[assignment]
        self._queue: deque[Message] = deque()  # complete heads
        self._request: CallerRequest | None = None  # the one being served
        self._room = Notifier()
        self.write_would_block = False
        self._dropping = False  # True: received data is dropped, not parsed
        self._lingering: LingeringClose | None = None
        self._wire: asyncio.Transport | None = None  # `transport`, kept until connection_lost
        self.writer: CoalescedWriter | None = None  # None while not connected
        self.peer = ""
        self.certificate_subject = ""

    @property
    def awaiting(self) -> RequestSummary | None:
        """Return the summary of the request that is being served, None if there is none or its body is not complete."""
        request = self._request
        return request.summary if request is not None and request.payload.is_eof() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store peer address and certificate subject, and start the head deadline."""
        super().connection_made(transport)
        self._wire = self.transport
        self.writer = CoalescedWriter(transport, self._server.coalescer)
        self._server.open_connections += 1
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else "unix"
        certificate = transport.get_extra_info("peercert")
        self.certificate_subject = peer_subject(certificate) if certificate else ""
        self._timer.start(self._server.timeouts.head, self._close_silently)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Clean up, and report it to the current request."""
        self._server.open_connections -= 1
        self._wire = self.writer = None
        self._timer.cancel()
        if self._lingering is not None:
            self._lingering.end()
        super().connection_lost(exc)
        self._room.wake()
        if self._request is not None:
            self._request.caller_left()

    def pause_writing(self) -> None:
        """Note that the transport's write buffer is full."""
        self.write_would_block = True

    def resume_writing(self) -> None:
        """Note that the write buffer has room again."""
        self.write_would_block = False
        self._room.wake()

    def data_received(self, data: bytes) -> None:
        """Parse *data*, or drop it in a lingering close; start the deadline of a head that arrives in parts."""
        if self._dropping:
            if self._lingering is not None:
                self._lingering.received()
            return
        if self.transport is None:
            return
        messages = self._requests.feed_data(data)
        if messages:
            self._queue += messages
            if not self._buffer_paused and len(self._queue) >= _MOST_WAITING:
                self._pause_reading_for_buffer()
            if self._waiter is not None:
                self._waiter.set_result(None)  # runs the request immediately: no statement may follow
        elif self._awaiting_head and not self._head_started and not self._queue and self._requests.in_head:
            self._head_started = True
            self._timer.start(self._server.timeouts.head, self._head_is_late)

    def eof_received(self) -> None:
        """Flush this iteration's writes: the loop closes the transport when this returns."""
        self._flush()

    async def start(self) -> None:
        """Serve until the connection ends; requests are run by `InlineRun`, this task only waits."""
        over: asyncio.Future[None] = self._loop.create_future()

        def ended(error: BaseException | None) -> None:
            if error is not None and not over.done():
                over.set_exception(error)
            elif not over.done():
                over.set_result(None)

        run = InlineRun(self._serve_in_order(), loop=self._loop, ended=ended)
        run.resume()
        try:
            await over
        except asyncio.CancelledError:
            run.cancel()
            raise

    async def _serve_in_order(self) -> None:
        """Serve requests in order until the connection ends."""
        timeouts = self._server.timeouts
        try:
            while self.transport is not None:
                if not self._queue:
                    self._awaiting_head = True
                    # InlineFuture[None](...) would cost as much as parsing a head.
                    waiter: InlineFuture[None] = InlineFuture(self._loop)
                    self._waiter = waiter  # type: ignore[assignment]
                    await waiter
                    self._waiter = None
                request = self._next()
                self._server.serving += 1
                try:
                    await self._server.serve(request)
                finally:
                    self._server.serving -= 1
                self._request = None
                if self.write_would_block:
                    await self.wait_for_room()
                if request.left:
                    break
                if request.closing or not request.payload.is_eof():
                    await self._linger(request)
                    break
                if self._requests.in_head and not self._queue:
                    self._head_started = True
                    self._timer.start(timeouts.head, self._head_is_late)
                else:
                    self._timer.start(timeouts.idle, self._close_silently)
        except (asyncio.CancelledError, ConnectionError):
            self._flush()
            if self.transport is not None:
                self.transport.abort()
        finally:
            self._request = None
            if self._wire is not None:
                self._flush()
                self._wire.close()
                self._timer.start(timeouts.unread_answer, self._wire.abort)  # close() waits until all data is sent

    def _next(self) -> CallerRequest:
        """Return the next queued request as the current one."""
        raw, body = self._queue.popleft()
        self._awaiting_head = self._head_started = False
        self._timer.expires = NEVER
        request = self._request = CallerRequest(self, raw, body, self._server.life)
        self._requests.message_consumed()
        if self._buffer_paused and len(self._queue) <= _RESUME_WAITING:
            self.data_received(b"")  # parses what was left
            if len(self._queue) < _MOST_WAITING:
                self._resume_reading_for_buffer()
        return request

    def disarm(self) -> None:
        """Cancel the current deadline."""
        self._timer.expires = NEVER

    def wait_for_body(self, within: float, on_deadline: Callable[[float], None]) -> None:
        """Call *on_deadline* with the seconds waited if the next piece of the body is late; `disarm` cancels this."""
        seconds = min(self._server.timeouts.body_gap, within)
        self._timer.start(seconds, lambda: on_deadline(seconds))

    def close_if_idle(self) -> None:
        """Close the connection if it has no request and no partial head."""
        if self._awaiting_head and self._requests.quiet and not self._queue:
            self._close_silently()

    async def wait_for_room(self) -> None:
        """Wait until the transport's write buffer has room; raises ConnectionError."""
        self._flush()
        if self.write_would_block and self._wire is not None:
            # Also cuts off steady readers below some 4 KB/s: a byte a minute would hold the response for ever.
            self._timer.start(self._server.timeouts.unread_answer, self.reset)
            await self._room.wait()
            self._timer.expires = NEVER
        if self._wire is None:
            raise ConnectionResetError("the caller has left")

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        transport = self.transport
        if transport is None:
            return
        self._flush()
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _close_silently(self) -> None:
        """Close a connection on which no complete request was read."""
        self._flush()
        self.force_close()

    def _head_is_late(self) -> None:
        """Queue an answer 408 for the unfinished head as the last request of this connection."""
        fault = BadRequest(f"The request's head did not arrive within {self._server.timeouts.head:g} s.", status=408)
        self._dropping = True
        self._queue.append((refused(fault), NO_BODY))
        if self._waiter is not None:
            self._waiter.set_result(None)

    async def _linger(self, answered: CallerRequest) -> None:
        """Read and drop what the caller may still send after *answered*; drop the unread body too."""
        transport = self.transport
        if transport is None or (self._requests.quiet and not self._queue and not self._dropping):
            return
        self._flush()
        self._dropping = True
        self._requests.end()
        answered.payload = NO_BODY
        lingering = self._lingering = LingeringClose(
            self._server.lingering, timer=self._timer, timeouts=self._server.timeouts
        )
        self._resume_reading_for_buffer()
        self.resume_reading(resume_parser=False)
        if transport.can_write_eof():
            with contextlib.suppress(OSError):  # the caller may have reset it, not reported yet
                transport.write_eof()
        await lingering.ended

    def _flush(self) -> None:
        """Send pending writes before the transport is closed or asked for room."""
        if self.writer is not None:
            self.writer.flush()
