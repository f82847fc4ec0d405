"""Accepts caller connections while the worker process has free file descriptors."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.clock import Clock
from proxy.link.shared_limits import BACKLOG
from proxy.worker.caller_connection import CallerConnection
from proxy.worker.caller_tls import CallerTls, TlsCallerServer
from proxy.worker.listener import CallerServer

# At most this many accepts per loop iteration, so that a burst of new callers does not delay connected ones.
_AT_ONCE = 64
_LOOK_AGAIN_SECONDS = 0.05
# With room for so many more the loop's server accepts, which may take the whole queue in one iteration.
_AMPLE = 2 * BACKLOG
# Accepted connections between two looks at the room that is left.
_LOOK_EVERY = 64
# proc_sys_fs(5): open files of the whole system, 0, and how many there may be.
_FILE_NR = Path("/proc/sys/fs/file-nr")


def system_room() -> int:
    """Return how many more files all processes may open (fs.file-max); a large number where that is not known."""
    try:
        opened, unused, most = _FILE_NR.read_text().split()
        return int(most) - int(opened) + int(unused)
    except (OSError, ValueError):
        return _AMPLE


class Acceptor:
    """Accepts connections from *listeners* and gives them to *server*, with TLS if there is a context.

    *reserve* descriptors of the process limit (but never more than half) are kept for the journal and the connections
    to the bank. While callers hold all others, accepting pauses and new connections wait in the kernel's queue. The
    servers of asyncio and uvloop have no reserve; at the descriptor limit, that of the process or of the system
    (*system_room* returns how far it is), uvloop accepts connections and closes them without an answer, after which
    some callers send again. So they accept TCP only while these limits are far away: that takes 10 us less a connection
    than accepting it here.
    """

    def __init__(
        self,
        server: CallerServer,
        listeners: Sequence[socket.socket],
        *,
        tls: ssl.SSLContext | None,
        reserve: int,
        clock: Clock,
        system_room: Callable[[], int] = system_room,
    ) -> None:
        self._server = server
        self._listeners = listeners
        self._protocol = server if tls is None else TlsCallerServer(server, tls, clock=clock)
        self._reserve = reserve
        self._system_room = system_room
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._starting: asyncio.Task[None] | None = None
        self._unseen = 0  # accepted by the loop's servers since the last look at the room
        self._later: asyncio.TimerHandle | None = None
        self._was_full = False

    @property
    def opening(self) -> int:
        """Return the number of accepted connections that are not set up yet, or in the TLS handshake."""
        return len(self._opening) + self._server.handshakes

    def was_full(self) -> bool:
        """Return whether accepting was paused since the last call of this method."""
        full = self._was_full or self._later is not None
        self._was_full = False
        return full

    def start(self) -> None:
        """Start or resume accepting."""
        self._later = None
        for listener in self._listeners:
            listener.setblocking(False)  # noqa: FBT003  the socket module's own signature
            if listener.family != socket.AF_UNIX:  # its connections inherit it
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._ample() and all(one.family != socket.AF_UNIX for one in self._listeners):
            self._starting = self._loop.create_task(self._leave_to_loop())
        else:
            self._accept_here()

    def _accept_here(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    async def _leave_to_loop(self) -> None:
        """Let the loop's servers accept, with descriptors of their own for the same sockets."""
        for listener in self._listeners:
            # `create_server` that also starts it suspends after that, in asyncio: `_stop` would not know of it.
            server = await self._loop.create_server(
                self._accepted, sock=listener.dup(), backlog=BACKLOG, start_serving=False
            )
            self._servers.append(server)
            await server.start_serving()

    def _accepted(self) -> CallerConnection | CallerTls:
        """Return the protocol object for a connection that the loop has accepted."""
        self._unseen += 1
        if self._unseen >= _LOOK_EVERY:
            self._unseen = 0
            self.look()
        return self._protocol()

    def look(self) -> None:
        """Look whether there is still ample room: a limit may have been lowered. Call it every second."""
        if self._servers and not self._ample():
            self._loop.call_soon(self._take_over)

    def _ample(self) -> bool:
        return self._room() >= _AMPLE and self._system_room() >= _AMPLE

    def _take_over(self) -> None:
        if self._servers:
            self._stop()
            self._accept_here()

    def close(self) -> None:
        """Stop accepting and close the listening sockets; established connections stay."""
        self._stop()
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(min(_AT_ONCE, self._room())):
            try:
                caller, _address = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # ENFILE, or EMFILE, ENOBUFS or ENOMEM: _room() should prevent these
                self._pause()
                return
            task = self._loop.create_task(self._open(caller))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        if self._room() <= 0:
            self._pause()

    async def _open(self, caller: socket.socket) -> None:
        caller.setblocking(False)  # noqa: FBT003  the socket module's own signature
        with contextlib.suppress(OSError):  # the caller may have reset it
            await self._loop.connect_accepted_socket(self._protocol, caller)

    def _room(self) -> int:
        """Return how many more connections can be accepted; the limit is read each time, because it may be changed."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            return _AT_ONCE
        return limit - min(self._reserve, limit // 2) - self._server.open_connections - self.opening

    def _pause(self) -> None:
        self._stop()
        self._was_full = True
        self._later = self._loop.call_later(_LOOK_AGAIN_SECONDS, self.start)

    def _stop(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._starting is not None:
            self._starting.cancel()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._loop.remove_reader(listener)

    def __repr__(self) -> str:
        how = ", paused" if self._later is not None else ", by the loop" if self._servers else ""
        return f"<Acceptor room for {self._room()}{how}>"
