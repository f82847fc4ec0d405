"""Taking connections from the listening sockets, as long as the process has file descriptors to spare."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Sequence

from proxy.worker.listener import CallerServer

# Taken in one turn of the loop, so that a rush of new callers does not hold up those who are there.
_AT_ONCE = 64
_LOOK_AGAIN_SECONDS = 0.05


class Acceptor:
    """Gives the callers in the queues of *listeners* to *server*, in TLS if there is a context.

    Of the descriptors that the process may have, *reserve* (but never more than half) are not for callers: the journal
    and the connections to the bank need theirs. While callers have all others, nobody is accepted, and who comes waits
    in the kernel's queue. The loops' own servers know no reserve, and when all is used up uvloop's accepts callers only
    to close their connections without a word, after which some send again.
    """

    def __init__(
        self, server: CallerServer, listeners: Sequence[socket.socket], *, tls: ssl.SSLContext | None, reserve: int
    ) -> None:
        self._server = server
        self._listeners = listeners
        self._tls = tls
        self._reserve = reserve
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._was_full = False

    @property
    def opening(self) -> int:
        """Return how many callers were taken from a queue whose connections are not made yet."""
        return len(self._opening)

    def was_full(self) -> bool:
        """Return whether callers were left in the queue since this was last asked."""
        full = self._was_full or self._later is not None
        self._was_full = False
        return full

    def start(self) -> None:
        """Begin to accept, or begin again."""
        self._later = None
        for listener in self._listeners:
            listener.setblocking(False)  # noqa: FBT003  the socket module's own signature
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Accept no more and close the listening sockets; what is connected stays."""
        self._stop()
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(min(_AT_ONCE, self._room())):
            try:
                caller, _address = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # EMFILE, ENFILE, ENOBUFS or ENOMEM, which _room() should prevent
                self._pause()
                return
            task = self._loop.create_task(self._open(caller))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        if self._room() <= 0:
            self._pause()

    async def _open(self, caller: socket.socket) -> None:
        caller.setblocking(False)  # noqa: FBT003  the socket module's own signature
        with contextlib.suppress(OSError):  # a handshake failed or did not end: the transport closes the connection
            await self._loop.connect_accepted_socket(self._server, caller, ssl=self._tls)

    def _room(self) -> int:
        """Return how many more callers there may be; the limit is asked for each time, as it may be changed."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            return _AT_ONCE
        return limit - min(self._reserve, limit // 2) - self._server.crowd - len(self._opening)

    def _pause(self) -> None:
        self._stop()
        self._was_full = True
        self._later = self._loop.call_later(_LOOK_AGAIN_SECONDS, self.start)

    def _stop(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._loop.remove_reader(listener)

    def __repr__(self) -> str:
        return f"<Acceptor room for {self._room()}{', paused' if self._later is not None else ''}>"
