"""Read the embedded SQLite database: month files, the newest first, whether the proxy runs or not.

The ids in a file determine its month, not its name: a renamed file is still searched and pruned correctly.
"""

import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from proxy.records.archives.in_thread import in_thread
from proxy.records.archives.sqlite_month import MonthReader, opened_month
from proxy.records.months import Month, id_floor, month_of, time_of
from proxy.records.pruned_range import PrunedRange
from proxy.records.query import END_ID, ArchiveUnusable, Enough, MonthGrew, Page, Query, all_of_it, fitting
from proxy.records.sinks.sqlite_file import (
    COMPANIONS,
    at_rest,
    month_file,
    month_files,
    open_as_it_is,
    open_at_rest,
)
from proxy.records.tally import DAY_SECONDS, Tally, summed

_FILES_FOLLOWED = 2
# Less than a millisecond if they are in the page cache, and 15 from a disk that takes 0.1 ms for each.
ROWS_BETWEEN = 128


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

    @in_thread
    def page(self, query: Query, *, before: bytes | None, size: int, enough: Enough = all_of_it) -> Page:
        """Return at most *size* records that match *query* with ids before *before*, the newest first.

        It is asked whether that is *enough* each ROWS_BETWEEN records that were looked at.
        """
        end = query.end_id if before is None else min(before, query.end_id)
        records: list[bytes] = []
        looked_at = 0
        for files in _apart(self._holding(query.first_id, end)):
            with ExitStack() as stack:
                readers = [stack.enter_context(opened_month(file.path)) for file in files]
                # The generators are closed before their connections.
                candidates = [stack.enter_context(closing(reader.candidates(query, end=end))) for reader in readers]
                for record_id, record in heapq.merge(*candidates, key=itemgetter(0), reverse=True):
                    looked_at += 1
                    if record is not None and fitting(query, record) is not None:
                        records.append(record)
                    if len(records) == size or (looked_at % ROWS_BETWEEN == 0 and enough()):
                        return Page(records=records, before=record_id)
        return Page(records=records, before=None)

    @in_thread
    def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, if there is one."""
        try:
            named = month_file(self._database, month_of(record_id))
        except ValueError:
            return None
        # The file with the right name first: the others are opened only to see what is in them.
        others = (file.path for file in self._files_with_ids() if file.first <= record_id <= file.last)
        for path in chain([named] if named.exists() else [], (path for path in others if path != named)):
            with opened_month(path) as reader:
                if (record := reader.by_id(record_id)) is not None:
                    return record
        return None

    @in_thread
    def new_records(self) -> list[bytes]:
        """Return records that were written since the last call."""
        seen, first = self._seen or {}, self._seen is None
        records: list[bytes] = []
        now: dict[Month, int] = {}
        for month, path in sorted(self._files())[-_FILES_FOLLOWED:]:
            with opened_month(path) as reader:
                now[month], found = reader.new_records(None if first else seen.get(month, 0))
                records += found
        self._seen = now
        return records

    @in_thread
    def tallies(self, routes: Sequence[str], *, since: float) -> list[Tally]:
        """Return the outcome counts of the requests on *routes*, from the start of the UTC day of *since* on."""
        day = int(since // DAY_SECONDS)
        found: list[Tally] = []
        for file in self._holding(id_floor(day * DAY_SECONDS), END_ID):
            with opened_month(file.path) as reader:
                found += reader.tallies(routes, day)
        return summed(found)

    @in_thread
    def oldest(self) -> float | None:
        """Return the time of the oldest record, in epoch seconds; None if there is none."""
        firsts = [file.first for file in self._files_with_ids() if file.first]
        return time_of(min(firsts)) if firsts else None

    @in_thread
    def months(self) -> list[Month]:
        """Return the months that have files, the oldest first."""
        return sorted({file.month for file in self._files_with_ids()})

    @in_thread
    def ranges(self, month: Month) -> tuple[int, list[PrunedRange]]:
        """Return the number of records of *month*, and the ranges of the chain that they cover."""
        records = 0
        ranges: list[PrunedRange] = []
        for path in self._of(month):
            with opened_month(path) as reader:
                more, found = reader.ranges()
            records += more
            ranges += found
        return records, ranges

    @in_thread
    def prune_records(self, month: Month) -> list[bytes]:
        """Return the signed records in *month* that state what was pruned earlier."""
        records = []
        for path in self._of(month):
            with opened_month(path) as reader:
                records += reader.prune_records()
        return records

    @in_thread
    def forget(self, month: Month, *, records: int) -> None:
        """Delete the file of *month*; raises ArchiveUnusable, also if there are more than *records* records by now."""
        paths = self._of(month)
        with ExitStack() as stack:
            try:
                count = 0
                for path in paths:
                    connection = stack.enter_context(closing(open_as_it_is(path)))
                    # From here on nothing writes to it; the sink finds it gone and creates a new one.
                    connection.execute("BEGIN IMMEDIATE")
                    with opened_month(path) as reader:
                        count += reader.count()
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

    async def close(self) -> None:
        """Do nothing: no connection stays open."""

    def _of(self, month: Month) -> list[Path]:
        """Return the files whose newest record is of *month*: one, unless files were renamed."""
        return [file.path for file in self._files_with_ids() if file.month == month]

    def _holding(self, first: bytes, end: bytes) -> list[_File]:
        """Return the files that may hold records with *first* <= id < *end*, the newest first."""
        found = [file for file in self._files_with_ids() if file.first < end and file.last >= first and file.last]
        return sorted(found, key=lambda file: file.last, reverse=True)

    def _files_with_ids(self) -> Iterator[_File]:
        """Yield all files with the ids in them: of a file that was renamed, these tell the month."""
        for month, path in self._files():
            first, last = _span(path)
            with suppress(ValueError):
                month = month_of(last)  # noqa: PLW2901 - of an empty file it stays that of its name
            yield _File(path=path, month=month, first=first, last=last)

    def _files(self) -> Iterator[tuple[Month, Path]]:
        try:
            yield from month_files(self._database)
        except OSError as error:
            raise ArchiveUnusable(f"{self._database.parent}: {error.strerror}") from None


def _span(path: Path) -> tuple[bytes, bytes]:
    """Return the first and the last id in the file *path*, b"" if it is empty.

    A month that is over is opened as a file that nobody changes: SQLite would make and remove two files beside each.
    """
    before = at_rest(path)
    if before is not None:
        with suppress(sqlite3.Error), closing(open_at_rest(path)) as connection:
            found = MonthReader(connection).span()
            if at_rest(path) == before:
                return found or (b"", b"")
    with opened_month(path) as reader:
        return reader.span() or (b"", b"")


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
