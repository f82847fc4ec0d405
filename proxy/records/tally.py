"""Outcome counts of requests by rule, side and caller: the basis for moving a rule to the other side."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

DAY_SECONDS = 86400

_COUNTS = ("requests", "held_back", "failed", "client_errors", "fine")


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
