"""What keeps a retry on the side that carried the first try: the bank may know its key under one client id only."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.migration.side import Side

# As long as the bank is trusted to recognise a key that it has seen.
PIN_SECONDS: Final = 24 * 3600

# What callers name a request by, the best first: the bank deduplicates by Idempotency-Key, else by a request id.
RETRY_HEADERS: Final = (b"idempotency-key", b"request-id", b"requestid", b"x-request-id")


@dataclass(frozen=True, slots=True)
class RetryPin:
    """A try of a request went to *upstream* on *side*, and how it ended is not certain; *until* in epoch seconds."""

    side: Side
    upstream: str
    until: float


def retry_digest(migration: str, caller: str, key: str) -> str:
    """Return 32 hex digits for the request that *caller* calls *key*; the key itself is never kept."""
    return hashlib.sha256(f"{migration}\0{caller}\0{key}".encode()).hexdigest()[:32]


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
