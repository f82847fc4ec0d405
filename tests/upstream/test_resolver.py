import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.upstream.resolver import CACHE_SECONDS, Address, Resolver, system_lookup
from tests.support.clock import ManualClock


def found(*hosts: str) -> Sequence[tuple[Any, ...]]:
    """Return what getaddrinfo would for *hosts*."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 443)) for host in hosts]


class Names:
    """A name server that counts, changes its mind, fails and hangs as told."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Sequence[tuple[Any, ...]] = found("10.0.0.1", "10.0.0.2", "10.0.0.1")
        self.error: OSError | None = None
        self.free = threading.Event()
        self.free.set()

    def __call__(self, host: str, port: int) -> Sequence[tuple[Any, ...]]:
        """Answer like getaddrinfo."""
        assert (host, port) == ("bank.example", 443)
        self.asked += 1
        self.free.wait(5)
        if self.error is not None:
            raise self.error
        return self.answer


def hosts(addresses: tuple[Address, ...]) -> list[str]:
    """Return only the host of each address."""
    return [address.target[0] for address in addresses]


async def test_addresses_are_kept_for_ten_seconds_and_then_asked_for_again() -> None:
    """A failover by DNS is followed within the time (bad-inputs 97)."""
    clock, names = ManualClock(), Names()
    resolver = Resolver("bank.example", 443, clock=clock, lookup=names)
    assert hosts(await resolver.addresses()) == ["10.0.0.1", "10.0.0.2"]
    names.answer = found("10.0.0.3")
    await clock.advance(CACHE_SECONDS - 0.1)
    assert hosts(await resolver.addresses()) == ["10.0.0.1", "10.0.0.2"]
    await clock.advance(0.2)
    assert hosts(await resolver.addresses()) == ["10.0.0.3"]
    assert names.asked == 2


async def test_many_ask_once() -> None:
    """A hanging name server holds one thread, however many requests wait for it (bad-inputs 134)."""
    names = Names()
    names.free.clear()
    resolver = Resolver("bank.example", 443, clock=ManualClock(), lookup=names)
    askers = [asyncio.ensure_future(resolver.addresses()) for _ in range(50)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.addresses(), 0.02)
    names.free.set()
    assert {tuple(hosts(each)) for each in await asyncio.gather(*askers)} == {("10.0.0.1", "10.0.0.2")}
    assert names.asked == 1


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    """Whoever asks next asks anew."""
    names = Names()
    names.error = socket.gaierror(socket.EAI_AGAIN, "try again")
    resolver = Resolver("bank.example", 443, clock=ManualClock(), lookup=names)
    for outcome in await asyncio.gather(*[resolver.addresses() for _ in range(3)], return_exceptions=True):
        assert isinstance(outcome, socket.gaierror)
    names.error = None
    assert hosts(await resolver.addresses()) == ["10.0.0.1", "10.0.0.2"]
    assert names.asked == 2


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.9", Address(family=socket.AF_INET, target=("10.0.0.9", 443))),
        ("::1", Address(family=socket.AF_INET6, target=("::1", 443, 0, 0))),
    ],
)
async def test_an_address_needs_no_look_up(host: str, address: Address) -> None:
    """No thread for what is an address already."""
    names = Names()
    assert await Resolver(host, 443, clock=ManualClock(), lookup=names).addresses() == (address,)
    assert names.asked == 0


def test_the_systems_resolver_knows_this_machine() -> None:
    """The real look-up gives what `connect` takes."""
    assert ("127.0.0.1", 80) in [item[4] for item in system_lookup("localhost", 80)]
