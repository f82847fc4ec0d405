"""The ramp of a migration as a plot: its weight over time, by the records of its changes."""

from collections.abc import Sequence
from datetime import datetime

from proxy.console.page import Cell, Table, Tone
from proxy.console.plots import DASHES, HEIGHT, WIDTH, Line, Plot
from proxy.records.migration_report import Change
from proxy.telemetry.status import MigrationStatus
from proxy.times import local, local_text

# A year of daily changes; the JSON has all.
MOST_ROWS = 200
_Step = tuple[float, int]


def ramp(status: MigrationStatus, changes: Sequence[Change], *, now: float, complete: bool) -> Plot:
    """Return the plot of *changes*, the oldest first, up to *now* (epoch seconds); *complete*: there are no older ones.

    The solid line is the weight, the dashed one the highest until then: a rollback is a gap between both.
    """
    steps = _steps(changes, status.weight, now)
    begin = steps[0][0] if steps else now
    highest: list[_Step] = []
    for at, weight in steps:
        highest.append((at, max(weight, highest[-1][1] if highest else 0)))
    return Plot(
        title=f"Weight of {status.name}",
        summary=_summary(status, changes, complete=complete),
        scale="From 0 to 100 % on modern",
        begins=local(begin),
        ends=local(now),
        lines=tuple(
            Line(name=name, dash=dash, segments=(_points(line, begin, now),))
            for name, dash, line in (("weight", DASHES[0], steps), ("highest until then", DASHES[1], highest))
        ),
        table=_table(status.name, changes),
    )


def _steps(changes: Sequence[Change], weight: int, now: float) -> list[_Step]:
    """Return the corners of the line: at each change the weight before and after it."""
    found: list[_Step] = []
    for one in changes:
        at = datetime.fromisoformat(one.time).timestamp()
        texts = (text for text in (one.old_weight, one.weight) if text.isascii() and text.isdigit())
        found += ((at, min(int(text), 100)) for text in texts)
    # The log may not have the last change yet: then the line jumps at its end.
    return [*found, (now, found[-1][1]), (now, weight)] if found else []


def _points(steps: Sequence[_Step], begin: float, end: float) -> str:
    span = max(end - begin, 1.0)
    return " ".join(f"{(at - begin) / span * WIDTH:.1f},{HEIGHT - weight * HEIGHT / 100:.1f}" for at, weight in steps)


def _summary(status: MigrationStatus, changes: Sequence[Change], *, complete: bool) -> str:
    if not changes:
        return f"The weight is {status.weight} %, and the log has no change of it."
    first, last = changes[0], changes[-1]
    begin = f"From {first.old_weight or first.weight} % on {local_text(first.time)}"
    since = "" if complete else " (older changes are not shown)"
    times = "1 change" if len(changes) == 1 else f"{len(changes)} changes"
    return (
        f"{begin}{since} to {status.weight} % now, in {times}; the last by {last.who} on "
        f"{local_text(last.time)}: {last.reason}"
    )


def _table(name: str, changes: Sequence[Change]) -> Table:
    more = f"{len(changes) - MOST_ROWS} older ones are in the JSON." if len(changes) > MOST_ROWS else ""
    return Table(
        title=f"Changes of {name}, the newest first",
        columns=("time", "what", "from", "to", "who", "why", "proof"),
        rows=tuple(_row(one) for one in list(reversed(changes))[:MOST_ROWS]),
        empty="Nobody has changed it. Set a weight with `payproxy migration set`, or below.",
        note=more,
    )


def _row(one: Change) -> tuple[Cell, ...]:
    return (
        Cell(local_text(one.time)),
        Cell(one.what, Tone.WARN if one.what == "rollback" else Tone.PLAIN),
        Cell(one.old_weight, number=True),
        Cell(one.weight, number=True),
        Cell(one.who),
        Cell(one.reason),
        Cell(one.proof),
    )
