"""Listening sockets that the service manager passes (socket activation, sd_listen_fds(3))."""

import contextlib
import socket
from collections.abc import Mapping
from typing import NamedTuple, Self

from proxy.settings.addresses import TcpAddress, UnixAddress

_FIRST_DESCRIPTOR = 3
# The names that a socket unit may give its sockets (FileDescriptorName=), and the keys of their addresses.
_KEYS: Mapping[str, str] = {"traffic": "server.listen", "admin": "admin.listen"}


class PassedSocketUnfit(ValueError):
    """A socket that was passed can't be used; the message says which, why, and what to do."""


class _Passed(NamedTuple):
    name: str
    socket: socket.socket


class PassedSockets:
    """The sockets passed to this process that no listener has taken yet."""

    def __init__(self, passed: list[_Passed]) -> None:
        self._left = passed

    @classmethod
    def of(cls, environ: Mapping[str, str], *, pid: int) -> Self:
        """Return the sockets that $LISTEN_FDS passes to the process *pid*; none if $LISTEN_PID names another.

        Raises PassedSocketUnfit if one is no listening stream socket.
        """
        if environ.get("LISTEN_PID") != str(pid):
            return cls([])
        try:
            passed = range(int(environ.get("LISTEN_FDS", "0")))
        except ValueError:
            raise PassedSocketUnfit("LISTEN_FDS is not a number: payproxy was not started by systemd") from None
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        found = []
        for index in passed:  # one by one: the number may be any, and the first that is no socket ends it
            name = names[index] if index < len(names) else ""
            found.append(_Passed(name, _listening(_FIRST_DESCRIPTOR + index)))
        return cls(found)

    def take(self, name: str, address: TcpAddress | UnixAddress | None) -> list[socket.socket]:
        """Return the sockets for the listener *name* ("traffic", "admin"), which is configured to be at *address*.

        They are those with that name and those whose address it is. Raises PassedSocketUnfit if one with that name is
        at another address: rules such as "a listener that others can reach needs [callers]" were checked for *address*.
        """
        taken = [one for one in self._left if address is not None and _is_at(one.socket, address)]
        for one in self._left:
            if one.name == name and one not in taken:
                raise _unfit(one, f"{_KEYS[name]} = {str(address or '')!r}")
        taken = [one for one in taken if one.name == name or one.name not in _KEYS]
        self._left = [one for one in self._left if one not in taken]
        return [one.socket for one in taken]

    def refuse_rest(self) -> None:
        """Raise PassedSocketUnfit if a socket is left over: callers would wait in its queue for ever."""
        if self._left:
            raise _unfit(self._left[0], "no listener there")

    def __repr__(self) -> str:
        return f"<PassedSockets {', '.join(address_of(one.socket) for one in self._left) or 'none'}>"


def address_of(one: socket.socket) -> str:
    """Return the address that *one* is bound to: host:port, [v6]:port or unix:/path."""
    name = one.getsockname()
    if one.family == socket.AF_UNIX:
        return f"unix:{name}"
    return str(TcpAddress(host=name[0], port=name[1]))


def _listening(descriptor: int) -> socket.socket:
    try:
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        raise PassedSocketUnfit(
            f"descriptor {descriptor}, passed in LISTEN_FDS, is no socket: {error.strerror or error}"
        ) from None
    one.set_inheritable(False)
    if one.type != socket.SOCK_STREAM or not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        one.close()
        raise PassedSocketUnfit(
            f"descriptor {descriptor}, passed in LISTEN_FDS, does not listen: write ListenStream= and Accept=no"
        )
    return one


def _is_at(one: socket.socket, address: TcpAddress | UnixAddress) -> bool:
    """Return whether *one* is bound to *address*; a configured port 0 is every port."""
    if isinstance(address, UnixAddress):
        return one.family == socket.AF_UNIX and one.getsockname() == address.path
    if one.family not in {socket.AF_INET, socket.AF_INET6} or _takes_both(one):
        return False
    host, port = one.getsockname()[:2]
    return port == (address.port or port) and (one.family, host) in _places(address.host)


def _places(host: str) -> set[tuple[socket.AddressFamily, str]]:
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return {(family, str(place[0])) for family, _kind, _protocol, _name, place in found}
    return set()


def _takes_both(one: socket.socket) -> bool:
    """Return whether *one* takes IPv4 connections too, which payproxy's own IPv6 listener never does."""
    return (
        one.family == socket.AF_INET6
        and one.getsockname()[0] == "::"
        and not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def _unfit(one: _Passed, wanted: str) -> PassedSocketUnfit:
    where = address_of(one.socket) + (f" (FileDescriptorName={one.name})" if one.name else "")
    what = f"the service manager passed a socket at {where}"
    fix = "make ListenStream= of the socket unit and the configuration alike"
    if _takes_both(one.socket):
        what += " that takes IPv4 connections too"
        fix = f"write BindIPv6Only=ipv6-only, or ListenStream=0.0.0.0:{one.socket.getsockname()[1]} for IPv4"
    return PassedSocketUnfit(f"{what}, and the configuration has {wanted}: {fix}")
