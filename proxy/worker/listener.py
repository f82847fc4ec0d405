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
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.errors import BadRequest
from proxy.http1.inline_future import InlineFuture, InlineRun
from proxy.http1.timer import NEVER, Timer
from proxy.http1.write_coalescer import CoalescedWriter, WriteCoalescer
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.worker.caller_request import CallerRequest, Life
from proxy.worker.lingering import Lingering
from proxy.worker.peer_certificate import peer_subject
from proxy.worker.request_head import HeadParser, refused
from proxy.worker.request_parser import NO_BODY, RequestParser
from proxy.worker.timeouts import CALLER_TIMEOUTS, CallerTimeouts

_READ_BUFFER = 65536
_SILENT = logging.getLogger("proxy.worker.aiohttp")

Serve = Callable[[CallerRequest], Awaitable[None]]


def check_seam() -> None:
    """Raise RuntimeError if a private name that this file uses is missing in aiohttp."""
    wanted = {
        "_buffer_paused", "_close", "_current_request", "_drain_helper", "_force_close", "_manager",
        "_max_msg_queue_size", "_messages", "_msg_queue_resume_size", "_parser", "_pause_reading_for_buffer", "_paused",
        "_reading_paused", "_resume_reading_if_drained", "_resume_transport_reading", "_waiter",
    }  # fmt: skip
    missing = [name for name in wanted if not hasattr(RequestHandler, name)]
    if missing:
        raise RuntimeError(f"aiohttp {aiohttp.__version__} does not fit: missing {', '.join(missing)}")


class CallerServer(web.Server):
    """Creates the caller connections of all listening sockets of a worker."""

    def __init__(
        self,
        serve: Serve,
        *,
        max_header_bytes: int,
        max_body_bytes: int = 0,
        timeouts: CallerTimeouts = CALLER_TIMEOUTS,
    ) -> None:
        super().__init__(
            _no_handler,
            keepalive_timeout=0,  # we have our own deadlines
            auto_decompress=False,
            access_log=None,
            logger=_SILENT,
        )
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
        return CallerConnection(self, loop=self._loop, **self._kwargs)

    def drain(self) -> None:
        """Close idle connections; the others close after their next response."""
        self.life.draining = True
        for connection in self.connections:
            if isinstance(connection, CallerConnection):
                connection.close_if_idle()


async def _no_handler(_: web.BaseRequest) -> web.StreamResponse:
    raise NotImplementedError


