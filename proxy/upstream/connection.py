"""One connection to the bank, with one exchange at a time; it never sends anything twice."""

import asyncio
import select
import sys
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Final, Protocol

from proxy.clock import Clock
from proxy.errors import ProxyError, UpstreamBadResponse, UpstreamFault, UpstreamTimedOut
from proxy.http1.inline_future import InlineFuture
from proxy.http1.notifier import Notifier
from proxy.http1.timer import NEVER, Timer
from proxy.upstream.errors import broken, given_up, unsent
from proxy.upstream.response import UpstreamResponse, whole_response
from proxy.upstream.response_head import BODILESS
from proxy.upstream.response_parser import ResponseParser
from proxy.upstream.tls_transport import UpstreamTls

WRITE_HIGH_BYTES: Final = 131072  # unsent request bytes above which the sender waits
CALLER_FIRST_SECONDS: Final = 1.0
READ_HIGH_BYTES: Final = 131072  # unread response bytes above which reading from the socket pauses


class ConnectionState(Enum):
    """The state of a connection."""

    IDLE = auto()  # in the pool
    TAKEN = auto()  # taken from the pool, nothing sent yet
    BUSY = auto()  # from `begin` until the response is released
    CLOSED = auto()


# asyncio's `writelines` of these Pythons never pauses the writer (CVE-2024-12254): all of an upload to a bank that does
# not read would be held in memory.
_WRITELINES_PAUSES: Final = not (
    (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 8) or (3, 13, 0) <= sys.version_info[:3] <= (3, 13, 1)
)

# Looking up an enum member in its class costs a call each time.
_IDLE: Final = ConnectionState.IDLE
_TAKEN: Final = ConnectionState.TAKEN
_BUSY: Final = ConnectionState.BUSY
_CLOSED: Final = ConnectionState.CLOSED


class Home(Protocol):
    """Where a connection returns to: the pool."""

    def put_back(self, connection: "Connection") -> None:
        """Keep *connection* for the next request."""

    def free_slot_of(self, connection: "Connection") -> None:
        """Stop counting *connection*: it will not carry another request."""

    def socket_closed(self, connection: "Connection") -> None:
        """Note that the socket of *connection* is closed."""


