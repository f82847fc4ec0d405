"""Finds in the request log what this instance's automatic inquiries had still to ask about when it ended."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.keeper.log_sinks import archive_of
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.inquiry_outcome import by_exchange, decisive
from proxy.records.query import Archive, Enough, Query, all_of_it
from proxy.settings.model import Settings

Record = dict[str, Any]

# As `payproxy reconcile` looks back by default.
OPEN_SECONDS = 86400.0
UNKNOWN = b',"sent_upstream":"unknown",'

_SEARCH_SECONDS = 30.0
_PAGE = 500


class OpenRequests:
    """Reads the log's database and what is not in it yet; *settings* are those in force, *instance* is our name."""

    def __init__(self, settings: Callable[[], Settings], *, instance: str, clock: Clock) -> None:
        self._settings = settings
        self._instance = instance
        self._clock = clock

    async def find(self, most: int) -> list[tuple[Record, Sequence[Record]]]:
        """Return at most *most* requests of the last 24 h that no inquiry has settled, each with its inquiries.

        The newest first; [] if no rule has automatic inquiries. Raises ArchiveUnusable or UrlUnusable.
        """
        settings = self._settings()
        if not any(one.inquiry.automatic for one in settings.routes):
            return []
        since = self._clock.now() - OPEN_SECONDS
        spool = Spool(Path(settings.data_directory))
        unknown = Query(kind="exchange", sent="unknown", since=since)
        records = [*map(object_in, await spool.of_kind(unknown, having=UNKNOWN))]
        inquiries = [*map(object_in, await spool.of_kind(Query(kind="inquiry", since=since)))]
        archive = archive_of(settings)
        if archive is not None:
            try:
                # This search may not end early: without its inquiry a settled request would be asked about again.
                inquiries += [one async for one in _newest(archive, Query(kind="inquiry", since=since))]
                records += [one async for one in _newest(archive, unknown, most=most, enough=self._enough())]
            finally:
                await archive.close()
        asked = by_exchange(inquiries)
        nothing: Sequence[Record] = ()
        ours = {one["id"]: one for one in records if one.get("instance") == self._instance}
        newest = sorted(ours.values(), key=lambda one: str(one["id"]), reverse=True)
        found = [(one, asked.get(str(one["id"]), nothing)) for one in newest]
        return [(one, before) for one, before in found if decisive(one, before) is None][:most]

    def _enough(self) -> Enough:
        end = self._clock.monotonic() + _SEARCH_SECONDS
        return lambda: self._clock.monotonic() >= end

    def __repr__(self) -> str:
        return f"<OpenRequests of {self._instance}>"


async def _newest(
    archive: Archive, query: Query, *, most: float = math.inf, enough: Enough = all_of_it
) -> AsyncIterator[Record]:
    """Yield at least *most* records that match *query*, the newest first; fewer if there are fewer, or *enough*."""
    before: bytes | None = None
    while most > 0:
        page = await archive.page(query, before=before, size=_PAGE, enough=enough)
        for line in page.records:
            yield object_in(line)
        before, most = page.before, most - len(page.records)
        if before is None or enough():
            return
