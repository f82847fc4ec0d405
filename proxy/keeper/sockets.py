"""The callers' listening sockets. The keeper owns them, so that no queued connection is lost."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from proxy.keeper.passed_sockets import address_of
from proxy.link.shared_limits import BACKLOG
from proxy.settings.addresses import TcpAddress, UnixAddress

_UNIX_MODE = 0o660


class ListenFailed(OSError):
    """The callers' listener can't be opened; the message names the address and the reason."""


class Sockets:
    """One set of listening sockets per worker; the kernel balances connections over the sets (SO_REUSEPORT).

    They are bound at start, so that an address in use is found at once. They listen only when their worker can serve:
    until then connections are refused and clients go to another instance instead of waiting in a queue.

    With *passed*, which listen already, all workers accept from these, and they stay open for the next instance when
    this one ends (socket activation): no connection is refused, it waits in the queue.
    """

    def __init__(
        self, address: TcpAddress | UnixAddress, *, workers: int, passed: Sequence[socket.socket] = ()
    ) -> None:
        self.number = workers
        self.opened = asyncio.Event()
        self.outlive_us = bool(passed)
        self._address = address
        self._unix = address.path if isinstance(address, UnixAddress) and not passed else ""
        self._shared = isinstance(address, UnixAddress) or self.outlive_us
        self._listening: set[int] = set()
        self._closed = False
        try:
            if passed:
                self._sets = [list(passed)] * workers
            elif isinstance(address, UnixAddress):
                self._sets = [[_unix_socket(address.path)]] * workers
            else:
                self._sets = _tcp_sets(address, workers=workers)
        except OSError as error:
            raise self._failed(error) from None

    def descriptors(self, worker: int) -> list[int]:
        """Return the file descriptors that *worker*, counted from 0, inherits."""
        return [one.fileno() for one in self._sets[worker]]

    def open(self, worker: int) -> None:
        """Listen on the sockets of *worker* if not done yet; raise ListenFailed if another process has the address.

        With several workers the first socket listens without SO_REUSEPORT, so that the kernel refuses it if another
        instance listens there, as it does with one worker. The other sockets join with SO_REUSEPORT.
        """
        if self._closed or worker in self._listening:
            return
        try:
            for one in () if self.outlive_us else self._sets[worker]:
                if not self._shared and self._listening:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                self._listen(one)
                if not self._shared and self.number > 1:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            raise self._failed(error) from None
        self._listening |= set(range(self.number)) if self._shared else {worker}
        self.opened.set()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses for callers: host:port, [v6]:port or unix:/path."""
        if self._unix:  # bound only when it listens
            return (f"unix:{self._unix}",)
        return tuple(map(address_of, self._sets[0]))

    def close(self) -> None:
        """Close the keeper's descriptors; listening workers, or the next instance, still accept queued connections."""
        if self._unix and self._listening and not self._closed:
            with contextlib.suppress(FileNotFoundError):
                Path(self._unix).unlink()
        self._closed = True
        for one in {one for group in self._sets for one in group}:
            one.close()

    def _listen(self, one: socket.socket) -> None:
        if self._unix:
            # Bind the path only now: an instance that is ending may use it until our first worker can serve.
            _refuse_if_listened_on(Path(self._unix))
            Path(self._unix).unlink(missing_ok=True)
            one.bind(self._unix)
            Path(self._unix).chmod(_UNIX_MODE)
        one.listen(BACKLOG)

    def _failed(self, error: OSError) -> ListenFailed:
        return ListenFailed(f"server.listen = {str(self._address)!r}: {error.strerror or error}")

    def __repr__(self) -> str:
        return f"<Sockets {', '.join(self.addresses)} for {len(self._sets)} workers, {len(self._listening)} listen>"


def bound(host: str, port: int) -> list[socket.socket]:
    """Return a TCP socket for each address of *host*, bound but not listening; raise OSError.

    With port 0 the kernel chooses a port, the same for all.
    """
    group: list[socket.socket] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _name, place in dict.fromkeys(found):
        one = socket.socket(family, kind, protocol)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind((place[0], port, *place[2:]))
        except OSError:
            one.close()
            if group:
                continue  # e.g. localhost without IPv6: use the other family
            raise
        port = port or one.getsockname()[1]
        group.append(one)
    return group


def listened_on(path: Path) -> bool:
    """Return whether a process listens on *path*; False if there is nothing or only a dead process's socket.

    A killed process leaves its socket file behind. Raises FileExistsError if another kind of file is there, and OSError
    if it can't be examined.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket: move it elsewhere", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            # The accept queue is full: a process listens and is busy.
            return True
    return True


def _tcp_sets(address: TcpAddress, *, workers: int) -> list[list[socket.socket]]:
    sets: list[list[socket.socket]] = []
    port = address.port
    try:
        for _ in range(workers):
            sets.append(bound(address.host, port))
            port = sets[0][0].getsockname()[1]
    except OSError:
        for one in {one for group in sets for one in group}:
            one.close()
        raise
    return sets


def _unix_socket(path: str) -> socket.socket:
    place = Path(path)
    _refuse_if_listened_on(place)
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place.parent))
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place.parent))
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def _refuse_if_listened_on(place: Path) -> None:
    if listened_on(place):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(place))
