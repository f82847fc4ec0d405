"""Finds in the request log what this instance's automatic inquiries had still to ask about when it ended."""

from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.clock import Clock
from proxy.keeper.log_sinks import archive_of
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.inquiries import inquiries
from proxy.records.inquiry_outcome import Record, decisive
from proxy.records.paging import pages
from proxy.records.query import Archive, Enough, Query, for_seconds
from proxy.settings.model import Settings

# As `payproxy reconcile` looks back by default.
OPEN_SECONDS = 86400.0
UNKNOWN = b',"sent_upstream":"unknown",'

_SEARCH_SECONDS = 30.0


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
        archive = archive_of(settings)
        try:
            # This search may not end early: without its inquiry a settled request would be asked about again.
            asked = await inquiries(archive, spool, Query(kind="inquiry", since=since))
            if archive is not None:
                records += await _newest(
                    archive, unknown, most=most, enough=for_seconds(_SEARCH_SECONDS, self._clock.monotonic)
                )
        finally:
            if archive is not None:
                await archive.close()
        nothing: Sequence[Record] = ()
        ours = {one["id"]: one for one in records if one.get("instance") == self._instance}
        newest = sorted(ours.values(), key=lambda one: str(one["id"]), reverse=True)
        found = [(one, asked.get(str(one["id"]), nothing)) for one in newest]
        return [(one, before) for one, before in found if decisive(one, before) is None][:most]

    def __repr__(self) -> str:
        return f"<OpenRequests of {self._instance}>"


async def _newest(archive: Archive, query: Query, *, most: int, enough: Enough) -> list[Record]:
    """Return at least *most* records that match *query*, the newest first; fewer if there are fewer, or *enough*."""
    found: list[Record] = []
    async for page in pages(archive, query, enough=enough):
        found += map(object_in, page.records)
        if len(found) >= most:
            break
    return found
