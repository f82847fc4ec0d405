"""The page of the migrations: ramp, both sides, each caller's side, guard, retry pins; actions are in its template."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.console.caller_sides import CallerSide, caller_sides, tiles
from proxy.console.migration_course import NEWEST, Course
from proxy.console.page import Cell, Facts, PageContent, Table, Tone, Words
from proxy.console.ramp import ramp
from proxy.console.status_pages import migrations_table
from proxy.migration.guard import LEAST_FAILURES, MINT_SECONDS, REFUSAL_SECONDS, WINDOW
from proxy.migration.side import Side
from proxy.records.sides import LEGACY_DAYS
from proxy.routing.compile import policy_of
from proxy.settings.worker_values import MigrationValues, Snapshot, callers_of
from proxy.telemetry.status import MigrationStatus, Status
from proxy.times import duration, local

PATH = "/console/migrations"
# Each time the request log is read.
_REFRESH_SECONDS = 15


def migrations_page(
    status: Status, snapshot: Snapshot, settings: Mapping[str, Any], found: Mapping[str, Course], *, problem: str
) -> PageContent:
    """Return the page; *found* is what the log tells, by migration, and *problem* why it tells nothing, or "".

    *settings* are the masked ones of [migrations].
    """
    values = {one.name: one for one in snapshot.migrations}
    parts = {
        one.name: _Part(
            one,
            values[one.name],
            settings=settings.get(one.name, {}),
            snapshot=snapshot,
            course=found.get(one.name),
            now=status.time,
        )
        for one in status.migrations
        if one.name in values
    }
    lead = "; ".join(filter(None, (status.migration_problem, problem)))
    return PageContent(
        path=PATH,
        title="Migrations",
        twin=f"{PATH}.json",
        refresh=_REFRESH_SECONDS,
        data={
            "time": status.time,
            "problem": lead,
            "migrations": [
                dataclasses.asdict(one) | (parts[one.name].data if one.name in parts else {})
                for one in status.migrations
            ],
        },
        lead=lead,
        tone=Tone.WARN if lead else Tone.PLAIN,
        blocks=(migrations_table(status),),
        template="migrations.html",
        more={
            "parts": [
                {"blocks": tuple(part.blocks()), "tiles": tiles(name, part.sides)} for name, part in parts.items()
            ],
            "migrations": [one for one in status.migrations if not one.finished],
        },
    )


class _Part:
    """One migration: what the page and its JSON have of it."""

    def __init__(
        self,
        status: MigrationStatus,
        values: MigrationValues,
        *,
        settings: Mapping[str, Any],
        snapshot: Snapshot,
        course: Course | None,
        now: float,
    ) -> None:
        self._status = status
        self.sides: list[CallerSide] = caller_sides(
            policy_of(values), status, callers_of(snapshot, values) | _seen(course) | {*status.guard_pinned}
        )
        self._guard = guard_in_words(status, settings)
        self._course = course
        self._now = now
        self.data = {
            "guard": self._guard,
            "callers": [dataclasses.asdict(one) for one in self.sides],
            "report": course.report.as_dict() if course else None,
            "p95_ms": {side.value: p95(course.durations[side]) for side in Side} if course else None,
        }

    def blocks(self) -> Iterator[Any]:
        one, course = self._status, self._course
        if course is not None:
            yield ramp(one, course.report.changes, now=self._now, complete=course.all_changes)
            yield _both_sides(one.name, course)
        yield Words(title=f"Guard of {one.name}", text=self._guard)
        yield Facts(title=f"State of {one.name}", rows=tuple(self._facts()))

    def _facts(self) -> Iterator[tuple[str, Cell]]:
        one = self._status
        yield "A rollback goes to", Cell(f"{one.last_good} %")
        held = ", ".join(one.guard_pinned)
        yield "Held on legacy by the guard", Cell(held or "nobody", Tone.WARN if held else Tone.PLAIN)
        yield "Retry pins", Cell(one.retry_pins_in_words or "none")
        missing = Cell("not at hand: a rollback would find none", Tone.BAD)
        yield "Legacy token", Cell("at hand") if one.legacy_token_at_hand else missing
        for token in one.modern_tokens:
            left = f", {duration(token.seconds_left)} left" if token.usable else ""
            failed = f"; {token.error_code}: {token.meaning}" if token.error_code else ""
            tone = Tone.PLAIN if token.usable else Tone.BAD
            yield "Modern token", Cell(f"{token.audience or 'no audience'}: {token.state.value}{left}{failed}", tone)
        if one.who:
            yield "Last change", Cell(f"{local(one.when)}, by {one.who}: {one.reason}")
        waits = "; ".join(filter(None, (one.unsettled, one.unsaved, one.unshared)))
        if waits:
            yield "Waits for", Cell(waits, Tone.WARN)


def guard_in_words(status: MigrationStatus, settings: Mapping[str, Any]) -> str:
    """Return what makes the guard roll *status* back, by the masked *settings* of the migration."""
    failures = _percent(settings.get("max_failure_ratio"))
    client_errors = _percent(settings.get("max_client_error_ratio"))
    return (
        f"Rolls back to {status.last_good} % if, of the last {WINDOW} requests on modern, at least {LEAST_FAILURES} "
        f"and more than {failures} fail, or more than {client_errors} get other 4xx, while the same callers did better "
        f"on legacy; or if modern tokens are refused to two callers within {duration(REFUSAL_SECONDS)}, or can't be "
        f"minted for {duration(MINT_SECONDS)} while legacy's can. If only one caller fails, it is held on legacy."
    )


def p95(values: Sequence[float]) -> float | None:
    """Return the value that 95 of 100 of *values* do not exceed, None if there is none (nearest rank)."""
    return sorted(values)[math.ceil(len(values) * 0.95) - 1] if values else None


def _seen(course: Course | None) -> set[str]:
    return {one.caller for one in course.report.callers} if course is not None else set()


def _percent(share: float | None) -> str:
    return f"{100 * share:.4g} %" if share is not None else "its limit"


def _both_sides(name: str, course: Course) -> Table:
    report = course.report
    rows = []
    for side, totals in ((Side.LEGACY, report.legacy), (Side.MODERN, report.modern)):
        times = course.durations[side]
        slowest = p95(times)
        rows.append(
            (
                Cell(side.value),
                Cell(str(totals.requests), number=True),
                Cell(f"{totals.failed} ({totals.failure_ratio:.2%})", Tone.BAD if totals.failed else Tone.PLAIN),
                Cell(f"{totals.client_errors} ({totals.client_error_ratio:.2%})"),
                Cell(f"{slowest:.3g} ms of {len(times)} answers" if slowest is not None else "no answer", number=True),
            )
        )
    return Table(
        title=f"Both sides of {name}",
        columns=("side", "requests", "failed", "client errors", "p95"),
        rows=tuple(rows),
        empty="",
        note=f"The last {LEGACY_DAYS} days; p95 is of the answers among the newest {NEWEST} records of the log. "
        f"{report.verdict[:1].upper()}{report.verdict[1:]}.",
    )
