"""Reading the embedded database: month files from the newest to the oldest, the proxy running or not."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from proxy.records.archives.sqlite_month import opened_month
from proxy.records.months import Month, month_of, time_of
from proxy.records.query import ArchiveUnusable, MonthGrew, Page, Query
from proxy.records.sinks.sqlite_file import COMPANIONS, month_file, month_files, open_as_it_is
from proxy.records.tally import DAY_SECONDS, Tally, summed
from proxy.records.tombstone import Tombstone

Result = TypeVar("Result")

_FILES_FOLLOWED = 2


class SqliteArchive:
    """The files beside *database*; each call opens what it needs and works in a thread."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._seen: dict[Month, int] | None = None

    def __repr__(self) -> str:
        return f"<SqliteArchive {self._database}>"

    async def page(self, query: Query, *, before: bytes | None, size: int) -> Page:
        """Return at most *size* records that *query* wants and whose ids sort before *before*, the newest first."""
        return await self._in_thread(lambda: self._page(query, before, size))

    async def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, if there is one."""
        return await self._in_thread(lambda: self._by_id(record_id))

    async def news(self) -> list[bytes]:
        """Return records that were written since the last call."""
        return await self._in_thread(self._news)

    async def tallies(self, routes: Sequence[str], *, since: float) -> list[Tally]:
        """Return what came of the requests on *routes* from the beginning of the day (UTC) of *since* on."""
        return await self._in_thread(lambda: summed(self._tallies(tuple(routes), since)))

    async def oldest(self) -> float | None:
        """Return the time of the oldest record, in epoch seconds; None if there is none."""
        return await self._in_thread(self._oldest)

    async def months(self) -> list[Month]:
        """Return the months that there are files of, the oldest first."""
        return await self._in_thread(lambda: [month for month, _ in self._files()])

    async def stones(self, month: Month) -> tuple[int, list[Tombstone]]:
        """Return how many records there are of *month*, and which of the chain."""
        return await self._in_thread(lambda: self._stones(month))

    async def prunes(self, month: Month) -> list[bytes]:
        """Return the records of *month* that say, signed, what was pruned before."""
        return await self._in_thread(lambda: self._prunes(month))

    async def forget(self, month: Month, *, records: int) -> None:
        """Delete the file of *month*; raises ArchiveUnusable, also if by now there are more than so many *records*."""
        await self._in_thread(lambda: self._forget(month, records))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.to_thread(call)

    def _page(self, query: Query, before: bytes | None, size: int) -> Page:
        end = query.end_id if before is None else min(before, query.end_id)
        records: list[bytes] = []
        for month, path in sorted(self._files(), reverse=True):
            if month.end_id <= query.first_id or month.first_id >= end:
                continue
            with opened_month(path) as file:
                for record_id, record in file.found(query, end=end):
                    records.append(record)
                    if len(records) == size:
                        return Page(records=records, before=record_id)
        return Page(records=records, before=None)

    def _tallies(self, routes: Sequence[str], since: float) -> Iterator[Tally]:
        for month, path in self._files():
            if month.next.begin > since:
                with opened_month(path) as file:
                    yield from file.tallies(routes, int(since // DAY_SECONDS))

    def _oldest(self) -> float | None:
        for _, path in self._files():
            with opened_month(path) as file:
                first = file.first()
            if first is not None:
                return time_of(first)
        return None

    def _by_id(self, record_id: bytes) -> bytes | None:
        try:
            path = month_file(self._database, month_of(record_id))
        except ValueError:
            return None
        if not path.exists():
            return None
        with opened_month(path) as file:
            return file.by_id(record_id)

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

    def _stones(self, month: Month) -> tuple[int, list[Tombstone]]:
        with opened_month(month_file(self._database, month)) as file:
            return file.stones()

    def _prunes(self, month: Month) -> list[bytes]:
        with opened_month(month_file(self._database, month)) as file:
            return file.prunes()

    def _forget(self, month: Month, records: int) -> None:
        path = month_file(self._database, month)
        try:
            with closing(open_as_it_is(path)) as connection:
                # Nobody writes into it from here on; the sink finds it gone and begins a new one.
                connection.execute("BEGIN IMMEDIATE")
                with opened_month(path) as file:
                    if file.count() > records:
                        raise MonthGrew(month)
                # The file first: a WAL without its file is nothing, but a file without its WAL has lost records.
                path.unlink()
                for companion in COMPANIONS:
                    path.with_name(path.name + companion).unlink(missing_ok=True)
        except sqlite3.Error as error:
            raise ArchiveUnusable(f"{path}: {error}") from None
        except OSError as error:
            raise ArchiveUnusable(f"{path}: {error.strerror}") from None

    def _files(self) -> Iterator[tuple[Month, Path]]:
        try:
            yield from month_files(self._database)
        except OSError as error:
            raise ArchiveUnusable(f"{self._database.parent}: {error.strerror}") from None