class CallerConnection(RequestHandler):
    """One connection of a caller; its requests are served one after the other."""

    __slots__ = (
        "_awaiting_head", "_dropping", "_ended", "_head_started", "_linger_end", "_requests", "_server",
        "_timer", "_wire", "certificate_subject", "peer", "writer",
    )  # fmt: skip

    def __init__(self, server: CallerServer, **arguments: Any) -> None:
        super().__init__(server, **arguments)
        self._server = server
        self._timer = Timer(self._close_silently, monotonic=self._loop.time)
        self._awaiting_head = True
        self._head_started = False
        self._requests = RequestParser(
            self,
            self._loop,
            max_head=server.max_head,
            max_waiting=self._max_msg_queue_size,
            read_buffer=_READ_BUFFER,
            max_body=server.max_body,
            heads=server.heads,
        )
        self._parser = self._requests  # type: ignore[assignment]
        self._dropping = False  # True: received data is dropped, not parsed
        self._linger_end = 0.0
        self._ended: asyncio.Future[None] | None = None  # set during the lingering close
        self._wire: asyncio.Transport | None = None  # `transport`, kept until connection_lost
        self.writer: CoalescedWriter | None = None  # None while not connected
        self.peer = ""
        self.certificate_subject = ""

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
        """Clean up; the base class calls `_cancel` of the current request."""
        self._server.open_connections -= 1
        self._wire = self.writer = None
        self._timer.cancel()
        self.end_linger()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse *data*, or drop it in a lingering close; start the deadline of a head that arrives in parts."""
        if self._dropping:
            if self._ended is not None:
                self._await_more()
            return
        if self._force_close or self._close:
            return
        # As in aiohttp's own method, without its handling of upgrades and of its own parser's errors.
        messages = self._requests.feed_data(data)
        if messages:
            self._messages += messages  # type: ignore[arg-type]
            if not self._buffer_paused and len(self._messages) >= self._max_msg_queue_size:
                self._pause_reading_for_buffer()
            if self._waiter is not None:
                self._waiter.set_result(None)  # runs the request immediately: no statement may follow
        elif self._awaiting_head and not self._head_started and not self._messages and self._requests.in_head:
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
            while not self._force_close:
                if not self._messages:
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
                self._current_request = None
                if self._paused:
                    await self.taken()
                if request.left:
                    break
                if request.closing or not request.payload.is_eof():
                    await self._linger(request)
                    break
                if self._requests.in_head and not self._messages:
                    self._head_started = True
                    self._timer.start(timeouts.head, self._head_is_late)
                else:
                    self._timer.start(timeouts.idle, self._close_silently)
        except (asyncio.CancelledError, ConnectionError):
            self._flush()
            if self.transport is not None:
                self.transport.abort()
        finally:
            self._current_request = None
            if self._wire is not None:
                self._flush()
                self._wire.close()
                self._timer.start(timeouts.unread_answer, self._wire.abort)  # close() waits until all data is sent

    def _next(self) -> CallerRequest:
        """Return the next queued request as the current one."""
        message: tuple[Any, Any] = self._messages.popleft()
        self._awaiting_head = self._head_started = False
        self._timer.expires = NEVER
        request = CallerRequest(self, message[0], message[1], self._server.life)
        self._current_request = request  # type: ignore[assignment]
        self._requests.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
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
        if self._awaiting_head and self._requests.quiet and not self._messages:
            self._close_silently()

    @property
    def write_would_block(self) -> bool:
        """Return whether the transport's write buffer is full."""
        return self._paused

    async def taken(self) -> None:
        """Wait until the transport's write buffer has room; raises ConnectionError."""
        self._flush()
        if self._paused:
            # Also cuts off steady readers below some 4 KB/s: a byte a minute would hold the response for ever.
            self._timer.start(self._server.timeouts.unread_answer, self.reset)
            await self._drain_helper()
            self._timer.expires = NEVER

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
        self._messages.append((refused(fault), NO_BODY))  # type: ignore[arg-type]
        if self._waiter is not None:
            self._waiter.set_result(None)

    async def _linger(self, answered: CallerRequest) -> None:
        """Read and drop what the caller may still send after *answered*; drop the unread body too."""
        transport = self.transport
        if transport is None or (self._requests.quiet and not self._messages and not self._dropping):
            return
        self._flush()
        self._dropping = True
        self._requests.end()
        answered.payload = NO_BODY
        ended = self._ended = self._loop.create_future()
        self._linger_end = self._loop.time() + self._server.timeouts.linger
        self._await_more()
        self._buffer_paused = self._reading_paused = False
        self._resume_transport_reading()
        if transport.can_write_eof():
            with contextlib.suppress(OSError):  # the caller may have reset it, not reported yet
                transport.write_eof()
        await ended

    def _await_more(self) -> None:
        """Extend the linger deadline and mark this connection as active."""
        left = self._linger_end - self._loop.time()
        self._timer.start(min(self._server.timeouts.linger_gap, left), self.end_linger)
        self._server.lingering.heard(self)

    def end_linger(self) -> None:
        """Stop reading; `_linger` returns then, and the connection is closed."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self._server.lingering.discard(self)
            if not ended.done():
                ended.set_result(None)

    def _flush(self) -> None:
        """Send pending writes before the transport is closed or asked for room."""
        if self.writer is not None:
            self.writer.flush()
