"""What the request log knows for migrations: each caller's requests, and those from before the table existed."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from proxy.cli.log_database import configured_database, opened
from proxy.cli.output import Failure, note
from proxy.clock import SystemClock, timestamp
from proxy.migration.pin import PIN_SECONDS
from proxy.records.sides import LEGACY_DAYS
from proxy.records.tally import DAY_SECONDS
from proxy.records.unpinned import unpinned
from proxy.settings.model import Settings
from proxy.settings.stores import Database, SqliteDatabase
from proxy.settings.worker_values import MigrationValues
from proxy.telemetry.status import WorkerState


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
    async with opened(database) as archive:
        ends, routes = await unpinned(archive, values.routes, since=now - PIN_SECONDS)
    if not ends:
        return ""
    one = len(ends) == 1
    return (
        f"{len(ends)} request{'' if one else 's'} whose outcome is not certain {'was' if one else 'were'} sent on "
        f"{', '.join(routes)} before [migrations.{values.name}] existed, the last at "
        f"{timestamp(max(ends))[:19]}Z: a retry would go by the weight, and could be a second payment until "
        f"{timestamp(max(ends) + PIN_SECONDS)[:19]}Z"
    )


async def earlier_payments_or_doubt(
    database: Database, values: MigrationValues, *, state: Mapping[str, Any], now: float
) -> str:
    """Return what `earlier_payments` does, and that the log can't be read where only the log could tell.

    That is before the first change of the weight: after it, everything is sent with a side, and has a retry pin.
    """
    try:
        return await earlier_payments(database, values, now=now)
    except Failure as error:
        doubt = (
            f"the log can't tell whether requests from before [migrations.{values.name}] may be sent again, and their "
            f"retries would go by the weight: {error.message}"
        )
        if not _has_moved(state):
            return doubt
        note(f"warning: {doubt}")
        return ""


def _has_moved(state: Mapping[str, Any]) -> bool:
    """Return whether anybody has changed the weight since the table was added."""
    return bool(state["version"]) and state["who"] != "payproxy"


def warn_of_separate_logs(settings: Settings, values: MigrationValues, *, state: Mapping[str, Any]) -> None:
    """Say that nothing here tells what other replicas sent before the table, if each has a log of its own."""
    shared = settings.state.url.reveal() or settings.state.url_file
    if shared and not _has_moved(state) and isinstance(configured_database(settings, None), SqliteDatabase):
        note(
            f"warning: each replica has a log of its own; this one does not show what the others sent before "
            f"[migrations.{values.name}]: run `payproxy logs search --sent unknown --open` at each"
        )


def in_flight_before(state: Mapping[str, Any], workers: list[dict[str, Any]]) -> str:
    """Return in words what workers of an earlier configuration may still send on the routes of a new table, or "".

    *state* is the migration's state and *workers* the instance's workers, both from its status.
    """
    count = sum(one["in_flight"] for one in workers if one["state"] == WorkerState.DRAINING)
    if _has_moved(state) or not count:
        return ""
    return (
        f"the workers of the earlier configuration still have {count} request{'' if count == 1 else 's'} in flight, "
        "and what they send has no retry pin"
    )
