"""Requests of unknown outcome: what the bank was asked about them, and which of them nobody has resolved."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.console.log_reader import LogReader, existing
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.inquiries import about, inquiries, is_settled
from proxy.records.inquiry_outcome import Record
from proxy.records.paging import pages
from proxy.records.query import Archive, ArchiveUnusable, Enough, Page, Query, all_of_it, for_seconds, parse_time

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
        started = self._clock.monotonic()
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
            self._due = ended + max(COUNTED_FOR_SECONDS, _COUNTED_FOR_TIMES * (ended - started))
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
    async for page in pages(source, query, before=before, size=min(size, _AT_ONCE), enough=enough):
        found += await _unsettled(source, spool, page.records)
        before = page.before
        if len(found) >= size:
            break
    return Page(records=found, before=before)


async def inquiries_about(archive: Archive | None, spool: Spool, record_id: str) -> list[Record]:
    """Return what the bank was asked about the request *record_id*, the oldest first; raises ArchiveUnusable."""
    return (await inquiries(archive, spool, about(record_id))).get(record_id, [])


async def _unsettled(archive: Archive, spool: Spool, lines: Sequence[bytes]) -> list[bytes]:
    if not lines:
        return []
    # The bank is asked about a request after it has begun, so later than the oldest one.
    since = parse_time(str(object_in(lines[-1])["time"]), now=0)
    asked = await inquiries(archive, spool, Query(kind="inquiry", since=since))
    return await asyncio.to_thread(_open, lines, asked)


def _open(lines: Iterable[bytes], asked: Mapping[str, Sequence[Record]]) -> list[bytes]:
    return [line for line in lines if not is_settled(object_in(line), asked)]
