"""Finds what a rule sent before a migration had it: its retry has no pin, so nothing keeps it on its side."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any, Final

from proxy.records.query import Archive, Query
from proxy.records.sinks.row import decode
from proxy.records.unanswered import is_uncertain
from proxy.settings.methods import SAFE_METHODS

_AT_ONCE: Final = 1000


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


async def all_records(archive: Archive, query: Query) -> AsyncIterator[dict[str, Any]]:
    """Yield all records that match *query*, the newest first."""
    before: bytes | None = None
    while True:
        page = await archive.page(query, before=before, size=_AT_ONCE)
        for line in page.records:
            yield decode(line)
        if (before := page.before) is None:
            return


async def _uncertain(archive: Archive, route: str, since: float, callers: Collection[str] | None) -> list[float]:
    return [
        datetime.fromisoformat(record["time"]).timestamp()
        async for record in all_records(archive, Query(kind="exchange", route=route, since=since))
        # What a migrated rule sends has a side, and its retry a pin.
        if not record["side"]
        and record["method"] not in SAFE_METHODS
        and _is_of(callers, record["caller"])
        and is_uncertain(record)
    ]


def _is_of(callers: Collection[str] | None, caller: str) -> bool:
    return callers is None or caller in callers
