"""The connections of the admin listener: few, and none that only holds a place; strangers may reach it too."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any

from aiohttp import web

from proxy.keeper.admin import problem

# For probes, scrapers and commands; counted for each socket, so that nobody takes the commands' places by TCP.
MOST_CONNECTIONS = 64
# What the keeper needs itself: two sockets and two pipes a worker, links, listeners, mints, sinks, its files.
_RESERVED_DESCRIPTORS = 192
_FEWEST_CONNECTIONS = 4
HEAD_SECONDS = 5.0
# From the head of a request that came by TCP to the last byte of its answer, of which the other side takes its time.
ANSWER_SECONDS = 10.0
_BACKLOG = 128
_LOOK_AGAIN_SECONDS = 0.1


class Phase(IntEnum):
    """What a connection does; the places of those in service are taken last."""

    WAITING = 0  # for a head, or for the end of a handshake
    IDLE = 1
    IN_SERVICE = 2


class AdminConnection(web.RequestHandler):
    """aiohttp's connection with deadlines, whose errors are answered without repeating what was sent.

    *unhurried*: who is at the other end may do what we can do, so an answer may take its time.
    """

    __slots__ = ("_listener", "_more", "_timer", "_unhurried", "phase", "since")

    def __init__(self, listener: "AdminListener", manager: web.Server, *, unhurried: bool) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # aiohttp's own word for "none", as in AppRunner
        )
        self._listener = listener
        self._unhurried = unhurried
        self._timer: asyncio.TimerHandle | None = None
        self._more = False
        self.phase = Phase.WAITING
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, and wait for a head as long as it may take."""
        super().connection_made(transport)
        self._listener.connections.add(self)
        self._enter(Phase.WAITING)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._listener.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; the first byte of the next head starts the clock, whatever follows does not set it back."""
        super().data_received(data)
        if self.phase is Phase.IDLE:
            self._enter(Phase.WAITING)
        # aiohttp's parser does not tell whether it holds the beginning of another head.
        self._more = not data.endswith(b"\r\n\r\n")

    def end(self) -> None:
        """Close it at once, whatever the other side has not taken."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it repeats the input
    ) -> web.StreamResponse:
        """Return a problem document that says nothing of the request."""
        if status >= 500:
            self.log_exception("the admin listener failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is on its way already")
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
        """Answer a request whose head is there: from here on another clock runs, until its answer is taken."""
        self._enter(Phase.IN_SERVICE)
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            self._enter(Phase.WAITING if self._more else Phase.IDLE)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # An idle one is closed by aiohttp after an hour, or as soon as its place is wanted.
        if phase is Phase.IDLE or (phase is Phase.IN_SERVICE and self._unhurried) or self.transport is None:
            return
        seconds = HEAD_SECONDS if phase is Phase.WAITING else ANSWER_SECONDS
        self._timer = self._loop.call_later(seconds, self.end)


class AdminListener:
    """Takes connections from *listener*, which is bound, and never holds more than MOST_CONNECTIONS at a time.

    Whoever comes when all places are taken gets that of the connection which has waited longest for a head, for its
    next request or, by TCP, for its answer to be taken: a probe always gets through, and what strangers hold is theirs
    for as long as nobody else wants it.
    """

    def __init__(self, listener: socket.socket, manager: web.Server, *, tls: ssl.SSLContext | None = None) -> None:
        self.socket = listener
        self.connections: set[AdminConnection] = set()
        self._manager = manager
        self._tls = tls
        self._local = listener.family == socket.AF_UNIX
        self._loop = asyncio.get_running_loop()
        self._opening: dict[asyncio.Task[Any], tuple[float, socket.socket]] = {}
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen; raises OSError if another process was faster."""
        self.socket.listen(_BACKLOG)
        self.socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._resume()

    def close(self) -> None:
        """Take no more; what is connected is the manager's to end."""
        self._pause()
        self.socket.close()
        for task in list(self._opening):
            self._give_up(task)

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
        # One a turn of the loop: those who came before are heard meanwhile, and their answers free their places.
        try:
            peer, _address = self.socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # EMFILE, ENFILE, ENOBUFS or ENOMEM: others in this process come first
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
        with contextlib.suppress(OSError):  # a handshake that failed or was not ended
            await self._loop.connect_accepted_socket(
                self._connection, peer, ssl=self._tls, ssl_handshake_timeout=handshake
            )

    def _connection(self) -> AdminConnection:
        return AdminConnection(self, self._manager, unhurried=self._local)

    def _make_room(self) -> bool:
        """End the connection that can best be spared; False if all are commands that are being answered."""
        spared = min(self.connections, key=lambda one: (one.phase is Phase.IN_SERVICE, one.since), default=None)
        opening = min(self._opening, key=lambda task: self._opening[task][0], default=None)
        if opening is not None and (
            spared is None or spared.phase is Phase.IN_SERVICE or self._opening[opening][0] <= spared.since
        ):
            self._give_up(opening)
            return True
        if spared is None or (spared.phase is Phase.IN_SERVICE and self._local):
            return False
        spared.end()
        # It is gone a turn later; its place is the newcomer's now.
        self.connections.discard(spared)
        return True

    def _give_up(self, opening: asyncio.Task[Any]) -> None:
        _, peer = self._opening.pop(opening)
        opening.add_done_callback(lambda _task: peer.close())  # also where it had not begun
        opening.cancel()

    def __repr__(self) -> str:
        return f"<AdminListener {len(self.connections)} connections, {len(self._opening)} handshakes>"


def nameless(answer: web.Response) -> web.Response:
    """Close after *answer*, and hide what we are built of: it does not pass the signal that takes Server away."""
    answer.headers["Server"] = "payproxy"
    answer.force_close()
    return answer


def _places() -> int:
    """Return how many connections there may be, so that the keeper's own descriptors are never theirs."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(_FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, (limit - _RESERVED_DESCRIPTORS) // 2))
