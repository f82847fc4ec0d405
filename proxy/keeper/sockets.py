"""The listening sockets of the traffic: they belong to the keeper, so that no connection in a queue is lost."""

import contextlib
import socket
from pathlib import Path

from proxy.keeper.unix_socket import listened_on
from proxy.settings.address import TcpAddress, UnixAddress

_BACKLOG = 1024
_UNIX_MODE = 0o660


class ListenFailed(OSError):
    """The traffic listener can't be opened; the message says where and why."""


class Sockets:
    """One set of listening sockets a worker: the kernel spreads connections over the sets (SO_REUSEPORT)."""

    def __init__(self, address: TcpAddress | UnixAddress, *, workers: int) -> None:
        self.number = workers
        self._unix = address.path if isinstance(address, UnixAddress) else ""
        self._closed = False
        try:
            if isinstance(address, UnixAddress):
                shared = [_unix_socket(address.path)]
                self._sets = [shared] * workers
            else:
                self._sets = _tcp_sets(address, workers=workers)
        except OSError as error:
            raise ListenFailed(f"server.listen = {str(address)!r}: {error.strerror or error}") from None

    def descriptors(self, worker: int) -> list[int]:
        """Return the file descriptors that *worker*, counted from 0, inherits."""
        return [one.fileno() for one in self._sets[worker]]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return where callers reach the proxy: host:port, [v6]:port or unix:/path."""
        if self._unix:
            return (f"unix:{self._unix}",)
        names = [one.getsockname() for one in self._sets[0]]
        return tuple(f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names)

    def close(self) -> None:
        """Stop listening; workers that listen still take who stands in the queue."""
        if self._unix and not self._closed:
            with contextlib.suppress(FileNotFoundError):
                Path(self._unix).unlink()
        self._closed = True
        for one in {one for group in self._sets for one in group}:
            one.close()

    def __repr__(self) -> str:
        return f"<Sockets {', '.join(self.addresses)} for {len(self._sets)} workers>"


def _tcp_sets(address: TcpAddress, *, workers: int) -> list[list[socket.socket]]:
    sets: list[list[socket.socket]] = []
    port = address.port
    for _ in range(workers):
        group: list[socket.socket] = []
        found = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _name, place in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if workers > 1:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind((place[0], port, *place[2:]))
            except OSError:
                one.close()
                if group:
                    continue  # localhost without IPv6: the other family serves
                raise
            one.listen(_BACKLOG)
            port = port or one.getsockname()[1]
            group.append(one)
        sets.append(group)
    return sets


def _unix_socket(path: str) -> socket.socket:
    place = Path(path)
    if not listened_on(place):
        place.unlink(missing_ok=True)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(path)
        place.chmod(_UNIX_MODE)
        one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one
