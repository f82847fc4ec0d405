"""Reads the request log for pages: a few at a time, in threads, and to the end even if the visitor has gone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from proxy.console.migration_course import Course, courses
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.query import Archive, ArchiveUnusable, Enough, Page, Query, all_of_it
from proxy.settings.stores import UrlUnusable
from proxy.settings.worker_values import MigrationValues

# More at once would take the threads that others in the keeper need.
_AT_ONCE = 2
# Searches that run or wait. A visitor who leaves or reloads does not end a search, so that more could pile up.
MOST_AT_ONCE = 10
_ID_BYTES = 16

Found = TypeVar("Found")


class LogReader:
    """Reads the database that *archive* opens (None: there is none) and the spool in *data_directory*.

    *enough* is called at the start of each search, and returns what ends it. Methods raise ArchiveUnusable.
    """

    def __init__(
        self,
        archive: Callable[[], Archive | None],
        *,
        data_directory: Path,
        enough: Callable[[], Enough] = lambda: all_of_it,
    ) -> None:
        self._archive = archive
        self._directory = data_directory
        self._enough = enough
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def page(self, query: Query, *, before: bytes | None, size: int) -> Page:
        """Return at most *size* records that match *query*, the newest first, those before the id *before*.

        They are fewer also if it was enough before.
        """
        return await self._apart(
            self._with_archive(lambda archive: archive.page(query, before=before, size=size, enough=self._enough()))
        )

    async def record(self, record_id: bytes) -> dict[str, Any] | None:
        """Return the record with that id, or its intent if the request is in flight, or None."""
        return await self._apart(self._record(record_id))

    async def courses(self, migrations: Sequence[tuple[MigrationValues, set[str]]], *, now: float) -> dict[str, Course]:
        """Return what the log tells of *migrations*, each with its configured callers; *now* in epoch seconds."""
        return await self._apart(self._with_archive(lambda archive: courses(archive, migrations, now=now)))

    async def read(self, work: Callable[[Archive | None, Spool, Enough], Awaitable[Found]]) -> Found:
        """Return what *work* returns of the archive, None if it is turned off, and of what is on its way there.

        It also gets what ends it.
        """
        return await self._apart(self._with_both(work))

    async def _record(self, record_id: bytes) -> dict[str, Any] | None:
        text = None
        if (archive := self._opened()) is not None:
            try:
                text = await archive.by_id(record_id)
            finally:
                await archive.close()
        if text is None:
            text = await Spool(self._directory).by_id(record_id)
        return None if text is None else object_in(text)

    async def _with_archive(self, read: Callable[[Archive], Awaitable[Found]]) -> Found:
        archive = existing(self._opened())
        try:
            return await read(archive)
        finally:
            await archive.close()

    async def _with_both(self, read: Callable[[Archive | None, Spool, Enough], Awaitable[Found]]) -> Found:
        archive = self._opened()
        try:
            return await read(archive, Spool(self._directory), self._enough())
        finally:
            if archive is not None:
                await archive.close()

    def _opened(self) -> Archive | None:
        try:
            return self._archive()
        except UrlUnusable as error:
            raise ArchiveUnusable(f"request_log.database or database_file: {error}") from None

    async def _apart(self, work: Coroutine[Any, Any, Found]) -> Found:
        """Run *work* in a task that nobody cancels: its thread would go on, and its place must not be free before."""
        if len(self._tasks) >= MOST_AT_ONCE:
            work.close()
            raise ArchiveUnusable("too many searches are under way: try again in a minute")
        task = asyncio.ensure_future(self._placed(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _placed(self, work: Coroutine[Any, Any, Found]) -> Found:
        async with self._places:
            return await work


def existing(archive: Archive | None) -> Archive:
    """Return *archive*; raise ArchiveUnusable if there is none."""
    if archive is None:
        raise ArchiveUnusable("request_log.database is turned off: there is nothing to search")
    return archive


def id_bytes(text: str) -> bytes | None:
    """Return the 16 bytes of the record id *text*, None if it is none."""
    try:
        found = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return found if len(found) == _ID_BYTES else None
