"""Admission control: requests in flight, memory for bodies, rate per caller, and a fair share for every caller."""

from typing import Final

from proxy.callers.caller import Caller
from proxy.clock import Clock
from proxy.errors import Draining, Overloaded, RateLimited

# A caller counts as active for this long after its last request, even if that was refused.
_ACTIVE_SECONDS: Final = 60.0
# One caller leaves this fraction (1/8) of requests and memory free even while no other caller is active, so that
# another caller's first request is served although the held ones may last as long as exchange_timeout.
_KEPT_FREE: Final = 8
# Fraction of max_requests, in addition, for requests of unknown callers, e.g. token requests being received.
_UNKNOWN_SHARE: Final = 16
_FEWEST_UNKNOWN: Final = 4


class Share:
    """What one caller holds; as a context manager it counts one request in flight. One object per caller."""

    __slots__ = ("_admission", "held_bytes", "in_flight", "last_request")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.in_flight = 0
        self.held_bytes = 0
        self.last_request = 0.0

    def __enter__(self) -> None:
        self.in_flight += 1
        self._admission.in_flight += 1

    def __exit__(self, *exception: object) -> None:
        self.in_flight -= 1
        self._admission.in_flight -= 1

    def __repr__(self) -> str:
        return f"<Share {self.in_flight} requests, {self.held_bytes} bytes>"


class UnknownCallerSlot:
    """Context manager that counts a request in flight whose caller is not known yet."""

    __slots__ = ("_address", "_admission")

    def __init__(self, admission: "Admission", address: str) -> None:
        self._admission = admission
        self._address = address

    def __enter__(self) -> None:
        unknown = self._admission.unknown
        unknown[self._address] = unknown.get(self._address, 0) + 1

    def __exit__(self, *exception: object) -> None:
        unknown = self._admission.unknown
        unknown[self._address] -= 1
        if not unknown[self._address]:
            del unknown[self._address]


class Admission:
    """The limits of one worker: *max_requests* in flight, *body_memory* bytes for bodies held for replay.

    *callers* is the number of configured callers. With more than one, each is limited to half while another one is
    active.
    """

    def __init__(self, *, max_requests: int, body_memory: int, callers: int, clock: Clock) -> None:
        self._max_requests = max_requests
        self._body_memory = body_memory
        self._clock = clock
        self._shared = callers > 1
        self._half_requests = max(1, max_requests // 2)
        self._half_memory = body_memory // 2
        self._max_unknown = max(_FEWEST_UNKNOWN, max_requests // _UNKNOWN_SHARE)
        self._shares: dict[str, Share] = {}
        self._buckets: dict[str, tuple[float, float]] = {}
        self.in_flight = 0
        self.held_bytes = 0
        self.unknown: dict[str, int] = {}
        self.closed = False

    def admit(self, caller: Caller) -> Share:
        """Return the caller's share, to be held in a `with`; raises Draining, Overloaded or RateLimited."""
        if self.closed:
            raise _draining()
        share = self._shares.get(caller.name)
        if share is None:
            share = self._share(caller.name)
        share.last_request = self._clock.monotonic()
        if self.in_flight >= self._max_requests:
            raise Overloaded(f"{self._max_requests} requests are in flight already (server.max_requests).")
        if self._shared and share.in_flight >= self._half_requests:
            most = self._most(share, self._max_requests, self._half_requests)
            if share.in_flight >= most:
                raise Overloaded(f"The caller has {most} requests in flight already, its part of server.max_requests.")
        if caller.rate:
            self.take_rate(caller)
        return share

    def admit_unknown(self, address: str) -> UnknownCallerSlot:
        """Return a slot for a request from *address* whose caller is not known yet; raises Draining or Overloaded."""
        if self.closed:
            raise _draining()
        if sum(self.unknown.values()) >= self._max_unknown or self.unknown.get(address, 0) >= self._max_unknown // 2:
            raise Overloaded("Too many requests are in flight whose caller is not known yet.")
        return UnknownCallerSlot(self, address)

    def hold(self, caller: str, size: int) -> None:
        """Reserve *size* bytes for a body of *caller*; raises Overloaded if body_memory_bytes would be exceeded."""
        if self.held_bytes + size > self._body_memory:
            raise Overloaded("The memory for held bodies is in use (server.body_memory_bytes).")
        share = self._shares.get(caller)
        if share is None:
            share = self._share(caller)
        held = share.held_bytes + size
        if self._shared and held > self._half_memory and held > self._most(share, self._body_memory, self._half_memory):
            raise Overloaded("The caller's bodies fill its part of server.body_memory_bytes.")
        share.held_bytes = held
        self.held_bytes += size

    def release_memory(self, caller: str, size: int) -> None:
        """Release what `hold` reserved."""
        self._shares[caller].held_bytes -= size
        self.held_bytes -= size

    def take_rate(self, caller: Caller) -> None:
        """Take one request from the caller's token bucket, which holds one second's worth; raises RateLimited."""
        if not caller.rate:
            return
        now = self._clock.monotonic()
        burst = max(caller.rate, 1.0)
        level, since = self._buckets.get(caller.name, (burst, now))
        level = min(burst, level + (now - since) * caller.rate)
        if level < 1:
            self._buckets[caller.name] = (level, now)
            seconds = int((1 - level) / caller.rate) + 1
            raise RateLimited("The caller exceeds its max_requests_per_second.", retry_after=seconds)
        self._buckets[caller.name] = (level - 1, now)

    def _share(self, name: str) -> Share:
        share = self._shares[name] = Share(self)
        return share

    def _most(self, mine: Share, whole: int, half: int) -> int:
        """Return how much of *whole* the caller of *mine* may hold: *half* while another caller is active."""
        since = self._clock.monotonic() - _ACTIVE_SECONDS
        for share in self._shares.values():
            if share is not mine and (share.in_flight or share.last_request > since):
                return half
        return whole - whole // _KEPT_FREE

    def __repr__(self) -> str:
        return (
            f"<Admission {self.in_flight}/{self._max_requests} requests, {self.held_bytes}/{self._body_memory} bytes>"
        )


def _draining() -> Draining:
    return Draining("The proxy is stopping; send this request to another instance or in a moment.", retry_after=2)
