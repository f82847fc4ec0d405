"""Resolves names to addresses, with at most one look-up in progress per name."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.clock import Clock

CACHE_SECONDS: Final = 10.0  # a DNS failover takes effect within this time

Lookup = Callable[[str, int], Sequence[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A socket family and the address that `connect` takes for it."""

    family: socket.AddressFamily
    target: tuple[Any, ...]


def system_lookup(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Call the system's resolver; blocks, so it runs in a thread."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Resolver:
    """Resolves one *host* and *port*.

    A hanging name server blocks one thread, not one per request: all callers share one look-up. Successes are cached
    for 10 seconds, failures not at all.
    """

    def __init__(self, host: str, port: int, *, clock: Clock, lookup: Lookup = system_lookup) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._lookup = lookup
        self._known = _literal(host, port)
        self._fresh_until = float("inf") if self._known else 0.0
        self._pending: asyncio.Future[Sequence[tuple[Any, ...]]] | None = None

    async def addresses(self) -> tuple[Address, ...]:
        """Return the addresses in the resolver's order; raises OSError (socket.gaierror) if there are none."""
        if self._clock.monotonic() < self._fresh_until:
            return self._known
        if self._pending is None:
            self._pending = asyncio.get_running_loop().run_in_executor(None, self._lookup, self._host, self._port)
            self._pending.add_done_callback(self._finished)
        # Shielded: a cancelled request must not cancel the look-up of the others.
        return _parsed(await asyncio.shield(self._pending))

    def _finished(self, pending: asyncio.Future[Sequence[tuple[Any, ...]]]) -> None:
        self._pending = None
        if not pending.cancelled() and pending.exception() is None:
            self._known = _parsed(pending.result())
            self._fresh_until = self._clock.monotonic() + CACHE_SECONDS


def _parsed(found: Sequence[tuple[Any, ...]]) -> tuple[Address, ...]:
    unique = dict.fromkeys(Address(family=item[0], target=item[4]) for item in found)
    return tuple(unique)


def _literal(host: str, port: int) -> tuple[Address, ...]:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return ()
    family, target = (socket.AF_INET, (host, port)) if version == 4 else (socket.AF_INET6, (host, port, 0, 0))
    return (Address(family=family, target=target),)
