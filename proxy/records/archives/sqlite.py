"""Read the embedded SQLite database: month files, the newest first, whether the proxy runs or not.

The ids in a file determine its month, not its name: a renamed file is still searched and pruned correctly.
"""

import asyncio
import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

from proxy.records.archives.sqlite_month import opened_month
from proxy.records.months import Month, id_floor, month_of, time_of
from proxy.records.pruned_range import PrunedRange
from proxy.records.query import END_ID, ArchiveUnusable, MonthGrew, Page, Query
from proxy.records.sinks.sqlite_file import COMPANIONS, month_file, month_files, open_as_it_is
from proxy.records.tally import DAY_SECONDS, Tally, summed

Result = TypeVar("Result")

_FILES_FOLLOWED = 2


class _File(NamedTuple):
    """A file, the month of its newest record, and its first and last id (b"" if it is empty)."""

    path: Path
    month: Month
    first: bytes
    last: bytes


class SqliteArchive:
    """Reads the month files of *database*; each call opens the files that it needs and runs in a thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._seen: dict[Month, int] | None = None

    def __repr__(self) -> str:
        return f"<SqliteArchive {self._database}>"

    async def page(self, query: Query, *, before: bytes | None, size: int) -> Page:
        """Return at most *size* records that match *query* with ids before *before*, the newest first."""
        return await self._in_thread(lambda: self._page(query, before, size))

    async def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, if there is one."""
        return await self._in_thread(lambda: self._by_id(record_id))

    async def news(self) -> list[bytes]:
        """Return records that were written since the last call."""
        return await self._in_thread(self._news)

    async def tallies(self, routes: Sequence[str], *, since: float) -> list[Tally]:
        """Return the outcome counts of the requests on *routes*, from the start of the UTC day of *since* on."""
        return await self._in_thread(lambda: summed(self._tallies(tuple(routes), since)))

    async def oldest(self) -> float | None:
        """Return the time of the oldest record, in epoch seconds; None if there is none."""
        return await self._in_thread(self._oldest)

    async def months(self) -> list[Month]:
        """Return the months that have files, the oldest first."""
        return await self._in_thread(lambda: sorted({file.month for file in self._looked_into()}))

    async def ranges(self, month: Month) -> tuple[int, list[PrunedRange]]:
        """Return the number of records of *month*, and the ranges of the chain that they cover."""
        return await self._in_thread(lambda: self._ranges(month))

    async def prune_records(self, month: Month) -> list[bytes]:
        """Return the signed records in *month* that state what was pruned earlier."""
        return await self._in_thread(lambda: self._prune_records(month))

    async def forget(self, month: Month, *, records: int) -> None:
        """Delete the file of *month*; raises ArchiveUnusable, also if there are more than *records* records by now."""
        await self._in_thread(lambda: self._forget(month, records))

    async def close(self) -> None:
        """Do nothing: no connection stays open."""

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.to_thread(call)

    def _page(self, query: Query, before: bytes | None, size: int) -> Page:
        end = query.end_id if before is None else min(before, query.end_id)
        records: list[bytes] = []
        for files in _apart(self._holding(query.first_id, end)):
            with ExitStack() as held:
                readers = [held.enter_context(opened_month(file.path)) for file in files]
                # The generators are closed before their connections.
                found = [held.enter_context(closing(reader.found(query, end=end))) for reader in readers]
                for record_id, record in heapq.merge(*found, key=itemgetter(0), reverse=True):
                    records.append(record)
                    if len(records) == size:
                        return Page(records=records, before=record_id)
        return Page(records=records, before=None)

    def _tallies(self, routes: Sequence[str], since: float) -> Iterator[Tally]:
        day = int(since // DAY_SECONDS)
        for file in self._holding(id_floor(day * DAY_SECONDS), END_ID):
            with opened_month(file.path) as reader:
                yield from reader.tallies(routes, day)

    def _oldest(self) -> float | None:
        firsts = [file.first for file in self._looked_into() if file.first]
        return time_of(min(firsts)) if firsts else None

    def _by_id(self, record_id: bytes) -> bytes | None:
        try:
            named = month_file(self._database, month_of(record_id))
        except ValueError:
            return None
        if named.exists():
            with opened_month(named) as file:
                if (record := file.by_id(record_id)) is not None:
                    return record
        for other in self._looked_into():
            if other.path != named and other.first <= record_id <= other.last:
                with opened_month(other.path) as file:
                    if (record := file.by_id(record_id)) is not None:
                        return record
        return None

    def _news(self) -> list[bytes]:
        seen, first = self._seen or {}, self._seen is None
        records: list[bytes] = []
        now: dict[Month, int] = {}
        for month, path in sorted(self._files())[-_FILES_FOLLOWED:]:
            with opened_month(path) as file:
                now[month], found = file.news(None if first else seen.get(month, 0))
                records += found
        self._seen = now
        return records

    def _ranges(self, month: Month) -> tuple[int, list[PrunedRange]]:
        records = 0
        ranges: list[PrunedRange] = []
        for path in self._of(month):
            with opened_month(path) as file:
                more, found = file.ranges()
            records += more
            ranges += found
        return records, ranges

    def _prune_records(self, month: Month) -> list[bytes]:
        records = []
        for path in self._of(month):
            with opened_month(path) as file:
                records += file.prune_records()
        return records

    def _forget(self, month: Month, records: int) -> None:
        paths = self._of(month)
        with ExitStack() as held:
            try:
                count = 0
                for path in paths:
                    connection = held.enter_context(closing(open_as_it_is(path)))
                    # From here on nothing writes to it; the sink finds it gone and creates a new one.
                    connection.execute("BEGIN IMMEDIATE")
                    with opened_month(path) as file:
                        count += file.count()
                if count > records:
                    raise MonthGrew(month)
                for path in paths:
                    # The file first: a WAL without its file is harmless, but a file without its WAL has lost records.
                    path.unlink()
                    for companion in COMPANIONS:
                        path.with_name(path.name + companion).unlink(missing_ok=True)
            except sqlite3.Error as error:
                raise ArchiveUnusable(f"{path}: {error}") from None
            except OSError as error:
                raise ArchiveUnusable(f"{path}: {error.strerror}") from None

    def _of(self, month: Month) -> list[Path]:
        """Return the files whose newest record is of *month*: one, unless files were renamed."""
        return [file.path for file in self._looked_into() if file.month == month]

    def _holding(self, first: bytes, end: bytes) -> list[_File]:
        """Return the files that may hold records with *first* <= id < *end*, the newest first."""
        found = [file for file in self._looked_into() if file.first < end and file.last >= first and file.last]
        return sorted(found, key=lambda file: file.last, reverse=True)

    def _looked_into(self) -> Iterator[_File]:
        for named, path in self._files():
            with opened_month(path) as file:
                span = file.span()
            if span is None:
                yield _File(path=path, month=named, first=b"", last=b"")
                continue
            first, last = span
            try:
                month = month_of(last)
            except ValueError:
                month = named
            yield _File(path=path, month=month, first=first, last=last)

    def _files(self) -> Iterator[tuple[Month, Path]]:
        try:
            yield from month_files(self._database)
        except OSError as error:
            raise ArchiveUnusable(f"{self._database.parent}: {error.strerror}") from None


def _apart(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Yield groups of *files*, the newest first: files with overlapping id ranges together, nearly always just one."""
    together: list[_File] = []
    first = b""
    for file in files:
        if together and file.last < first:
            yield together
            together = []
        first = min(first, file.first) if together else file.first
        together.append(file)
    if together:
        yield together
