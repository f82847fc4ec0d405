"""Finds what a rule sent before a migration had it: its retry has no pin, so nothing keeps it on its side."""

from collections.abc import Collection
from datetime import datetime

from proxy.records.paging import all_lines
from proxy.records.query import Archive, Query
from proxy.records.sinks.row import decode
from proxy.records.unanswered import is_uncertain
from proxy.settings.methods import SAFE_METHODS


async def unpinned(
    archive: Archive, routes: Collection[str], *, since: float, callers: Collection[str] | None = None
) -> tuple[list[float], list[str]]:
    """Return when requests of uncertain outcome were sent by *routes* without a migration, and by which routes.

    Times in epoch seconds, not before *since*; only those of *callers*, None for all. Raises ArchiveUnusable.
    """
    tallies = await archive.tallies(tuple(routes), since=since)
    # A migrated rule sends everything with a side: nearly always the log need not be read.
    sent = sorted({one.route for one in tallies if not one.side and one.last > since and _is_of(callers, one.caller)})
    return [at for route in sent for at in await _uncertain(archive, route, since, callers)], sent


async def _uncertain(archive: Archive, route: str, since: float, callers: Collection[str] | None) -> list[float]:
    # By caller, where they are named: others may have sent millions meanwhile.
    wanted = [Query(kind="exchange", route=route, since=since, caller=one) for one in callers or ("",)]
    records = (decode(line) for query in wanted async for line in all_lines(archive, query))
    return [
        datetime.fromisoformat(record["time"]).timestamp()
        async for record in records
        # What a migrated rule sends has a side, and its retry a pin.
        if not record["side"] and record["method"] not in SAFE_METHODS and is_uncertain(record)
    ]


def _is_of(callers: Collection[str] | None, caller: str) -> bool:
    return callers is None or caller in callers