class Connection(asyncio.Protocol):
    """An open connection; with TLS, the handshake and the verification are done.

    `sent`: whether a byte of the current request was given to the transport. `reused` and `connect_ms`: how the current
    request got the connection.
    """

    __slots__ = (
        "_arrived", "_bounded", "_deadline", "_failure", "_home", "_idle_since", "_idle_timeout", "_loop",
        "_monotonic", "_parser", "_poll", "_reading_paused", "_reply", "_request_complete", "_response",
        "_response_timeout", "_room", "_state", "_timer", "_tls", "_to_head", "_transport", "_writing_paused",
        "connect_ms", "reused", "sent",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, *, clock: Clock, response_timeout: float, idle_timeout: float, home: Home) -> None:
        self.reused = False
        self.connect_ms = 0.0
        self.sent = False
        self._monotonic = clock.monotonic
        self._response_timeout = response_timeout
        self._idle_timeout = idle_timeout
        self._home = home
        self._state = _TAKEN
        self._poll = select.poll()
        self._timer = Timer(self._expired, monotonic=clock.monotonic)
        self._loop = asyncio.get_running_loop()
        self._reply: InlineFuture[UpstreamResponse] | None = None  # the future that `send` awaits
        self._arrived = Notifier()  # for the response's body, and for uploads
        self._room = Notifier()  # for room to write
        self._deadline = NEVER
        self._idle_since = 0.0
        self._to_head = False
        self._tls: UpstreamTls | None = None
        self._parser: ResponseParser | None = None  # for a response that did not arrive in one piece
        self._response: UpstreamResponse | None = None
        self._failure: ProxyError | None = None
        self._request_complete = False
        self._writing_paused = False
        self._reading_paused = False
        self._bounded = False  # the timer ends a wait in `more`, not the exchange

    def __repr__(self) -> str:
        return f"<Connection [{self._state.name.lower()}, {'reused' if self.reused else 'new'}]>"

    # Called by the pool and by the sender of a request.

    @property
    def closed(self) -> bool:
        """Return whether this connection is closed."""
        return self._state is _CLOSED

    def send_whole(
        self, message: bytes, *, to_head: bool, now: float, deadline: float
    ) -> InlineFuture[UpstreamResponse]:
        """Send a whole small request at monotonic *now*; the future ends with the response once its head is there.

        Like `upload.send`, but without a coroutine, for requests sent in one write. Call `abort` to stop waiting. The
        future raises what `send` raises; this method raises UpstreamUnreachable, and nothing was sent then.
        """
        self.begin(to_head=to_head, now=now, deadline=deadline)
        self.sent = self._request_complete = True
        reply = self._reply = InlineFuture[UpstreamResponse](self._loop)
        self._transport.write(message)
        self._timer.set(min(now + self._response_timeout, deadline))
        return reply

    async def response(self, *, complete: bool) -> UpstreamResponse:
        """Return the response to a request written by `write`, whole or not; raises as `upload.send`."""
        self._request_complete = complete
        if self._response is None and self._state is _BUSY:
            reply = self._reply = InlineFuture[UpstreamResponse](self._loop)
            self._timer.set(min(self._monotonic() + self._response_timeout, self._deadline))
            return await reply
        if self._response is None:
            raise self._failure or broken(None)
        return self._response

    def begin(self, *, to_head: bool, now: float, deadline: float) -> None:
        """Start a request on this connection; raises UpstreamUnreachable if that is not possible."""
        if self._state is not _TAKEN:
            raise unsent("the connection was not free")
        if now >= deadline:
            self.release()
            raise unsent("the deadline had passed")
        self._state = _BUSY
        self._deadline = deadline
        self._to_head = to_head

    def take(self, now: float) -> bool:
        """Take this pooled connection; return False if it is dead, dirty or too old at monotonic *now*."""
        if self._state is not _IDLE:
            return False
        too_old = now - self._idle_since >= self._idle_timeout
        if too_old or self._transport.is_closing() or self._poll.poll(0):
            self.close()
            return False
        self._state = _TAKEN
        self._timer.expires = NEVER
        self._response = self._parser = None
        self._request_complete = self.sent = False
        self.reused = True
        self.connect_ms = 0.0
        return True

    def release(self) -> None:
        """Return an unused connection to the pool; a used one is released by its response."""
        if self._state is _TAKEN:
            self._return_to_pool()

    def abort(self) -> None:
        """Close immediately in any state; waiting coroutines get UpstreamReset. Idempotent."""
        self._fail(given_up())

    def close(self) -> None:
        """Close gracefully: over TLS with a close_notify, without waiting for the bank's."""
        if self._state is not _CLOSED:
            self._mark_closed(None)
            self._transport.close()

    # Called by the response.

    async def more(self, until: float = NEVER) -> bool:
        """Wait for more response bytes; return False at monotonic *until*; raises the error that ended the exchange."""
        if self._failure is not None:
            raise self._failure
        expires = min(self._monotonic() + self._response_timeout, self._deadline)
        bounded = self._bounded = until < expires
        self._timer.set(until if bounded else expires)
        try:
            await self._arrived.wait()
        except BaseException:
            self.abort()
            raise
        if not self._whole():
            self._timer.expires = self._deadline  # pauses of the reader are no fault of the bank
        in_time = self._bounded or not bounded
        self._bounded = False
        return in_time

    def resume_reading(self) -> None:
        """Resume reading the socket after the buffered part of the response was read."""
        if self._reading_paused:
            self._reading_paused = False
            if self._state is _BUSY:
                self._transport.resume_reading()

    def finish(self) -> None:
        """End the exchange: return the connection to the pool if the next request can rely on it, else close it."""
        if self._state is not _BUSY:
            return
        response = self._response
        if (
            response is None
            or not (self._request_complete and self._whole())
            or self._transport.get_write_buffer_size()
        ):
            self.abort()
        elif not response.head.persistent:
            self.close()
        else:
            if self._reading_paused:
                self.resume_reading()
            self._return_to_pool()

    # Called by the transport.

    def connection_made(self, transport: Any) -> None:
        """Store the transport; for TLS, handshake and verification are done."""
        self._transport = transport
        self._tls = transport if isinstance(transport, UpstreamTls) else None
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        # POLLIN also shows that the peer has closed. With TLS the raw socket is polled too: whatever arrives on an idle
        # connection (alert, close, response) is a reason to use another one.
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the bank; close the connection if no request asked for them.

        UpstreamTls passes b"" if something arrived over TLS that is no data, or not yet.
        """
        if not data:
            self._no_data()
            return
        if self._state is not _BUSY or not self.sent:
            self.abort()
            return
        try:
            if self._parser is None:
                if self._response is not None:
                    self.abort()  # the response is complete; this data must not be taken for another one
                    return
                found = whole_response(data, to_head=self._to_head)
                if found is not None:
                    head, body = found
                    self._timer.expires = NEVER
                    response = self._response = UpstreamResponse(
                        self, head, body, bodiless=self._to_head or head.status in BODILESS
                    )
                    if self._tls is not None and self._tls.unfinished:
                        self.abort()  # the response is complete; data that follows must not be taken for another one
                    self._deliver(response)
                    return
                self._parser = ResponseParser(to_head=self._to_head)
            self._feed(self._parser, data)
        except UpstreamBadResponse as error:
            self._fail(error)

    def _no_data(self) -> None:
        """Close the connection if it may hold half a TLS record after the response, which the next request would get.

        It may also be a session ticket or a new key; those come before the first response, or are rare.
        """
        if self._state is _IDLE or (self._state is _TAKEN and self.reused) or self._whole():
            self.abort()

    def _feed(self, parser: ResponseParser, data: bytes) -> None:
        """Parse bytes of a response that arrives in pieces."""
        parser.feed(data)
        if parser.head is None:
            return
        response = self._response
        if response is None and parser.complete:
            response = UpstreamResponse(self, parser.head, parser.take(), bodiless=parser.bodiless)
        elif response is None:
            response = UpstreamResponse(self, parser.head, b"", bodiless=parser.bodiless, parser=parser)
            self._timer.expires = self._deadline  # until `more` is called: the reader may come late
        self._response = response
        if parser.surplus or (parser.complete and self._tls is not None and self._tls.unfinished):
            self.abort()  # the response is complete; the rest must not be taken for another one
        elif parser.complete:
            self._timer.expires = NEVER
        elif parser.buffered > READ_HIGH_BYTES and not self._arrived.waiting and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        self._deliver(response)

    def _deliver(self, response: UpstreamResponse) -> None:
        """Wake the coroutine that waits for *response*, for more of it, or for room to write."""
        reply = self._reply
        if reply is None:
            self.wake()
        else:
            self._reply = None
            reply.set_result(response)  # resumes the request immediately: no statement may follow

    def _whole(self) -> bool:
        """Return whether the response is complete."""
        return self._response is not None and (
            self._response.complete or (self._parser is not None and self._parser.complete)
        )

    def eof_received(self) -> None:
        """Close the connection when the bank stops sending: a half-open connection is not useful."""
        self._fail(broken(None))

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the socket."""
        if self._state is not _CLOSED:
            self._mark_closed(broken(exc))
        self._home.socket_closed(self)

    def pause_writing(self) -> None:
        """Stop sending until the transport's write buffer has drained."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Resume sending."""
        self._writing_paused = False
        self._room.wake()

    # Called by `upload.send`.

    def settled(self) -> bool:
        """Return whether the response's head or an error is there; then nothing more is sent."""
        return self._response is not None or self._state is not _BUSY

    async def write(self, pieces: Sequence[bytes | memoryview]) -> bool:
        """Write *pieces* once there is room; return False, and write nothing, if the exchange is settled before."""
        if self._poll.poll(0):
            # Data came in. Let the loop read it first: after a failed write an early response would be lost (measured
            # with a bank that answers and closes at once: without this, asyncio lost half of the responses).
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        while self._writing_paused and not self.settled():
            self._timer.set(min(self._monotonic() + self._response_timeout, self._deadline))
            await self._room.wait()
        if self.settled() or self._transport.is_closing():
            return False
        self.sent = True
        if _WRITELINES_PAUSES:
            self._transport.writelines(pieces)
        else:
            self._transport.write(b"".join(pieces))
        return True

    def wait_for_caller(self) -> None:
        """Charge the time from now on to the caller, not to the bank; only the deadline applies.

        The caller's side gets its deadline error first, so that the caller, not the bank, is reported as late.
        """
        self._timer.set(self._deadline + CALLER_FIRST_SECONDS)

    async def wait(self) -> None:
        """Wait until the bank sends something, the exchange fails or `wake` is called."""
        await self._arrived.wait()

    def wake(self) -> None:
        """Wake the coroutines that wait for the response or for room to write."""
        self._arrived.wake()
        self._room.wake()

    # End of an exchange or of the connection.

    def _return_to_pool(self) -> None:
        """Return to the pool."""
        self._state = _IDLE
        self._idle_since = self._monotonic()
        self._timer.set(self._idle_since + self._idle_timeout)
        self._home.put_back(self)

    def _expired(self) -> None:
        if self._state is _IDLE:
            self.close()
        elif self._bounded:
            self._bounded = False
            self._arrived.wake()
        elif self._state is _BUSY:
            self._fail(self._timed_out())

    def _timed_out(self) -> UpstreamFault:
        if self._response is not None:
            return UpstreamTimedOut("The bank stopped in the middle of its answer")
        if self._request_complete:
            return UpstreamTimedOut("The bank did not answer in time")
        return UpstreamTimedOut("The request could not be handed to the bank in time")

    def _fail(self, error: UpstreamFault | None) -> None:
        if self._state is not _CLOSED:
            self._mark_closed(error)
            self._transport.abort()

    def _mark_closed(self, error: UpstreamFault | None) -> None:
        """Mark the connection closed; *error* is raised in an unfinished exchange."""
        if self._state is _BUSY and not self._whole():
            self._failure = error or broken(None)
            if not self.sent:
                self._failure = unsent(self._failure.cause or self._failure.detail)
            reply, self._reply = self._reply, None
            if reply is not None:
                reply.set_exception(self._failure)
        self._state = _CLOSED
        self._timer.cancel()
        self._home.free_slot_of(self)
        self.wake()
