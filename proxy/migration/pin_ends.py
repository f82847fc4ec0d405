"""Ends of retry pins on their way between replicas, whose wall clocks may be apart; pure.

A replica keeps pins by its own wall clock, Redis has them by its own. Each conversion may lengthen a pin by the delay
of an answer, and never shortens it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from proxy.migration.in_flight import LINGER_SECONDS
from proxy.migration.pin import PASSING, RetryPin, merged
from proxy.migration.pin_rows import Pins

# How far the wall clock of a replica with an earlier payproxy may be behind.
_APART_SECONDS: Final = 60.0
# Of two ends of the same pin, the difference that clocks can make: what is set anew differs by nearly a day.
_SAME_SECONDS: Final = 3600.0
# Less makes no pin worth being published again: after a step of the wall clock, that could be two million.
_ADDS_SECONDS: Final = 60.0


def by_redis(pins: Mapping[str, RetryPin], *, now: float, redis_now: float) -> Pins:
    """Return *pins*, which end by the wall clock that shows *now*, with ends by Redis' clock, which shows *redis_now*.

    Take *now* before *redis_now* is asked for.
    """
    return {digest: replace(pin, until=pin.until - now + redis_now) for digest, pin in pins.items()}


def by_wall(pins: Mapping[str, RetryPin], *, now: float, redis_now: float) -> Pins:
    """Return *pins*, which end by Redis' clock, with ends by the wall clock: the inverse of `by_redis`.

    Take *now* after *redis_now* was received.
    """
    return {digest: replace(pin, until=pin.until - redis_now + now) for digest, pin in pins.items()}


def by_wall_of_another(pins: Mapping[str, RetryPin], *, now: float, age: float) -> Pins:
    """Return *pins* of an earlier payproxy, published *age* seconds ago, which end by its own wall clock.

    How far that is behind ours is not known, so each pin counts as long as the shortest would by a clock that is
    60 s behind.
    """
    least = now - age + LINGER_SECONDS + _APART_SECONDS
    return {digest: replace(pin, until=max(pin.until, least)) for digest, pin in pins.items()}


def shortened_by_clocks(known: RetryPin | None, pin: RetryPin) -> bool:
    """Return whether *pin* is *known* read again, and ends sooner only because Redis' clock was set."""
    return (
        known is not None
        and pin.reason in PASSING
        and _same(known, pin)
        and known.until - _SAME_SECONDS < pin.until <= known.until
    )


def adds(known: RetryPin | None, pin: RetryPin) -> bool:
    """Return whether *pin* has to be published when the other replicas have *known*."""
    if known is not None and pin.reason not in PASSING and _same(known, pin):
        return pin.until > known.until + _ADDS_SECONDS
    return merged(known, pin) is not None


def _same(known: RetryPin, pin: RetryPin) -> bool:
    return (known.side, known.upstream, known.reason) == (pin.side, pin.upstream, pin.reason)
