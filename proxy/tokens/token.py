"""An access token and its freshness."""

import hashlib
from dataclasses import dataclass, field
from enum import Enum

from proxy.credentials.token_key import TokenKey
from proxy.secret import Secret


class Freshness(Enum):
    """FRESH; STALE (being renewed, still used); EXPIRED (never sent)."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token, identified by the keeper's serial number *mint*: a mint that returns the same string is a new token.

    *origins* (scheme://host:port, lower case, port always given) are the only destinations allowed. *minted*,
    *stale_at* and *expires* are monotonic seconds, comparable in all processes of this machine. *minter* names the
    replica that minted it, "" for this one. *fingerprint* is for display.
    """

    key: TokenKey
    mint: int
    value: Secret
    origins: frozenset[str]
    minted: float
    stale_at: float
    expires: float
    minter: str = ""
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", fingerprint(self.value.reveal()))

    def freshness(self, now: float) -> Freshness:
        """Return the state at monotonic *now*."""
        if now >= self.expires:
            return Freshness.EXPIRED
        return Freshness.STALE if now >= self.stale_at else Freshness.FRESH


def fingerprint(value: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of *value*."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]
