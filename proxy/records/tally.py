"""Outcome counts of requests by rule, side and caller: the basis for moving a rule to the other side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

DAY_SECONDS = 86400

# Error codes of the proxy that blame a token endpoint or the bank. With any other code the proxy itself stopped the
# request.
BEYOND_THE_PROXY = (
    *("token_refused", "token_unavailable"),
    *("upstream_unreachable", "upstream_reset", "upstream_bad_response", "upstream_timeout"),
)
_COUNTS = ("requests", "held_back", "failed", "client_errors", "fine")


class Result(IntEnum):
    """Outcome of a request. FINE: 2xx; FAILED: the side's fault; OTHER: a redirect, or no answer."""

    OTHER = 0
    HELD_BACK = 1
    FAILED = 2
    CLIENT_ERROR = 3
    FINE = 4


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of requests of a caller on *route*, by outcome; *last* is in epoch seconds.

    *side* is "" if the rule had no migration; then *credential* tells which side it would be, otherwise it is "".
    *held_back*: the proxy did not send them.
    """

    route: str
    side: str
    credential: str
    caller: str
    requests: int
    held_back: int
    failed: int
    client_errors: int
    fine: int
    last: float

    @property
    def exchanges(self) -> int:
        """Return the number of requests that count for the side's failure ratio."""
        return self.requests - self.held_back


def result_of(record: Mapping[str, Any]) -> Result:
    """Return the outcome of the exchange in *record*."""
    status: int = record["status"]
    bank = record["origin"] == "bank"
    if not bank and record["code"] and record["code"] not in BEYOND_THE_PROXY:
        return Result.HELD_BACK
    if status >= 500 or (bank and status == 401):
        return Result.FAILED
    if status >= 400:
        return Result.CLIENT_ERROR
    return Result.FINE if 200 <= status < 300 else Result.OTHER


def summed(tallies: Iterable[Tally]) -> list[Tally]:
    """Return *tallies* with those of the same rule, side and caller added up."""
    sums: dict[tuple[str, str, str, str], Tally] = {}
    for one in tallies:
        key = (one.route, one.side, one.credential, one.caller)
        sums[key] = _sum(sums[key], one) if key in sums else one
    return list(sums.values())


def _sum(first: Tally, second: Tally) -> Tally:
    added = {name: getattr(first, name) + getattr(second, name) for name in _COUNTS}
    return replace(first, **added, last=max(first.last, second.last))
