"""Rate limit per route for replacements of a refused token; pure."""

_CAPACITY = 20.0
_REFILL_SECONDS = 2.0
_SLOWEST_REFILL_SECONDS = 60.0


class RateLimit:
    """20 replacements at once, refilled one per 2 s; *now* is monotonic seconds throughout.

    A 401 for a fresh token means that the token is not the cause (often an entitlement is missing), so each doubles the
    refill time, up to 60 s, until a replay succeeds: such a route can't overload the token endpoint.
    """

    def __init__(self, *, now: float) -> None:
        self._credit = _CAPACITY
        self._refill = _REFILL_SECONDS
        self._counted = now

    def spend(self, *, now: float) -> bool:
        """Take one replacement; return False if none is left."""
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
        self._refill = _REFILL_SECONDS

    def _count(self, now: float) -> None:
        """Add the credit refilled so far, at the rate valid so far."""
        self._credit = min(_CAPACITY, self._credit + max(now - self._counted, 0) / self._refill)
        self._counted = max(now, self._counted)

    def __repr__(self) -> str:
        return f"<RateLimit {self._credit:.1f} left, one per {self._refill:g} s>"
