"""Retry pins keep a retry on the side of its first attempt: the bank may know its key under one client id only."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from proxy.migration.side import Side

# How long the bank is assumed to recognise a key that it has seen.
PIN_SECONDS: Final = 24 * 3600
# 64 bits: with two million pins at once, two share a digest once in ten million days.
DIGEST_DIGITS: Final = 16

# Headers that name a request, best first: the bank deduplicates by Idempotency-Key, else by a request id.
RETRY_HEADERS: Final = (b"idempotency-key", b"request-id", b"requestid", b"x-request-id")


class Reason(StrEnum):
    """The reason of a pin; later ones take precedence."""

    IN_FLIGHT = "in_flight"  # the side changed while in flight; it ended well since, or its end will be known
    FALLBACK = "fallback"  # as IN_FLIGHT, but this attempt itself was moved, and every process agreed
    ANSWERED = "answered"  # a 5xx from the bank: of uncertain outcomes the least likely to be a payment
    UNKNOWN = "unknown"


# Reasons of pins for attempts that nearly always end well; the pins end soon after these.
PASSING: Final = frozenset({Reason.IN_FLIGHT, Reason.FALLBACK})
_WEIGHTS: Final = (Reason.IN_FLIGHT, Reason.FALLBACK, Reason.ANSWERED, Reason.UNKNOWN)


@dataclass(frozen=True, slots=True)
class RetryPin:
    """An attempt went to *upstream* on *side* with an uncertain outcome; valid until *until* (epoch seconds).

    *migration* is "" if an older payproxy made the pin.
    """

    side: Side
    upstream: str
    until: float
    migration: str = ""
    reason: Reason = Reason.UNKNOWN


def merged(known: RetryPin | None, pin: RetryPin) -> RetryPin | None:
    """Return the pin to store for *pin* when *known* is stored; None if *known* already covers it.

    Stored ends are whole seconds. The end of an attempt in flight replaces an earlier one of the same reason. If a
    request fell back while a side change asked for keys in flight, the answer, which names the old side, may arrive
    after the pin to the new side: so the pin with the lower reason is the older one.
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
    """Merge the later pins *more* into *pins*."""
    for digest, pin in more.items():
        kept = merged(pins.get(digest), pin)
        if kept is not None:
            pins[digest] = kept


def retry_digest(migration: str, caller: str, key: str) -> str:
    """Return 16 hex digits for the request that *caller* names *key*; the key itself is never stored."""
    return hashlib.sha256(f"{migration}\0{caller}\0{key}".encode()).hexdigest()[:DIGEST_DIGITS]


def retry_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the value that would name this request in a retry: the first of RETRY_HEADERS present, or ""."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        plain = name.lower()
        if plain in RETRY_HEADERS and value:
            found.setdefault(plain, value)
    if not found:
        return ""
    return next(found[name] for name in RETRY_HEADERS if name in found).decode("latin-1")
