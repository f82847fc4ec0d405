"""What came of requests, counted by rule, side and caller: what moving a rule to another side is judged by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

DAY_SECONDS = 86400

# Of the errors that the proxy makes, those that tell of a token endpoint or of the bank. With any other it was the
# proxy that did not let the request go on.
BEYOND_THE_PROXY = (
    *("token_refused", "token_unavailable"),
    *("upstream_unreachable", "upstream_reset", "upstream_bad_response", "upstream_timeout"),
)


class Came(IntEnum):
    """What came of a request. FINE is 2xx, FAILED what the side is to blame for; OTHER has a redirect, or no answer."""

    OTHER = 0
    HELD_BACK = 1
    FAILED = 2
    CLIENT_ERROR = 3
    FINE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many requests a caller sent on *route*, and what came of them; *last* is in epoch seconds.

    *side* is "" where the rule had no migration; *credential* tells then which side it would be, and is "" else.
    *held_back*: the proxy did not let them go on.
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
        """Return how many requests the side is to be judged by."""
        return self.requests - self.held_back


def came_of(record: Mapping[str, Any]) -> Came:
    """Return what came of the exchange that *record* tells of."""
    status: int = record["status"]
    bank = record["origin"] == "bank"
    if not bank and record["code"] and record["code"] not in BEYOND_THE_PROXY:
        return Came.HELD_BACK
    if status >= 500 or (bank and status == 401):
        return Came.FAILED
    if status >= 400:
        return Came.CLIENT_ERROR
    return Came.FINE if 200 <= status < 300 else Came.OTHER


def summed(tallies: Iterable[Tally]) -> list[Tally]:
    """Return *tallies* with those of the same rule, side and caller added up."""
    sums: dict[tuple[str, str, str, str], Tally] = {}
    for one in tallies:
        key = (one.route, one.side, one.credential, one.caller)
        before = sums.get(key)
        sums[key] = one if before is None else _sum(before, one)
    return list(sums.values())


def _sum(first: Tally, second: Tally) -> Tally:
    return replace(
        first,
        requests=first.requests + second.requests,
        held_back=first.held_back + second.held_back,
        failed=first.failed + second.failed,
        client_errors=first.client_errors + second.client_errors,
        fine=first.fine + second.fine,
        last=max(first.last, second.last),
    )
