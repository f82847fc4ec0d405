"""Rate limits: for replacements of a refused token per route, and for what else a token bucket bounds; pure."""

_CAPACITY = 20.0
_REFILL_SECONDS = 2.0
_SLOWEST_REFILL_SECONDS = 60.0


class RateLimit:
    """*capacity* at once, refilled one per *refill_seconds*; *now* is monotonic seconds throughout.

    A 401 for a fresh token means that the token is not the cause (often an entitlement is missing), so each doubles the
    refill time, up to 60 s, until a replay succeeds: such a route can't overload the token endpoint.
    """

    def __init__(self, *, now: float, capacity: float = _CAPACITY, refill_seconds: float = _REFILL_SECONDS) -> None:
        self._credit = self._capacity = capacity
        self._refill = self._usual_refill = refill_seconds
        self._counted = now

    def spend(self, *, now: float) -> bool:
        """Take one; return False if none is left."""
        self._count(now)
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def refused_fresh(self, *, now: float) -> None:
        """Double the refill time: a token minted for a refusal was refused again."""
        self._count(now)
        self._refill = min(self._refill * 2, _SLOWEST_REFILL_SECONDS)

    def replay_succeeded(self, *, now: float) -> None:
        """Restore the normal refill time: a replay with a new token was accepted."""
        self._count(now)
        self._refill = self._usual_refill

    def wait(self, *, now: float) -> float:
        """Return the seconds until there is one to take."""
        self._count(now)
        return max(0.0, (1 - self._credit) * self._refill)

    def _count(self, now: float) -> None:
        """Add the credit refilled so far, at the rate valid so far."""
        self._credit = min(self._capacity, self._credit + max(now - self._counted, 0) / self._refill)
        self._counted = max(now, self._counted)

    def __repr__(self) -> str:
        return f"<RateLimit {self._credit:.1f} left, one per {self._refill:g} s>"
