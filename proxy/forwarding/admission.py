"""Who may come in now: requests in flight, memory for bodies, the caller's own rate, and no caller takes all of it."""

from typing import Final

from proxy.callers.caller import Caller
from proxy.clock import Clock
from proxy.errors import Draining, Overloaded, RateLimited

# How long a caller that has asked counts as one that wants a place, whether or not it has one.
_WANTS_SECONDS: Final = 60.0
# Of the places and the memory one caller leaves this part free for others even while nobody else wants any, so that the
# first who comes is served while what the one holds may last as long as exchange_timeout.
_KEPT_FREE: Final = 8
# Of max_requests, beside them: what is not yet anybody's, such as token requests whose bodies are still coming.
_UNKNOWN_SHARE: Final = 16
_FEWEST_UNKNOWN: Final = 4


class Share:
    """What one caller holds; in a `with` it counts a request in flight. One object serves all requests of a caller."""

    __slots__ = ("_admission", "asked", "held_bytes", "in_flight")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.in_flight = 0
        self.held_bytes = 0
        self.asked = 0.0

    def __enter__(self) -> None:
        self.in_flight += 1
        self._admission.in_flight += 1

    def __exit__(self, *exception: object) -> None:
        self.in_flight -= 1
        self._admission.in_flight -= 1

    def __repr__(self) -> str:
        return f"<Share {self.in_flight} requests, {self.held_bytes} bytes>"


class UnknownPlace:
    """A request in flight whose caller is not known yet, counted while the `with` lasts."""

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
    """The limits of one worker; *max_requests* in flight, *body_memory* in bytes for bodies held for replay.

    *callers* is how many are configured: what one holds is bounded where there are others, by half while they want
    some.
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
        """Return a place to hold in a `with`; raises Draining, Overloaded or RateLimited."""
        self._refuse_closed()
        share = self._shares.get(caller.name)
        if share is None:
            share = self._share(caller.name)
        share.asked = self._clock.monotonic()
        if self.in_flight >= self._max_requests:
            raise Overloaded(f"{self._max_requests} requests are in flight already (server.max_requests).")
        if self._shared and share.in_flight >= self._half_requests:
            most = self._most(share, self._max_requests, self._half_requests)
            if share.in_flight >= most:
                raise Overloaded(f"The caller has {most} requests in flight already, its part of server.max_requests.")
        if caller.rate:
            self.take_rate(caller)
        return share

    def admit_unknown(self, address: str) -> UnknownPlace:
        """Return a place for a request whose caller is not known yet, from *address*; raises Draining or Overloaded."""
        self._refuse_closed()
        if sum(self.unknown.values()) >= self._max_unknown or self.unknown.get(address, 0) >= self._max_unknown // 2:
            raise Overloaded("Too many requests are in flight whose caller is not known yet.")
        return UnknownPlace(self, address)

    def hold(self, caller: str, size: int) -> None:
        """Reserve *size* bytes for a body of *caller*; raises Overloaded when body_memory_bytes would be exceeded."""
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

    def let_go(self, caller: str, size: int) -> None:
        """Give back what `hold` reserved."""
        self._shares[caller].held_bytes -= size
        self.held_bytes -= size

    def take_rate(self, caller: Caller) -> None:
        """Take one from the caller's bucket, which holds one second's worth; raises RateLimited."""
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

    def _refuse_closed(self) -> None:
        if self.closed:
            raise Draining(
                "The proxy is stopping; send this request to another instance or in a moment.", retry_after=2
            )

    def _share(self, name: str) -> Share:
        share = self._shares[name] = Share(self)
        return share

    def _most(self, mine: Share, whole: int, half: int) -> int:
        """Return how much of *whole* the caller of *mine* may have: *half* while another one wants some."""
        since = self._clock.monotonic() - _WANTS_SECONDS
        for share in self._shares.values():
            if share is not mine and (share.in_flight or share.asked > since):
                return half
        return whole - whole // _KEPT_FREE

    def __repr__(self) -> str:
        return (
            f"<Admission {self.in_flight}/{self._max_requests} requests, {self.held_bytes}/{self._body_memory} bytes>"
        )
