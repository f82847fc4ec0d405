"""What the request log knows for migrations: each caller's requests, and those from before the table existed."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final

from proxy.cli.log_database import opened
from proxy.cli.output import note
from proxy.clock import SystemClock, timestamp
from proxy.migration.pin import PIN_SECONDS
from proxy.records.query import Archive, Query
from proxy.records.sides import LEGACY_DAYS
from proxy.records.sinks.row import decode
from proxy.records.tally import DAY_SECONDS
from proxy.records.unanswered import is_uncertain
from proxy.settings.methods import SAFE_METHODS
from proxy.settings.stores import Database
from proxy.settings.worker_values import MigrationValues
from proxy.telemetry.status import WorkerState

_AT_ONCE: Final = 1000


async def requests_of(database: Database, values: MigrationValues) -> dict[str, int]:
    """Return the number of requests per caller in LEGACY_DAYS, {} if the database is turned off; raises Failure."""
    if database is None:
        note("request_log.database is turned off, so the log can't tell how much moves")
        return {}
    counts = Counter[str]()
    async with opened(database) as archive:
        for tally in await archive.tallies(values.routes, since=SystemClock().now() - LEGACY_DAYS * DAY_SECONDS):
            counts[tally.caller] += tally.requests
    return counts


async def earlier_payments(database: Database, values: MigrationValues, *, now: float) -> str:
    """Return in words why no caller should move to modern, "" if nothing speaks against it; *now* in epoch seconds.

    The reason is a request of the last 24 h with uncertain outcome, sent by a rule without a migration: it has no retry
    pin, so its retry would go by the weight. Raises Failure if the log can't be read.
    """
    if database is None:
        return ""
    since = now - PIN_SECONDS
    async with opened(database) as archive:
        tallies = await archive.tallies(values.routes, since=since)
        # A migrated rule sends everything with a side: nearly always the log need not be read.
        routes = {one.route for one in tallies if not one.side and one.last > since}
        ends = [at for route in sorted(routes) for at in await _uncertain(archive, route, since)]
    if not ends:
        return ""
    one = len(ends) == 1
    return (
        f"{len(ends)} request{'' if one else 's'} whose outcome is not certain {'was' if one else 'were'} sent on "
        f"{', '.join(sorted(routes))} before [migrations.{values.name}] existed, the last at "
        f"{timestamp(max(ends))[:19]}Z: a retry would go by the weight, and could be a second payment until "
        f"{timestamp(max(ends) + PIN_SECONDS)[:19]}Z"
    )


def in_flight_before(state: Mapping[str, Any], workers: list[dict[str, Any]]) -> str:
    """Return in words what workers of an earlier configuration may still send on the routes of a new table, or "".

    *state* is the migration's state and *workers* the instance's workers, both from its status.
    """
    moved = state["version"] and state["who"] != "payproxy"
    count = sum(one["in_flight"] for one in workers if one["state"] == WorkerState.DRAINING)
    if moved or not count:
        return ""
    return (
        f"the workers of the earlier configuration still have {count} request{'' if count == 1 else 's'} in flight, "
        "and what they send has no retry pin"
    )


async def _uncertain(archive: Archive, route: str, since: float) -> list[float]:
    """Return the times of the route's requests with uncertain outcome that no migration has sent."""
    return [
        datetime.fromisoformat(record["time"]).timestamp()
        async for record in all_records(archive, Query(kind="exchange", route=route, since=since))
        # What a migrated rule sends has a side, and its retry a pin.
        if not record["side"] and record["method"] not in SAFE_METHODS and is_uncertain(record)
    ]


async def all_records(archive: Archive, query: Query) -> AsyncIterator[dict[str, Any]]:
    """Yield all records that match *query*, the newest first."""
    before: bytes | None = None
    while True:
        page = await archive.page(query, before=before, size=_AT_ONCE)
        for line in page.records:
            yield decode(line)
        if (before := page.before) is None:
            return
