"""Chooses the side of a migration for a request, with the reason; pure, and equal in every process."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Side(StrEnum):
    """One of a migration's two credentials."""

    LEGACY = "legacy"
    MODERN = "modern"


# Number of hash values: a float's mantissa, so that a point never rounds up to 1.
_POINTS: Final = 1 << 53

STICKY_HEADER: Final = "header:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a migration assigns requests to sides.

    *sticky* names the key: "caller", "request" (for *methods* only) or "header:NAME"; *pinned* callers have their side
    by configuration. *fallback* lets legacy serve if the modern token is missing or was refused. *sides* names the
    credentials and upstreams of both sides: tables with different *sides* are different tables.
    """

    name: str
    sticky: str
    methods: frozenset[str]
    pinned: Mapping[str, Side]
    fallback: bool
    sides: str = ""

    @property
    def sticky_header(self) -> str:
        """Return the name of the header used as key, "" if none is."""
        return self.sticky[len(STICKY_HEADER) :] if self.sticky.startswith(STICKY_HEADER) else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A side and the reason for it, in words for records and `explain`."""

    side: Side
    why: str


def point(migration: str, key: str) -> float:
    """Return the position of *key* in *migration*, in [0, 1): it is modern if the weight is above it."""
    digest = hashlib.sha256(f"{migration}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / _POINTS


def choose_side(
    policy: Policy,
    *,
    weight: int,
    caller: str,
    method: str,
    header: str | None,
    request_id: str,
    guard_pinned: bool,
    retry: Side | None,
) -> Choice:
    """Return the side of a request: by its retry pin, the guard, the configured pin, else by *weight* (0 to 100).

    *header* is the value of the policy's header, or None; *retry* is the side of an earlier attempt.
    """
    if retry is not None:
        return Choice(retry, f"an earlier try with this key went to {retry}")
    if guard_pinned:
        return Choice(Side.LEGACY, "the guard holds this caller on legacy")
    pinned = policy.pinned.get(caller)
    if pinned is not None:
        return Choice(pinned, f"the caller is pinned to {pinned}")
    if weight <= 0 or weight >= 100:
        return Choice(Side.MODERN if weight > 0 else Side.LEGACY, f"weight {weight}")
    return _by_cohort(policy, weight, caller=caller, method=method, header=header, request_id=request_id)


def _by_cohort(policy: Policy, weight: int, *, caller: str, method: str, header: str | None, request_id: str) -> Choice:
    key: str | None = caller
    if policy.sticky_header:
        key = header
    elif policy.sticky == "request" and method in policy.methods:
        key = request_id
    if key is None:
        return Choice(Side.LEGACY, f"weight {weight}, but no {policy.sticky_header}: legacy until 100")
    place = point(policy.name, key)
    # Compared as a point, not as a percentage: what is below a weight is below every greater one.
    side = Side.MODERN if place < weight / 100 else Side.LEGACY
    return Choice(side, f"weight {weight}, cohort {place:.3f}")
