"""One request and the way back to its caller, as `forward` sees the connection."""

from collections.abc import Callable
from typing import Protocol

from proxy.errors import BadRequest
from proxy.forwarding.caller_side import CallerLeft, CallerSide
from proxy.routing.request_head import RawHead
from proxy.worker.request_parser import Payload, WholeBody
from proxy.worker.response_writer import Outgoing


class ConnectionOfCaller(Protocol):
    """What a request needs of its connection."""

    peer: str
    certificate_subject: str
    outgoing: Outgoing | None

    @property
    def clogged(self) -> bool:
        """Return whether the transport's buffer has no room."""

    def wait_for_body(self, within: float, on_deadline: Callable[[float], None]) -> None:
        """Call *on_deadline* with the seconds waited if the next piece of the body is late; `disarm` ends it."""

    def disarm(self) -> None:
        """Let nothing be due."""

    async def taken(self) -> None:
        """Wait until the transport's buffer has room; raises ConnectionError."""

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""


class Life:
    """Whether connections go on; one for all of a listener's."""

    __slots__ = ("draining",)

    def __init__(self) -> None:
        self.draining = False


class CallerRequest(CallerSide):
    """The request with the head *raw* and the body *payload*."""

    __slots__ = ("_abort_when_left", "_connection", "_life", "_outgoing", "closing", "payload")

    def __init__(self, connection: ConnectionOfCaller, raw: RawHead, payload: Payload, life: Life) -> None:
        outgoing = connection.outgoing
        super().__init__(
            raw, peer=connection.peer, certificate_subject=connection.certificate_subject, left=outgoing is None
        )
        self._connection = connection
        self._outgoing = outgoing
        self._life = life
        self._abort_when_left: Callable[[], None] | None = None
        self.payload = payload
        self.closing = raw.closes or raw.fault is not None

    def body_begun(self) -> bool:
        """Return whether some of the body has arrived."""
        return self.payload.total_bytes > 0 or self.payload.is_eof()

    def whole_body(self) -> bytes | None:
        """Return the body if all of it came with the head; raises CallerLeft."""
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

    def cut_off_when_left(self, abort: Callable[[], None]) -> None:
        """Call *abort* at once if the caller leaves from now on."""
        self._abort_when_left = abort

    def cut_off_no_more(self) -> None:
        """Call nothing if the caller leaves from now on."""
        self._abort_when_left = None

    def say_continue(self) -> None:
        """Send 100 Continue (RFC 9110 15.2.1)."""
        if self._outgoing is not None and not self.left:
            self._outgoing.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def will_close(self) -> bool:
        """Return whether the connection ends with this answer; once said, it does."""
        if not self.closing:
            payload = self.payload
            self.closing = self._life.draining or not (isinstance(payload, WholeBody) or payload.is_eof())
        return self.closing

    def close_after(self) -> None:
        """End the connection with this answer."""
        self.closing = True

    def write(self, data: bytes) -> None:
        """Send *data* without waiting; nothing happens when the caller has left."""
        self.begun = True
        if self._outgoing is not None and not self.left:
            self._outgoing.write(data)

    def clogged(self) -> bool:
        """Return whether `drain` would wait or raise."""
        return self.left or self._connection.clogged

    async def drain(self) -> None:
        """Wait until the caller has taken enough; raises CallerLeft, also when it took nothing for too long."""
        if not self.left:
            try:
                await self._connection.taken()
            except ConnectionError:
                raise CallerLeft from None
        if self.left:
            raise CallerLeft

    def abort(self) -> None:
        """Cut the connection with a reset, so that even an answer without a length can't pass for a whole one."""
        self.closing = True
        self._connection.reset()

    def _body_is_late(self, seconds: float) -> None:
        self.payload.set_exception(BadRequest(f"No byte of the body came for {seconds:.3g} s.", status=408))

    def _cancel(self, _error: BaseException) -> None:
        """Learn from aiohttp's connection_lost that the caller has left."""
        self.left = True
        if self.account is not None and self.monotonic is not None:
            self.account.left_at = self.monotonic()
        if not self.payload.is_eof():
            self.payload.set_exception(CallerLeft())
        if self._abort_when_left is not None:
            self._abort_when_left()
