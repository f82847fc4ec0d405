"""A token as replicas share it, and the decisions about it: adopt or mint, wait or not, stop sharing; pure."""

import json
from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from proxy.errors import MALFORMED
from proxy.secret import Secret
from proxy.tokens.response import MAX_LIFETIME_SECONDS
from proxy.tokens.schedule import lifespan
from proxy.tokens.token import AccessToken, fingerprint
from proxy.tokens.token_share import Obtained

# Clocks of replicas may differ by this much; then the end by Redis' clock decides alone.
SKEW_SECONDS = 10.0
# Who mints extends its lease while its call lasts, so it is alive; its way to the endpoint may be broken. Requests that
# have no token wait for it this long.
_PATIENCE_SECONDS = 5.0
# While there is a token, our own mint begins this long before its end: the default timeout of a call.
_SPARE_SECONDS = 10.0

_REFUSALS = 2
_WITHIN_SECONDS = 3600.0


class SharedTokenUnusable(ValueError):
    """What was decrypted is no shared token; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedToken:
    """A token in Redis: *ends* by Redis' clock and *ends_wall* by the minter's, both epoch seconds.

    *lifetime* in seconds, until *ends*. *minter* names the replica.
    """

    value: Secret
    lifetime: float
    ends: float
    ends_wall: float
    minter: str
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", fingerprint(self.value.reveal()))

    def left(self, *, now: float, now_wall: float) -> float:
        """Return the seconds until its end, at *now* by Redis' clock and *now_wall* by ours.

        Redis' clock is the same for all replicas. Ours only limits it, in case that clock is set back.
        """
        return min(self.ends - now, self.ends_wall - now_wall + SKEW_SECONDS, self.lifetime)

    def ends_by(self, *, now: float, now_wall: float) -> float:
        """Return its end by Redis' clock, which shows *now*; by ours if that clock was set back since the mint."""
        left = self.ends_wall - now_wall
        return now + left if self.ends - now > left + SKEW_SECONDS else self.ends


def encode(token: SharedToken) -> bytes:
    """Return *token* as JSON, to be encrypted."""
    row = {
        "token": token.value.reveal(),
        "lifetime": token.lifetime,
        "ends": token.ends,
        "ends_wall": token.ends_wall,
        "minter": token.minter,
    }
    return json.dumps(row).encode()


def decode(data: bytes) -> SharedToken:
    """Return the token in *data*; raise SharedTokenUnusable."""
    try:
        row: Any = json.loads(data)
        token = SharedToken(
            value=Secret(str(row["token"])),
            lifetime=float(row["lifetime"]),
            ends=float(row["ends"]),
            ends_wall=float(row["ends_wall"]),
            minter=str(row["minter"]),
        )
    except MALFORMED:
        raise SharedTokenUnusable("it is no token of this payproxy") from None
    # NaN fails every comparison.
    if not (token.value.reveal() and 0 < token.lifetime <= MAX_LIFETIME_SECONDS):
        raise SharedTokenUnusable("its token or lifetime makes no sense")
    return token


class Step(Enum):
    """What a slot does that needs a token."""

    ADOPT = "adopt"
    MINT = "mint"


def next_step(
    found: Obtained | None, *, current: AccessToken | None, newer: bool, refused: Container[str], now: float
) -> Step:
    """Return whether to adopt *found*, the shared token, or to mint, at monotonic *now*.

    *current* is ours, if it is usable; *newer*: *found* was minted after it. *refused* are the fingerprints of tokens
    that the bank has refused here.
    """
    if found is None:
        return Step.MINT
    shown = fingerprint(found.value.reveal())
    span = lifespan(minted=found.minted, lifetime=found.lifetime, jitter=0)
    if shown in refused or now >= span.expires:
        return Step.MINT
    if current is None:
        return Step.ADOPT
    return Step.ADOPT if newer and now < span.stale_at else Step.MINT


def patience(current: AccessToken | None, *, now: float) -> float:
    """Return how many seconds to wait for the mint of another replica, before minting beside it.

    While *current* is usable no request waits, so the mint can.
    """
    left = 0.0 if current is None else current.expires - now
    return max(left - _SPARE_SECONDS, _PATIENCE_SECONDS)


class AddressBinding:
    """Finds out whether the bank accepts a token only from the address that minted it.

    Two tokens of other replicas in a row, within an hour, never worked here although their minters kept them. The next
    one is then minted here and kept private (`suspected`). If that one is accepted, tokens are `bound`. If nothing
    tells whether it is, as after a refusal of a request that can't be sent again, the suspicion ends with that hour.
    """

    def __init__(self) -> None:
        self.bound = False
        self._refusals: list[float] = []

    def suspected(self, *, now: float) -> bool:
        """Return whether, at monotonic *now*, the next token must be minted here and not be shared."""
        return self.bound or len(self._recent(now)) >= _REFUSALS

    def foreign_refused(self, *, now: float) -> None:
        """Count a token of another replica that never worked here, at monotonic *now*."""
        self._refusals = [*self._recent(now), now]

    def foreign_worked(self) -> None:
        """Note that a token of another replica was accepted here: tokens are not bound to an address."""
        self._refusals.clear()

    def own_accepted(self, *, now: float) -> bool:
        """Note that a token minted here was accepted, at monotonic *now*; return whether that proves the suspicion."""
        proven = self.suspected(now=now) and not self.bound
        self.bound |= proven
        return proven

    def own_refused(self, *, now: float) -> None:
        """Note that a token minted here was refused too, at monotonic *now*: then the address is not the cause."""
        if self.suspected(now=now) and not self.bound:
            self._refusals.clear()

    def _recent(self, now: float) -> list[float]:
        return [at for at in self._refusals if now - at < _WITHIN_SECONDS]

    def __repr__(self) -> str:
        return f"<AddressBinding {'bound' if self.bound else f'{len(self._refusals)} refusals'}>"
