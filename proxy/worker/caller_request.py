"""One request of a caller and its response channel: the worker's implementation of `CallerSide`."""

from collections.abc import Callable
from typing import Protocol

from proxy.errors import BadRequest
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.http1.write_coalescer import CoalescedWriter
from proxy.routing.request_head import RawHead
from proxy.worker.request_parser import Payload, WholeBody


class ConnectionOfCaller(Protocol):
    """What a request needs from its connection."""

    peer: str
    certificate_subject: str
    writer: CoalescedWriter | None
    write_would_block: bool

    def wait_for_body(self, within: float, on_deadline: Callable[[float], None]) -> None:
        """Call *on_deadline* with the seconds waited if the next piece of the body is late; `disarm` cancels this."""

    def disarm(self) -> None:
        """Cancel the current deadline."""

    async def wait_for_room(self) -> None:
        """Wait until the transport's write buffer has room; raises ConnectionError."""

    def reset(self) -> None:
        """Close the connection with a TCP reset."""


class Life:
    """Whether the worker is draining; one object shared by all connections of a listener."""

    __slots__ = ("draining",)

    def __init__(self) -> None:
        self.draining = False


class CallerRequest(CallerSide):
    """One request with the head *raw* and the body *payload*."""

    __slots__ = ("_abort_when_left", "_connection", "_life", "_writer", "closing", "payload")

    def __init__(self, connection: ConnectionOfCaller, raw: RawHead, payload: Payload, life: Life) -> None:
        writer = connection.writer
        self.raw = raw
        self.peer = connection.peer
        self.certificate_subject = connection.certificate_subject
        self.left = writer is None
        self.started = False
        self.summary = None
        self.monotonic = None
        self._connection = connection
        self._writer = writer
        self._life = life
        self._abort_when_left: Callable[[], None] | None = None
        self.payload = payload
        self.closing = raw.closes or raw.fault is not None

    def body_started(self) -> bool:
        """Return whether a part of the body has arrived."""
        return self.payload.total_bytes > 0 or self.payload.is_eof()

    def whole_body(self) -> bytes | None:
        """Return the body if all of it arrived with the head, else None; raises CallerLeft."""
        if self.left:
            raise CallerLeft
        payload = self.payload
        return payload.read_nowait() if isinstance(payload, WholeBody) else None

    async def read_body(self, within: float) -> bytes:
        """Return the next piece of the body, b"" at its end; raises CallerLeft, BodyTooLarge or BadRequest."""
        payload = self.payload
        if self.left:
            raise CallerLeft
        if payload.is_eof():
            return payload.read_nowait()
        self._connection.wait_for_body(within, self._body_is_late)
        try:
            return await payload.readany()
        finally:
            self._connection.disarm()

    def call_when_left(self, abort: Callable[[], None]) -> None:
        """From now on, call *abort* immediately if the caller disconnects."""
        self._abort_when_left = abort

    def call_nothing_when_left(self) -> None:
        """From now on, call nothing if the caller disconnects."""
        self._abort_when_left = None

    def send_continue(self) -> None:
        """Send 100 Continue (RFC 9110 15.2.1)."""
        if self._writer is not None and not self.left:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def will_close(self) -> bool:
        """Return whether the connection closes after this response; once True, it stays True."""
        if not self.closing:
            payload = self.payload
            self.closing = self._life.draining or not (isinstance(payload, WholeBody) or payload.is_eof())
        return self.closing

    def close_after(self) -> None:
        """Close the connection after this response."""
        self.closing = True

    def write(self, data: bytes) -> None:
        """Send *data* without waiting; do nothing if the caller has disconnected."""
        self.started = True
        if self._writer is not None and not self.left:
            self._writer.write(data)

    def write_would_block(self) -> bool:
        """Return whether `drain` would wait or raise."""
        return self.left or self._connection.write_would_block

    async def drain(self) -> None:
        """Wait until the write buffer has room; raises CallerLeft, also if the caller read nothing for too long."""
        if not self.left:
            try:
                await self._connection.wait_for_room()
            except ConnectionError:
                raise CallerLeft from None
        if self.left:
            raise CallerLeft

    def abort(self) -> None:
        """Close the connection with a reset: a truncated response without a length must not pass for a complete one."""
        self.closing = True
        self._connection.reset()

    def _body_is_late(self, seconds: float) -> None:
        self.payload.set_exception(BadRequest(f"No byte of the body came for {seconds:.3g} s.", status=408))

    def caller_left(self) -> None:
        """Handle the caller's disconnect."""
        self.left = True
        if self.summary is not None and self.monotonic is not None:
            self.summary.left_at = self.monotonic()
        if not self.payload.is_eof():
            self.payload.set_exception(CallerLeft())
        if self._abort_when_left is not None:
            self._abort_when_left()
