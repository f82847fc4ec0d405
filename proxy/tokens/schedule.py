"""When a token is renewed, when it expires, and how long to wait after a failed mint; pure."""

from dataclasses import dataclass

# A renewal has ten minutes before a request must wait; a fifth of the lifetime if short, two fifths if very short.
_STALE_SECONDS, _STALE_SHARE = 600.0, 0.2
_LEAST_STALE_SECONDS, _LEAST_STALE_SHARE = 5.0, 0.4
_JITTER_SHARE = 0.1
# Time for a mint that takes half as long again as the last one, but a token is fresh for half of its life.
_SLOW_MINT_FACTOR, _MOST_STALE_SHARE = 1.5, 0.5

# Send a token only if it is still valid on arrival: half a minute for queues and clock differences.
_MARGIN_SECONDS, _MARGIN_SHARE = 30.0, 0.1

# The bank sees every failed client authentication, and only a person can fix the cause.
FIRST_REFUSAL_SECONDS, LAST_REFUSAL_SECONDS = 30.0, 900.0

# With jitter of up to half on top these stay between 1 s and 60 s.
_FIRST_OUTAGE_SECONDS, _LAST_OUTAGE_SECONDS = 1.0, 40.0
_OUTAGE_JITTER_SHARE = 0.5

# 2**40 s is beyond every limit; without it a year of failures would overflow.
_MAX_DOUBLINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifespan:
    """Monotonic seconds: FRESH until *stale_at*, then STALE until *expires*, then EXPIRED."""

    stale_at: float
    expires: float


def lifespan(*, minted: float, lifetime: float, jitter: float, mint_seconds: float = 0.0) -> Lifespan:
    """Return when a token minted at monotonic *minted* for *lifetime* seconds is renewed and no longer sent.

    *mint_seconds* is how long its mint took: renewal begins early enough for another one. *jitter* (0 to 1) shortens
    the renewal window by up to a tenth, so that replicas do not renew together.
    """
    margin = min(_MARGIN_SECONDS, lifetime * _MARGIN_SHARE)
    window = min(lifetime * _STALE_SHARE, _STALE_SECONDS)
    window = max(window, min(_LEAST_STALE_SECONDS, lifetime * _LEAST_STALE_SHARE))
    window = max(window, min(margin + _SLOW_MINT_FACTOR * mint_seconds, lifetime * _MOST_STALE_SHARE))
    window *= 1 - _JITTER_SHARE * jitter
    return Lifespan(stale_at=minted + lifetime - window, expires=minted + lifetime - margin)


def refusal_delay(failures: int) -> float:
    """Return seconds to wait after the *failures*-th refusal in a row: 30 s, doubling to 15 min."""
    return min(FIRST_REFUSAL_SECONDS * _doubled(failures), LAST_REFUSAL_SECONDS)


def outage_delay(failures: int, *, jitter: float) -> float:
    """Return seconds to wait after the *failures*-th outage in a row: from 1 s, doubling, to 60 s at most.

    *jitter* (0 to 1) lengthens it by up to a half.
    """
    base = min(_FIRST_OUTAGE_SECONDS * _doubled(failures), _LAST_OUTAGE_SECONDS)
    return base * (1 + _OUTAGE_JITTER_SHARE * jitter)


def _doubled(failures: int) -> float:
    return 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
