"""One connection of a caller: its life cycle, deadlines and flow control.

It makes what it needs when it needs it: no task at all, a coroutine only while requests are served, no timer of the
loop. Callers that open a connection for each request pay for every object made here.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import BadRequest
from proxy.http1.inline_future import END, InlineRun
from proxy.http1.notifier import Notifier
from proxy.http1.timer import NEVER, Timer
from proxy.http1.write_coalescer import CoalescedWriter
from proxy.request_summary import RequestSummary
from proxy.worker.caller_request import CallerRequest
from proxy.worker.lingering import LingeringClose
from proxy.worker.peer_certificate import peer_subject
from proxy.worker.request_head import refused
from proxy.worker.request_parser import NO_BODY, Message, RequestParser

if TYPE_CHECKING:
    from proxy.worker.listener import CallerServer

_READ_BUFFER: Final = 65536

# Requests parsed ahead of the current one; reading resumes when half of them are served. aiohttp's own numbers.
_MOST_WAITING: Final = 32
_RESUME_WAITING: Final = _MOST_WAITING // 2


class _Last:
    """Awaited instead of returning, see `END`."""

    __slots__ = ()

    def __await__(self) -> Generator[object, None, None]:
        end: Any = iter((END,))
        return end  # type: ignore[no-any-return]


_LAST: Final = _Last()


class CallerConnection(asyncio.Protocol):
    """One connection of a caller; its requests are served one after the other."""

    __slots__ = (
        "_body_timer", "_dropping", "_head_started", "_lingering", "_loop", "_queue", "_queue_full", "_reading_paused",
        "_request", "_requests", "_room", "_run", "_server", "_timer", "_wire", "certificate_subject", "peer",
        "transport", "write_would_block", "writer",
    )  # fmt: skip

    def __init__(self, server: "CallerServer") -> None:
        self._loop = server.loop
        self._server = server
        self._timer = Timer(self._close_silently, monotonic=server.loop.time, call_later=server.timers.call_later)
        self._body_timer: Timer | None = None
        self._head_started = False
        self._reading_paused = False  # by the reader of a body
        self._queue_full = False
        self._requests = RequestParser(
            self,
            self._loop,
            max_head=server.max_head,
            max_waiting=_MOST_WAITING,
            read_buffer=_READ_BUFFER,
            max_body=server.max_body,
            heads=server.heads,
        )
        self._queue: list[Message] = []  # complete heads
        self._request: CallerRequest | None = None  # the one being served
        self._run: InlineRun | None = None  # serves what is queued
        self._room: Notifier | None = None
        self.write_would_block = False
        self._dropping = False  # True: received data is dropped, not parsed
        self._lingering: LingeringClose | None = None
        self.transport: Any = None  # None as soon as no request of this connection is to be served any more
        self._wire: Any = None  # `transport`, kept until connection_lost
        self.writer: CoalescedWriter | None = None  # None while not connected
        self.peer = ""
        self.certificate_subject = ""

    def awaiting(self) -> RequestSummary | None:
        """Return the summary of the request being served; None without one, or if not all of it has arrived."""
        request = self._request
        return request.summary if request is not None and request.payload.is_eof() else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store peer address and certificate subject, and start the head deadline."""
        self.transport = self._wire = transport
        self._server.known[self] = None
        self.writer = CoalescedWriter(transport, self._server.coalescer)
        self._server.open_connections += 1
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else "unix"
        certificate = transport.get_extra_info("peercert")
        self.certificate_subject = peer_subject(certificate) if certificate else ""
        self._timer.start(self._server.timeouts.head, self._close_silently)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Clean up, and report it to the current request."""
        self._server.open_connections -= 1
        self._wire = self.writer = self.transport = None
        self._timer.cancel()
        if self._body_timer is not None:
            self._body_timer.cancel()
        if self._lingering is not None:
            self._lingering.end()
        if self._room is not None:
            self._room.wake()
        if self._request is not None:
            self._request.caller_left()
        self._requests.end()
        if self._run is None:
            self._server.known.pop(self, None)

    def pause_writing(self) -> None:
        """Note that the transport's write buffer is full."""
        self.write_would_block = True

    def resume_writing(self) -> None:
        """Note that the write buffer has room again."""
        self.write_would_block = False
        if self._room is not None:
            self._room.wake()

    @property
    def connected(self) -> bool:
        """Return whether the connection is open; called by aiohttp's StreamReader, like the next two."""
        return self.transport is not None

    def pause_reading(self) -> None:
        """Stop receiving: the body's reader is behind."""
        self._reading_paused = True
        self._set_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  aiohttp's signature
        """Go on receiving, after parsing what was left."""
        self._reading_paused = False
        if resume_parser:
            self.data_received(b"")
        self._set_reading()

    def _set_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            if self._reading_paused or self._queue_full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

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
            if not self._queue_full and len(self._queue) >= _MOST_WAITING:
                self._queue_full = True
                self._set_reading()
            if self._run is None:
                self._serve()  # runs the request immediately: no statement may follow
        elif self._run is None and not self._head_started and self._requests.in_head:
            self._head_started = True
            self._timer.start(self._server.timeouts.head, self._head_is_late)

    def eof_received(self) -> None:
        """Flush this iteration's writes: the loop closes the transport when this returns."""
        self._flush()

    def _serve(self) -> None:
        """Serve what is queued; there is no task, and no coroutine while the connection is idle."""
        run = self._run = InlineRun(self._serve_in_order(), loop=self._loop, ended=self._served)
        run.resume()

    def _served(self, error: BaseException | None) -> None:
        self._run = None
        if self._wire is None:
            self._server.known.pop(self, None)
        if error is not None:
            self._loop.call_exception_handler({"message": "a caller's request failed", "exception": error})

    def cancel(self) -> None:
        """Cancel the request that is being served, if there is one."""
        if self._run is not None:
            self._run.cancel()

    async def _serve_in_order(self) -> None:
        """Serve the queued requests in order; close the connection unless another may follow."""
        timeouts = self._server.timeouts
        kept = False
        try:
            while self._queue and self.transport is not None:
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
            else:
                kept = self.transport is not None
        except (asyncio.CancelledError, ConnectionError):
            self._flush()
            if self.transport is not None:
                self.transport.abort()
        finally:
            self._request = None
            if not kept:
                self._close()
        await _LAST

    def _close(self) -> None:
        """Close the connection once all data is sent."""
        wire = self._wire
        if wire is not None:
            self._flush()
            wire.close()
            if wire.get_write_buffer_size():
                self._timer.start(self._server.timeouts.unread_answer, wire.abort)

    def _next(self) -> CallerRequest:
        """Return the next queued request as the current one."""
        raw, body = self._queue.pop(0)
        self._head_started = False
        self._timer.expires = NEVER
        request = self._request = CallerRequest(self, raw, body, self._server.life)
        self._requests.message_consumed()
        if self._queue_full and len(self._queue) <= _RESUME_WAITING:
            self.data_received(b"")  # parses what was left
            if len(self._queue) < _MOST_WAITING:
                self._queue_full = False
                self._set_reading()
        return request

    def disarm(self) -> None:
        """Cancel the deadline of the body."""
        if self._body_timer is not None:
            self._body_timer.expires = NEVER

    def wait_for_body(self, within: float, on_deadline: Callable[[float], None]) -> None:
        """Call *on_deadline* with the seconds waited if the next piece of the body is late; `disarm` cancels this."""
        seconds = min(self._server.timeouts.body_gap, within)
        if self._body_timer is None:  # the loop's, not the wheel's: the exchange's deadline may follow immediately
            self._body_timer = Timer(self._close_silently, monotonic=self._loop.time)
        self._body_timer.start(seconds, lambda: on_deadline(seconds))

    def close_if_idle(self) -> None:
        """Close the connection if it has no request and no partial head."""
        if self._run is None and self._requests.quiet and not self._queue:
            self._close_silently()

    async def wait_for_room(self) -> None:
        """Wait until the transport's write buffer has room; raises ConnectionError."""
        self._flush()
        if self.write_would_block and self._wire is not None:
            # Also cuts off steady readers below some 4 KB/s: a byte a minute would hold the response for ever.
            self._timer.start(self._server.timeouts.unread_answer, self.reset)
            if self._room is None:
                self._room = Notifier()
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
        self._close()
        self.transport = None

    def _head_is_late(self) -> None:
        """Queue an answer 408 for the unfinished head as the last request of this connection."""
        fault = BadRequest(f"The request's head did not arrive within {self._server.timeouts.head:g} s.", status=408)
        self._dropping = True
        self._queue.append((refused(fault), NO_BODY))
        if self._run is None:
            self._serve()

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
        self._queue_full = False
        self.resume_reading(resume_parser=False)
        if transport.can_write_eof():
            with contextlib.suppress(OSError):  # the caller may have reset it, not reported yet
                transport.write_eof()
        await lingering.ended

    def _flush(self) -> None:
        """Send pending writes before the transport is closed or asked for room."""
        if self.writer is not None:
            self.writer.flush()
