"""Who may come in now: requests in flight, memory for bodies, the caller's own rate."""

from proxy.callers.caller import Caller
from proxy.clock import Clock
from proxy.errors import Draining, Overloaded, RateLimited


class _Place:
    """A request in flight, counted while the `with` lasts; one object serves all, since it keeps nothing."""

    __slots__ = ("_admission",)

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission

    def __enter__(self) -> None:
        self._admission.in_flight += 1

    def __exit__(self, *exception: object) -> None:
        self._admission.in_flight -= 1


class Admission:
    """The limits of one worker; *max_requests* in flight, *body_memory* in bytes for bodies held for replay."""

    def __init__(self, *, max_requests: int, body_memory: int, clock: Clock) -> None:
        self._max_requests = max_requests
        self._body_memory = body_memory
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self.in_flight = 0
        self.held_bytes = 0
        self.closed = False
        self._place = _Place(self)

    def admit(self, caller: Caller) -> "_Place":
        """Return a place to hold in a `with`; raises Draining, Overloaded or RateLimited."""
        if self.closed:
            raise Draining(
                "The proxy is stopping; send this request to another instance or in a moment.", retry_after=2
            )
        if self.in_flight >= self._max_requests:
            raise Overloaded(f"{self._max_requests} requests are in flight already (server.max_requests).")
        if caller.rate:
            self.take_rate(caller)
        return self._place

    def hold(self, size: int) -> None:
        """Reserve *size* bytes for a body; raises Overloaded when body_memory_bytes would be exceeded."""
        if self.held_bytes + size > self._body_memory:
            raise Overloaded("The memory for held bodies is in use (server.body_memory_bytes).")
        self.held_bytes += size

    def let_go(self, size: int) -> None:
        """Give back what `hold` reserved."""
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

    def __repr__(self) -> str:
        return (
            f"<Admission {self.in_flight}/{self._max_requests} requests, {self.held_bytes}/{self._body_memory} bytes>"
        )
