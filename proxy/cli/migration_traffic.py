"""The requests of each caller on a migration's routes, by the request log."""

from proxy.cli.log_database import opened
from proxy.cli.output import note
from proxy.clock import SystemClock
from proxy.records.sides import LEGACY_DAYS
from proxy.records.tally import DAY_SECONDS
from proxy.settings.stores import Database
from proxy.settings.worker_values import MigrationValues


async def requests_of(database: Database, values: MigrationValues) -> dict[str, int]:
    """Return the number of requests per caller in LEGACY_DAYS, {} if the database is turned off; raises Failure."""
    if database is None:
        note("request_log.database is turned off, so the log can't tell how much moves")
        return {}
    counts: dict[str, int] = {}
    async with opened(database) as archive:
        for tally in await archive.tallies(values.routes, since=SystemClock().now() - LEGACY_DAYS * DAY_SECONDS):
            counts[tally.caller] = counts.get(tally.caller, 0) + tally.requests
    return counts
