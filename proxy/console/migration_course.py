"""What the request log tells of migrations: what `payproxy migration report` prints, and recent durations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.migration.side import Side
from proxy.records.migration_report import Report, report_of
from proxy.records.paging import pages
from proxy.records.query import Archive, Query
from proxy.records.sides import LEGACY_DAYS, SEEN_DAYS
from proxy.records.sinks.row import decode
from proxy.records.tally import DAY_SECONDS
from proxy.settings.worker_values import MigrationValues

# Changes of migrations, sign-ins and other operations: years of them. The command reads all.
MOST_OPERATIONS = 2000
_AT_ONCE = 500
# The newest records, of whatever kind and route: their number, not their age, bounds the work.
NEWEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the log tells of one migration; *all_changes*: no change is older than those in *report*.

    *durations*, in ms, are those of the bank's answers on each side among the NEWEST records.
    """

    report: Report
    all_changes: bool
    durations: Mapping[Side, tuple[float, ...]]


async def courses(
    archive: Archive, migrations: Sequence[tuple[MigrationValues, set[str]]], *, now: float
) -> dict[str, Course]:
    """Return the course of each of *migrations*, by name; each comes with its configured callers."""
    if not migrations:
        return {}
    operations, complete = await _operations(archive)
    newest = [decode(one) for one in (await archive.page(Query(), before=None, size=NEWEST)).records]
    oldest = await archive.oldest()
    found = {}
    for values, callers in migrations:
        report = report_of(
            values,
            lately=await archive.tallies(values.routes, since=now - LEGACY_DAYS * DAY_SECONDS),
            long=await archive.tallies(values.routes, since=now - SEEN_DAYS * DAY_SECONDS),
            operations=operations,
            callers=callers,
            oldest=oldest,
            now=now,
        )
        found[values.name] = Course(report=report, all_changes=complete, durations=_durations(values, newest))
    return found


async def _operations(archive: Archive) -> tuple[list[dict[str, Any]], bool]:
    found: list[dict[str, Any]] = []
    complete = False
    async for page in pages(archive, Query(kind="operation"), size=_AT_ONCE):
        found += map(decode, page.records)
        complete = page.before is None
        if len(found) >= MOST_OPERATIONS:
            break
    return found, complete


def _durations(values: MigrationValues, records: Sequence[Mapping[str, Any]]) -> dict[Side, tuple[float, ...]]:
    answered = [one for one in records if one.get("route") in values.routes and one.get("origin") == "bank"]
    return {
        side: tuple(float(one.get("duration_ms") or 0) for one in answered if one.get("side") == side.value)
        for side in Side
    }
