"""On which side of a migration each caller is, by the data path's decision, in the order in which they move."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.migration.side import Policy, choose_side, point
from proxy.telemetry.status import MigrationStatus

# More are no picture any more; the page says how many are left out, its JSON has all.
MOST_TILES = 500
PARTLY = "partly"


@dataclass(frozen=True, slots=True)
class CallerSide:
    """*side* of *caller* ("" if anonymous) is legacy, modern or partly, and why."""

    caller: str
    side: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Tiles of a migration: *shown* are at most MOST_TILES, *left_out* is how many are not; *summary* counts all."""

    title: str
    summary: str
    shown: tuple[CallerSide, ...]
    left_out: int
    empty: str = "No caller is configured for its rules, and the log knows none."


def caller_sides(policy: Policy, status: MigrationStatus, callers: Iterable[str]) -> list[CallerSide]:
    """Return the side of each of *callers* at the weight in *status*: first those who are, or get, on modern first."""
    held = frozenset(status.guard_pinned)
    ordered = sorted(callers, key=lambda caller: (caller in held, point(policy.name, caller), caller))
    return [_side(policy, status.weight, caller, held=caller in held) for caller in ordered]


def tiles(name: str, sides: Sequence[CallerSide]) -> Tiles:
    """Return the tiles of the migration *name*."""
    counts = Counter(one.side for one in sides)
    words = ", ".join(f"{counts[side]} {side}" for side in ("modern", PARTLY, "legacy") if counts[side])
    return Tiles(
        title=f"Callers of {name}",
        summary=f"{len(sides)} caller{'s' if len(sides) > 1 else ''}: {words}." if sides else "",
        shown=tuple(sides[:MOST_TILES]),
        left_out=max(0, len(sides) - MOST_TILES),
    )


def _side(policy: Policy, weight: int, caller: str, *, held: bool) -> CallerSide:
    fixed = held or caller in policy.pinned or weight in {0, 100}
    if policy.sticky != "caller" and not fixed:
        by = f"each value of {policy.sticky_header}" if policy.sticky_header else "each request"
        return CallerSide(caller, PARTLY, f"weight {weight}, {by} by itself")
    choice = choose_side(
        policy,
        weight=weight,
        caller=caller,
        method="",
        header=None,
        request_id="",
        guard_pinned=held,
        retry=None,
    )
    return CallerSide(caller, choice.side.value, choice.why)
