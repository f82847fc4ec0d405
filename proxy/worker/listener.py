"""Towards callers: aiohttp's web.Server and its hardened parser, with a life cycle of our own.

Every private name of aiohttp that the product leans on stands in this file; `check_seam` looks for them at start. The
stock `start()` makes a task per request, answers parse errors by echoing the input, has no deadline for head or body,
and tells nobody that a caller has left; this one does none of that.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import http_parser, web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.errors import BadRequest, HeadersTooLarge, ProxyError, TargetTooLong
from proxy.forwarding.caller_side import CallerLeft
from proxy.routing.head import RawHead
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.worker.subject import subject_of

HEAD_SECONDS = 10.0
BODY_GAP_SECONDS = 60.0
UNREAD_ANSWER_SECONDS = 60.0
IDLE_SECONDS = 75.0
# After an answer that came before the whole body: how much and how long the rest is read away, so that the caller
# sees the answer and not a reset (RFC 9112 9.6).
LINGER_BYTES = 1048576
LINGER_SECONDS = 2.0
_NEVER = float("inf")
_MAX_HEADERS = 1100
_READ_BUFFER = 65536
_SILENT = logging.getLogger("proxy.worker.aiohttp")

Serve = Callable[["CallerRequest"], Awaitable[None]]


def check_seam() -> None:
    """Raise RuntimeError unless the names that this file leans on are there and the C parser is in use."""
    wanted = {
        "_buffer_paused", "_close", "_current_request", "_drain_helper", "_force_close", "_manager", "_messages",
        "_msg_queue_resume_size", "_parser", "_paused", "_reading_paused", "_resume_reading_if_drained", "_upgraded",
        "_waiter",
    }  # fmt: skip
    missing = [name for name in wanted if not hasattr(RequestHandler, name)]
    if missing or http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise RuntimeError(
            f"aiohttp {aiohttp.__version__} does not fit: "
            + (f"missing {', '.join(missing)}" if missing else "its C parser is not in use (AIOHTTP_NO_EXTENSIONS?)")
        )


class CallerServer(web.Server):
    """The factory of caller connections for every listening socket of a worker."""

    def __init__(self, serve: Serve, *, max_header_bytes: int) -> None:
        super().__init__(
            _no_handler,
            keepalive_timeout=0,  # our own deadlines
            auto_decompress=False,
            access_log=None,
            logger=_SILENT,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=max_header_bytes,
            max_headers=_MAX_HEADERS,
            read_bufsize=_READ_BUFFER,
        )
        self.serve = serve
        self.max_head = max_header_bytes + MAX_TARGET_BYTES
        self.draining = False

    def __call__(self) -> "CallerConnection":
        """Return the protocol of a new connection."""
        return CallerConnection(self, loop=self._loop, **self._kwargs)

    def drain(self) -> None:
        """Close idle connections; the others end with their next answer."""
        self.draining = True
        for connection in self.connections:
            if isinstance(connection, CallerConnection):
                connection.close_if_idle()


async def _no_handler(_: web.BaseRequest) -> web.StreamResponse:
    raise NotImplementedError


class CallerConnection(RequestHandler):
    """One connection of a caller; requests on it are served one after the other."""

    __slots__ = (
        "_awaiting_head", "_deadline", "_head_bytes", "_on_deadline", "_server", "_tail_lost", "_timer",
        "certificate_subject", "peer",
    )  # fmt: skip

    def __init__(self, server: CallerServer, **arguments: Any) -> None:
        super().__init__(server, **arguments)
        self._server = server
        self._deadline = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._on_deadline: Callable[[], None] = self._close_silently
        self._head_bytes = 0
        self._awaiting_head = True
        self._tail_lost = False
        self.peer = ""
        self.certificate_subject = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who is at the other end."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else "unix"
        certificate = transport.get_extra_info("peercert")
        self.certificate_subject = subject_of(certificate) if certificate else ""
        self.arm(HEAD_SECONDS, self._close_silently)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the request in service that its caller has left."""
        self._deadline = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; bound what an unfinished head may take in time and bytes; pass a broken body's fault to its reader."""
        known = len(self._messages)
        super().data_received(data)
        if len(self._messages) > known:
            self._head_bytes = 0
            last = self._messages[-1][0]
            if isinstance(last, _ErrInfo):
                self._break_body()
            elif last.upgrade and not data.endswith(b"\r\n\r\n"):
                self._tail_lost = True
        elif self._awaiting_head and data and not self._messages:
            if not self._head_bytes:
                self.arm(HEAD_SECONDS, self._head_is_late)
            self._head_bytes += len(data)
            if self._head_bytes > self._server.max_head:
                self._enqueue(HeadersTooLarge("The request's head does not end within the limit."))

    async def start(self) -> None:
        """Serve requests in their order until the connection ends."""
        loop = self._loop
        try:
            while not self._force_close:
                if not self._messages:
                    self._awaiting_head = True
                    self._waiter = loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                message, payload = self._messages.popleft()
                self._awaiting_head = False
                self.disarm()
                if self._parser is not None:
                    self._parser.message_consumed()
                if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                    self._resume_reading_if_drained()
                request = CallerRequest(self, message, payload)
                self._current_request = request  # type: ignore[assignment]
                await self._server.serve(request)
                if not payload.is_eof() and not request.left:
                    await self._linger(payload)
                    break
                if request.closing or request.left:
                    break
                self._current_request = None
                self.arm(IDLE_SECONDS, self._close_silently)
        except asyncio.CancelledError:
            if self._waiter is None and self.transport is not None:
                self.transport.abort()
        finally:
            self._current_request = None
            self.disarm()
            if self.transport is not None:
                self.transport.close()

    def arm(self, seconds: float, on_deadline: Callable[[], None]) -> None:
        """Let *on_deadline* be called in *seconds*, unless `arm` or `disarm` comes first; one lazy timer serves all."""
        now = self._loop.time()
        self._deadline = now + seconds
        self._on_deadline = on_deadline
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def disarm(self) -> None:
        """Let nothing be due."""
        self._deadline = _NEVER

    def close_if_idle(self) -> None:
        """Close the connection if no request is on it, not even the beginning of one."""
        if self._awaiting_head and not self._head_bytes and not self._messages:
            self._close_silently()

    def ends_after(self, message: Any, payload: StreamReader) -> bool:
        """Return whether the connection ends with the answer to *message*.

        Behind an offered upgrade (h2c) aiohttp loses what comes in the same segment, so that the next request is
        asked for on a new connection wherever there may have been one.
        """
        after_upgrade = message.upgrade and (self._tail_lost or payload is not EMPTY_PAYLOAD)
        return bool(message.should_close or self._server.draining or self._upgraded or after_upgrade)

    def draining(self) -> bool:
        """Return whether connections end with their next answer."""
        return self._server.draining

    async def taken(self) -> None:
        """Wait until the transport's buffer has room; raises ConnectionError."""
        if self._paused:
            self.arm(UNREAD_ANSWER_SECONDS, self.reset)
            await self._drain_helper()
            self.disarm()

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        transport = self.transport
        if transport is None:
            return
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  aiohttp calls it so
        """Read on if reading was paused; the stock one parses an empty chunk on each read of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _tick(self) -> None:
        self._timer = None
        if self._deadline is _NEVER:
            return
        if self._loop.time() < self._deadline - 0.001:
            self._timer = self._loop.call_at(self._deadline, self._tick)
            return
        self._deadline = _NEVER
        self._on_deadline()

    def _close_silently(self) -> None:
        """End a connection on which no complete request was read."""
        self.force_close()

    def _head_is_late(self) -> None:
        self._enqueue(BadRequest(f"The request's head did not arrive within {HEAD_SECONDS:.0f} s.", status=408))

    def _enqueue(self, fault: ProxyError) -> None:
        """Have *fault* answered in its turn, as the last thing on this connection."""
        self._awaiting_head = False
        self._messages.append((_ErrInfo(status=400, exc=fault, message=""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break_body(self) -> None:
        """Give a parse error to the request whose body it broke; aiohttp only queues it as a request of its own."""
        current = self._current_request
        if isinstance(current, CallerRequest) and not current.payload.is_eof():
            self._messages.pop()
            current.payload.set_exception(BadRequest("The body's framing is broken (RFC 9112 7.1)."))

    async def _linger(self, payload: StreamReader) -> None:
        transport = self.transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        self.arm(LINGER_SECONDS, self._close_silently)
        size = 0
        try:
            while size < LINGER_BYTES and not payload.is_eof():
                size += len(await payload.readany())
        except (CallerLeft, ProxyError, aiohttp.ClientPayloadError, web.RequestPayloadError, ConnectionError):
            pass  # whatever ends the rest of the body, the answer is out


class CallerRequest:
    """One request and the way back: what `forward` sees of the connection."""

    __slots__ = ("_abort_when_left", "_connection", "begun", "closing", "left", "payload", "raw")

    def __init__(self, connection: CallerConnection, message: Any, payload: StreamReader) -> None:
        self._connection = connection
        self._abort_when_left: Callable[[], None] | None = None
        self.payload = payload
        self.left = connection.transport is None
        self.begun = False
        if isinstance(message, _ErrInfo):
            self.closing = True
            self.raw = RawHead(method="-", target="", version=(1, 1), headers=(), fault=_fault(message.exc))
        else:
            self.closing = connection.ends_after(message, payload)
            self.raw = RawHead(
                method=message.method, target=message.path, version=message.version, headers=message.raw_headers
            )

    @property
    def peer(self) -> str:
        """Return the address at the other end, "unix" for a Unix socket."""
        return self._connection.peer

    @property
    def certificate_subject(self) -> str:
        """Return the subject of the caller's certificate (RFC 4514), or ""."""
        return self._connection.certificate_subject

    def body_begun(self) -> bool:
        """Return whether some of the body has arrived."""
        return self.payload.total_bytes > 0 or self.payload.is_eof()

    async def read_body(self) -> bytes:
        """Return the next piece of the body, b"" at its end; raises CallerLeft or BadRequest (400, 408)."""
        payload = self.payload
        if self.left:
            raise CallerLeft
        try:
            if payload.is_eof():
                return payload.read_nowait()
            self._connection.arm(BODY_GAP_SECONDS, self._body_is_late)
            piece = await payload.readany()
        except (web.RequestPayloadError, aiohttp.ClientPayloadError):
            raise BadRequest("The body's framing is broken (RFC 9112 7.1).") from None
        self._connection.disarm()
        return piece

    def cut_off_when_left(self, abort: Callable[[], None]) -> None:
        """Call *abort* at once if the caller leaves from now on."""
        self._abort_when_left = abort

    def say_continue(self) -> None:
        """Send 100 Continue (RFC 9110 15.2.1)."""
        transport = self._connection.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def will_close(self) -> bool:
        """Return whether the connection ends with this answer; once said, it does."""
        self.closing = self.closing or self._connection.draining() or not self.payload.is_eof()
        return self.closing

    def close_after(self) -> None:
        """End the connection with this answer."""
        self.closing = True

    def write(self, data: bytes) -> None:
        """Send *data* without waiting; nothing happens when the caller has left."""
        self.begun = True
        transport = self._connection.transport
        if transport is not None:
            transport.write(data)

    async def drain(self) -> None:
        """Wait until the caller has taken enough; raises CallerLeft, also when it took nothing for 60 s."""
        if not self.left:
            try:
                await self._connection.taken()
            except ConnectionError:
                raise CallerLeft from None
        if self.left:
            raise CallerLeft

    def abort(self) -> None:
        """Cut the connection with a reset, so that even an answer without a length can't pass for a whole one."""
        self._connection.reset()

    def _body_is_late(self) -> None:
        self.payload.set_exception(BadRequest(f"No byte of the body came for {BODY_GAP_SECONDS:.0f} s.", status=408))

    def _cancel(self, _error: BaseException) -> None:
        """Learn from aiohttp's connection_lost that the caller has left."""
        self.left = True
        if not self.payload.is_eof():
            self.payload.set_exception(CallerLeft())
        if self._abort_when_left is not None:
            self._abort_when_left()


def _fault(error: BaseException) -> ProxyError:
    """Return our own error for one of aiohttp's parser, whose text quotes the request."""
    if isinstance(error, ProxyError):
        return error
    if isinstance(error, LineTooLong):
        if error.args[1] == MAX_TARGET_BYTES:
            return TargetTooLong(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
        return HeadersTooLarge("A header is longer than the limit.")
    if isinstance(error, BadHttpMethod):
        return BadRequest("The method is not known, or this is not HTTP.", status=501)
    if "Too many headers" in str(error):
        return HeadersTooLarge("There are too many headers.")
    return BadRequest("The request line, a header or the framing is not valid HTTP/1.1 (RFC 9112).")
