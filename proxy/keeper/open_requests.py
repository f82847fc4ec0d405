"""Finds in the request log what this instance's automatic inquiries had still to ask about when it ended."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from proxy.clock import Clock
from proxy.keeper.log_sinks import archive_of
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.inquiries import inquiries, is_settled
from proxy.records.inquiry_outcome import Record
from proxy.records.paging import pages
from proxy.records.query import Archive, Enough, Query, for_seconds
from proxy.settings.model import Settings

# As `payproxy reconcile` looks back by default.
OPEN_SECONDS = 86400.0
UNKNOWN = b',"sent_upstream":"unknown",'

_SEARCH_SECONDS = 30.0


class OpenRequests:
    """Reads the log's database and what is not in it yet; *settings* are those in force, *chain* is ours.

    Not our name: instances that share a log may have the same one.
    """

    def __init__(self, settings: Callable[[], Settings], *, chain: str, clock: Clock) -> None:
        self._settings = settings
        self._chain = chain
        self._clock = clock

    async def find(self, most: int) -> list[tuple[Record, Sequence[Record]]]:
        """Return at most *most* requests of the last 24 h that no inquiry has settled, each with its inquiries.

        The newest first; [] if no rule has automatic inquiries. Raises ArchiveUnusable or UrlUnusable.
        """
        settings = self._settings()
        routes = {one.name for one in settings.routes if one.inquiry.automatic}
        if not routes:
            return []
        since = self._clock.now() - OPEN_SECONDS
        spool = Spool(Path(settings.data_directory))
        unknown = Query(kind="exchange", sent="unknown", since=since)
        archive = archive_of(settings)
        try:
            # This search may not end early: without its inquiry a settled request would be asked about again.
            asked = await inquiries(archive, spool, Query(kind="inquiry", since=since))
            chosen = _Open(self._chain, routes, asked)
            found = chosen.among(await spool.of_kind(unknown, having=UNKNOWN))
            if archive is not None:
                enough = for_seconds(_SEARCH_SECONDS, self._clock.monotonic)
                found |= await _newest(archive, unknown, chosen, most=most, enough=enough)
        finally:
            if archive is not None:
                await archive.close()
        newest = sorted(found, reverse=True)[:most]
        return [(found[one], chosen.asked(one)) for one in newest]

    def __repr__(self) -> str:
        return f"<OpenRequests of {self._chain}>"


class _Open:
    """Chooses the requests of *chain* by *routes* that none of *inquiries*, by their exchange's id, has settled."""

    def __init__(self, chain: str, routes: Collection[str], inquiries: Mapping[str, Sequence[Record]]) -> None:
        self._chain = chain
        self._routes = routes
        self._inquiries = inquiries

    def asked(self, record_id: str) -> Sequence[Record]:
        """Return the inquiries about the request *record_id*."""
        return self._inquiries.get(record_id, ())

    def among(self, lines: Iterable[bytes]) -> dict[str, Record]:
        """Return those among the records *lines*, by their ids."""
        records = ((str(one.get("id")), one) for one in map(object_in, lines))
        return {key: one for key, one in records if self._is_ours(one) and not is_settled(one, self._inquiries)}

    def _is_ours(self, record: Record) -> bool:
        return record.get("chain") == self._chain and record.get("route") in self._routes


async def _newest(archive: Archive, query: Query, chosen: _Open, *, most: int, enough: Enough) -> dict[str, Record]:
    """Return at least *most* of those that are *chosen*, by id, the newest; fewer if there are fewer, or *enough*.

    What other instances had in flight, and what is settled, may be many times as many.
    """
    found: dict[str, Record] = {}
    async for page in pages(archive, query, enough=enough):
        found |= chosen.among(page.records)
        if len(found) >= most:
            break
    return found
