"""What keeps a retry on the side that carried the first try: the bank may know its key under one client id only."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from proxy.migration.side import Side

# As long as the bank is trusted to recognise a key that it has seen.
PIN_SECONDS: Final = 24 * 3600
# 64 bits: of two million pins at once, two have the same digest once in ten million days.
DIGEST_DIGITS: Final = 16

# What callers name a request by, the best first: the bank deduplicates by Idempotency-Key, else by a request id.
RETRY_HEADERS: Final = (b"idempotency-key", b"request-id", b"requestid", b"x-request-id")


class Reason(StrEnum):
    """Why there is a pin; the later ones weigh more."""

    IN_FLIGHT = "in_flight"  # the side changed while the try was under way; it has ended well since, or will be known
    FALLBACK = "fallback"  # as IN_FLIGHT, but this try was moved itself, and every process agreed to that
    ANSWERED = "answered"  # the bank answered with a 5xx: of uncertain ends the least likely to be a payment
    UNKNOWN = "unknown"


# Pins of tries that nearly always end well; they end soon after these.
PASSING: Final = frozenset({Reason.IN_FLIGHT, Reason.FALLBACK})
_WEIGHTS: Final = (Reason.IN_FLIGHT, Reason.FALLBACK, Reason.ANSWERED, Reason.UNKNOWN)


@dataclass(frozen=True, slots=True)
class RetryPin:
    """A try of a request went to *upstream* on *side*, and how it ended is not certain; *until* in epoch seconds.

    *migration* is "" where an older payproxy made the pin.
    """

    side: Side
    upstream: str
    until: float
    migration: str = ""
    reason: Reason = Reason.UNKNOWN


def merged(known: RetryPin | None, pin: RetryPin) -> RetryPin | None:
    """Return what is to be kept of *pin* where *known* is kept, None if that says as much.

    Ends are whole seconds in what is kept. The end of a try in flight replaces an earlier one of its kind. Where a
    request fell back while a change of side asked for what is in flight, the answer to that, which names the side that
    it has left, may come after the pin to the other one: the lighter reason is then the older news.
    """
    if known is None:
        return pin
    more = _WEIGHTS.index(pin.reason) - _WEIGHTS.index(known.reason)
    if more < 0:
        return None
    if (known.side, known.upstream) != (pin.side, pin.upstream):
        return pin
    if not more and pin.reason not in PASSING and pin.until < known.until:
        return None
    if not more and abs(pin.until - known.until) < 1 and pin.migration == known.migration:
        return None
    return replace(pin, until=max(pin.until, known.until)) if more else pin


def merge(pins: dict[str, RetryPin], more: Mapping[str, RetryPin]) -> None:
    """Add to *pins* what is to be kept of *more*, which came later."""
    for digest, pin in more.items():
        kept = merged(pins.get(digest), pin)
        if kept is not None:
            pins[digest] = kept


def retry_digest(migration: str, caller: str, key: str) -> str:
    """Return 16 hex digits for the request that *caller* calls *key*; the key itself is never kept."""
    return hashlib.sha256(f"{migration}\0{caller}\0{key}".encode()).hexdigest()[:DIGEST_DIGITS]


def retry_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return by what the caller would name this request in a retry: the first of RETRY_HEADERS that it has, or ""."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        plain = name.lower()
        if plain in RETRY_HEADERS and value:
            found.setdefault(plain, value)
    if not found:
        return ""
    return next(found[name] for name in RETRY_HEADERS if name in found).decode("latin-1")
