"""Requests of unknown outcome: what the bank was asked about them, and which of them nobody has resolved."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.clock import Clock
from proxy.console.log_reader import LogReader
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.audit_records import INQUIRY_ABOUT
from proxy.records.inquiry_outcome import by_exchange, decisive
from proxy.records.query import (
    Archive,
    ArchiveUnusable,
    Enough,
    Indexed,
    Page,
    Query,
    all_of_it,
    for_seconds,
    header_word,
    parse_time,
)

Record = dict[str, Any]

UNKNOWN = Query(sent="unknown")
# More are not counted, but said to be more; nor is counted for longer.
MOST_COUNTED = 1000
MOST_SECONDS = 2.0
# The overview counts anew after so long, if somebody looks at it; a count that took long is kept for longer: a million
# records with 50,000 errors among them take 1 s.
COUNTED_FOR_SECONDS = 10.0
_COUNTED_FOR_TIMES = 30
# What the overview waits for the first count.
_PATIENCE_SECONDS = 0.05
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """The *number* of requests of unknown outcome that no inquiry has settled, *more*: or more; *problem*: why not."""

    number: int = 0
    more: bool = False
    problem: str = ""


class UnresolvedCount:
    """Counts in the background, and not while nobody looks."""

    def __init__(self, log: LogReader, *, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._latest: Unresolved | None = None
        self._counting: asyncio.Task[None] | None = None
        self._due = clock.monotonic()

    async def latest(self) -> Unresolved | None:
        """Return the latest count and have another made if it is old; None if the first takes long."""
        if self._counting is None and self._clock.monotonic() >= self._due:
            self._counting = asyncio.create_task(self._count(), name="unresolved requests")
        if self._latest is None and self._counting is not None:
            await asyncio.wait({self._counting}, timeout=_PATIENCE_SECONDS)
        return self._latest

    async def _count(self) -> None:
        begun = self._clock.monotonic()
        try:
            enough = for_seconds(MOST_SECONDS, self._clock.monotonic)
            page = await self._log.read(
                lambda archive, spool, _: open_page(archive, spool, UNKNOWN, size=MOST_COUNTED, enough=enough)
            )
            self._latest = Unresolved(number=len(page.records), more=page.before is not None)
        except ArchiveUnusable as error:
            self._latest = Unresolved(problem=str(error))
        finally:
            ended = self._clock.monotonic()
            self._due = ended + max(COUNTED_FOR_SECONDS, _COUNTED_FOR_TIMES * (ended - begun))
            self._counting = None


async def open_page(
    archive: Archive | None,
    spool: Spool,
    query: Query,
    *,
    before: bytes | None = None,
    size: int,
    enough: Enough = all_of_it,
) -> Page:
    """Return the newest requests of *query* that no inquiry has settled; raises ArchiveUnusable.

    They are those of `payproxy logs search --sent unknown --open`: *size* or some more, or fewer once it is *enough*.
    """
    found: list[bytes] = []
    source = existing(archive)
    while len(found) < size:
        page = await source.page(query, before=before, size=min(size, _AT_ONCE), enough=enough)
        found += await _unsettled(source, spool, page.records)
        before = page.before
        if before is None or enough():
            break
    return Page(records=found, before=before)


async def inquiries_about(archive: Archive | None, spool: Spool, record_id: str) -> list[Record]:
    """Return what the bank was asked about the request *record_id*, the oldest first; raises ArchiveUnusable."""
    query = Query(kind="inquiry", indexed=(Indexed(header_word(INQUIRY_ABOUT), record_id),))
    return by_exchange(map(object_in, await _of_kind(archive, spool, query))).get(record_id, [])


def existing(archive: Archive | None) -> Archive:
    """Return *archive*; raise ArchiveUnusable if there is none."""
    if archive is None:
        raise ArchiveUnusable("request_log.database is turned off: there is nothing to search")
    return archive


async def _unsettled(archive: Archive, spool: Spool, lines: Sequence[bytes]) -> list[bytes]:
    if not lines:
        return []
    # The bank is asked about a request after it has begun, so later than the oldest one.
    since = parse_time(str(object_in(lines[-1])["time"]), now=0)
    inquiries = await _of_kind(archive, spool, Query(kind="inquiry", since=since))
    return await asyncio.to_thread(_open, lines, inquiries) if inquiries else list(lines)


def _open(lines: Iterable[bytes], inquiries: Iterable[bytes]) -> list[bytes]:
    asked = by_exchange(map(object_in, inquiries))
    records = ((line, object_in(line)) for line in lines)
    return [line for line, record in records if decisive(record, asked.get(str(record.get("id")), ())) is None]


async def _of_kind(archive: Archive | None, spool: Spool, query: Query) -> list[bytes]:
    found = await spool.of_kind(query)
    before: bytes | None = None
    while archive is not None:
        page = await archive.page(query, before=before, size=_AT_ONCE)
        found += page.records
        before = page.before
        if before is None:
            break
    return found
