"""Connection limits and timeouts of the admin listener, which untrusted clients may reach too."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from proxy.keeper.admin import problem

# Of streams, which last: they have places of their own, so that they take none from probes.
MOST_STREAMS = 200
# With TLS asyncio keeps 256 KB for each connection: these take 12 MB.
_MOST_TLS_STREAMS = 25
# More that a stream's reader has not read waits here, where it is counted and bounded, and not in the system.
_STREAM_SEND_BUFFER = 16384
# For probes, scrapers and commands. Counted per socket, so that TCP clients can't use up the commands' connections.
MOST_CONNECTIONS = 64
# Descriptors for the keeper itself: two sockets and two pipes a worker, links, listeners, mints, sinks, files.
_RESERVED_DESCRIPTORS = 192
_FEWEST_CONNECTIONS = 4
HEAD_SECONDS = 5.0
# From the end of the request head to the last byte of the answer, TCP only. Includes the time the client takes to read.
ANSWER_SECONDS = 10.0
_BACKLOG = 128
# Of a request: an address of the console's rule tester may have the longest target of a request, each byte escaped.
LONGEST_LINE_BYTES = 65536
_LOOK_AGAIN_SECONDS = 0.1


class Phase(IntEnum):
    """The phase of a connection."""

    WAITING = 0  # for a request head, or for the end of a TLS handshake
    IDLE = 1
    IN_SERVICE = 2
    STREAMING = 3  # an answer without end, among the listener's streams


class AdminConnection(web.RequestHandler):
    """aiohttp's connection with timeouts; its error answers repeat nothing of the request.

    *unhurried*: no timeout for answers, since a peer on the Unix socket has our own rights.
    """

    __slots__ = ("_listener", "_lost", "_more", "_timer", "_unhurried", "phase", "since")

    def __init__(self, listener: "AdminListener", manager: web.Server, *, unhurried: bool) -> None:
        super().__init__(
            manager,
            max_line_size=LONGEST_LINE_BYTES,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # aiohttp's value for "none", as in AppRunner
        )
        self._listener = listener
        self._unhurried = unhurried
        self._timer: asyncio.TimerHandle | None = None
        self._more = False
        self._lost: Callable[[], None] | None = None
        self.phase = Phase.WAITING
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection and start the timeout for the request head."""
        super().connection_made(transport)
        self._listener.connections.add(self)
        self._enter(Phase.WAITING)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Unregister the connection and cancel its timer."""
        self._listener.connections.discard(self)
        self._listener.streams.discard(self)
        if self._lost is not None:
            self._lost()
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse *data*. The first byte of the next head starts the timeout; later bytes do not restart it.

        Who gets a stream has nothing more to say: requests would wait for its end, more and more of them.
        """
        if self.phase is Phase.STREAMING:
            self.end()
            return
        super().data_received(data)
        if self.phase is Phase.IDLE:
            self._enter(Phase.WAITING)
        # aiohttp's parser does not report whether it holds the start of another head.
        self._more = not data.endswith(b"\r\n\r\n")

    @property
    def awaits_client(self) -> bool:
        """Return whether the client is the one to act: to send a head or the rest of a body, or to read an answer."""
        if self.phase is not Phase.IN_SERVICE:
            return True
        # The end of a body changes no phase: aiohttp reports it to the request's stream only.
        request, transport = self._current_request, self.transport
        unsent = isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size() > 0
        return unsent or (request is not None and not request.content.is_eof())

    def stream(self, lost: Callable[[], None]) -> bool:
        """Let the answer under way last; return False if no stream has a place. *lost*: the connection is gone."""
        if self.transport is None or not self._listener.make_stream(self):
            return False
        self._lost = lost
        self._enter(Phase.STREAMING)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_SEND_BUFFER)
        return True

    def end(self) -> None:
        """Abort the connection; unsent data is lost."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it repeats the input
    ) -> web.StreamResponse:
        """Return a problem document that contains nothing of the request."""
        if status >= 500:
            self.log_exception("the admin listener failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is on its way already")
        if isinstance(exc, LineTooLong) and exc.args[1] == LONGEST_LINE_BYTES:
            detail = f"The request line is longer than {LONGEST_LINE_BYTES} bytes."
            return nameless(problem(414, code="target_too_long", detail=detail))
        answer = problem(
            status,
            code="internal_error" if status >= 500 else "bad_request",
            detail="The admin listener failed; its log says why." if status >= 500 else "This is no HTTP request.",
        )
        return nameless(answer)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        """Handle a request whose head is complete, under the answer timeout instead of the head timeout."""
        self._enter(Phase.IN_SERVICE)
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            if self.phase is Phase.STREAMING:
                self._enter(Phase.IN_SERVICE)  # it closes once its end was read, or is aborted
            else:
                self._enter(Phase.WAITING if self._more else Phase.IDLE)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # aiohttp closes an idle connection after an hour; `_make_room` closes it earlier if its place is needed.
        if (
            phase in (Phase.IDLE, Phase.STREAMING)
            or (phase is Phase.IN_SERVICE and self._unhurried)
            or self.transport is None
        ):
            return
        seconds = HEAD_SECONDS if phase is Phase.WAITING else ANSWER_SECONDS
        self._timer = self._loop.call_later(seconds, self.end)


class AdminListener:
    """Accepts connections from the bound socket *listener*, at most MOST_CONNECTIONS at a time.

    At the limit, a new connection replaces the one that has waited longest for its client: for a request head, the rest
    of a body, the next request or, on TCP, for its answer to be read. Requests being handled are closed last. So a
    probe always gets through, and untrusted clients keep a connection only while no one else needs it.
    """

    def __init__(self, listener: socket.socket, manager: web.Server, *, tls: ssl.SSLContext | None = None) -> None:
        self.socket = listener
        self.connections: set[AdminConnection] = set()
        self.streams: set[AdminConnection] = set()
        self._manager = manager
        self._tls = tls
        self._local = listener.family == socket.AF_UNIX
        self._loop = asyncio.get_running_loop()
        self._opening: dict[asyncio.Task[Any], tuple[float, socket.socket]] = {}
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start listening; raise OSError if another process has bound the address first."""
        self.socket.listen(_BACKLOG)
        self.socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._resume()

    def close(self) -> None:
        """Stop accepting. The manager closes the established connections."""
        self._pause()
        self.socket.close()
        for task in list(self._opening):
            self._give_up(task)

    def make_stream(self, connection: AdminConnection) -> bool:
        """Move *connection* to the streams; return False if these are too many."""
        if len(self.streams) >= _stream_places(tls=self._tls is not None):
            return False
        self.connections.discard(connection)
        self.streams.add(connection)
        return True

    def _resume(self) -> None:
        self._later = None
        self._loop.add_reader(self.socket, self._accept)

    def _pause(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket)

    def _accept(self) -> None:
        # One accept per loop iteration: earlier connections are served in between, and their answers free places.
        try:
            peer, _address = self.socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # EMFILE, ENFILE, ENOBUFS or ENOMEM: pause, leave descriptors to others
            self._pause()
            self._later = self._loop.call_later(_LOOK_AGAIN_SECONDS, self._resume)
            return
        if len(self.connections) + len(self._opening) >= _places() and not self._make_room():
            peer.close()
            return
        task = self._loop.create_task(self._open(peer))
        self._opening[task] = (self._loop.time(), peer)
        task.add_done_callback(lambda task: self._opening.pop(task, None))

    async def _open(self, peer: socket.socket) -> None:
        peer.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        handshake = HEAD_SECONDS if self._tls else None
        with contextlib.suppress(OSError):  # the handshake failed or timed out
            await self._loop.connect_accepted_socket(
                self._connection, peer, ssl=self._tls, ssl_handshake_timeout=handshake
            )

    def _connection(self) -> AdminConnection:
        return AdminConnection(self, self._manager, unhurried=self._local)

    def _make_room(self) -> bool:
        """Close the best connection to drop; return False if all are commands being answered."""
        spared = min(self.connections, key=self._keep, default=None)
        opening = min(self._opening, key=lambda task: self._opening[task][0], default=None)
        if opening is not None and (spared is None or self._keep(spared) >= (False, self._opening[opening][0])):
            self._give_up(opening)
            return True
        if spared is None or (spared.phase is Phase.IN_SERVICE and self._local):
            return False
        spared.end()
        # The transport closes in the next loop iteration; its place is free for the new connection now.
        self.connections.discard(spared)
        return True

    def _keep(self, one: AdminConnection) -> tuple[bool, float]:
        """Return the sort key by which connections are closed at the limit, the first first."""
        awaited = one.phase is not Phase.IN_SERVICE if self._local else one.awaits_client
        return not awaited, one.since

    def _give_up(self, opening: asyncio.Task[Any]) -> None:
        _, peer = self._opening.pop(opening)
        opening.add_done_callback(lambda _task: peer.close())  # also if the task had not started
        opening.cancel()

    def __repr__(self) -> str:
        return f"<AdminListener {len(self.connections)} connections, {len(self._opening)} handshakes>"


def nameless(answer: web.Response) -> web.Response:
    """Close after *answer* and set our Server header: this answer bypasses the signal that removes Server."""
    answer.headers["Server"] = "payproxy"
    answer.force_close()
    return answer


def _places() -> int:
    """Return the connection limit, which leaves enough descriptors for the keeper itself."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(_FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, (limit - _RESERVED_DESCRIPTORS) // 2))


def _stream_places(*, tls: bool) -> int:
    """Return the limit of streams: what other connections and the keeper leave, at least a few."""
    most = _MOST_TLS_STREAMS if tls else MOST_STREAMS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return most
    return max(_FEWEST_CONNECTIONS, min(most, limit - _RESERVED_DESCRIPTORS - 2 * MOST_CONNECTIONS))


def hold_open(request: web.BaseRequest, lost: Callable[[], None]) -> bool:
    """Let the answer to *request* last; return False if there is no place for it. *lost*: the connection is gone."""
    connection = request.protocol
    return isinstance(connection, AdminConnection) and connection.stream(lost)
