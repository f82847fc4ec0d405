"""Reading the embedded database: month files from the newest to the oldest, the proxy running or not."""

import asyncio
import heapq
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from proxy.records.archives.stones import joined
from proxy.records.months import Month, month_of
from proxy.records.query import ArchiveUnusable, Page, Query
from proxy.records.sinks.row import ENTRY_BYTES, KEY_BYTES, decode, value_key
from proxy.records.sinks.sqlite_file import COMPANIONS, month_file, month_files, open_for_reading
from proxy.records.tombstone import Tombstone, tombstones_of

Result = TypeVar("Result")

# Statements have at most 32766 parameters.
_IDS_AT_ONCE = 200
_FILES_FOLLOWED = 2
_SUMMED_AT_ONCE = 50_000


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

    async def months(self) -> list[Month]:
        """Return the months that there are files of, the oldest first."""
        return await self._in_thread(lambda: [month for month, _ in self._files()])

    async def stones(self, month: Month) -> tuple[int, list[Tombstone]]:
        """Return how many records there are of *month*, and which of the chain."""
        return await self._in_thread(lambda: self._stones(month))

    async def forget(self, month: Month) -> None:
        """Delete the file of *month*; raises ArchiveUnusable."""
        await self._in_thread(lambda: self._forget(month))

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
            with _opened(path) as file:
                for record_id, record in file.found(query, end=end):
                    records.append(record)
                    if len(records) == size:
                        return Page(records=records, before=record_id)
        return Page(records=records, before=None)

    def _by_id(self, record_id: bytes) -> bytes | None:
        try:
            path = month_file(self._database, month_of(record_id))
        except ValueError:
            return None
        if not path.exists():
            return None
        with _opened(path) as file:
            return file.by_id(record_id)

    def _news(self) -> list[bytes]:
        seen, first = self._seen or {}, self._seen is None
        records: list[bytes] = []
        now: dict[Month, int] = {}
        for month, path in sorted(self._files())[-_FILES_FOLLOWED:]:
            with _opened(path) as file:
                now[month], found = file.news(None if first else seen.get(month, 0))
                records += found
        self._seen = now
        return records

    def _stones(self, month: Month) -> tuple[int, list[Tombstone]]:
        with _opened(month_file(self._database, month)) as file:
            return file.stones()

    def _forget(self, month: Month) -> None:
        path = month_file(self._database, month)
        try:
            # The file first: a WAL without its file is nothing, but a file without its WAL has lost records.
            path.unlink()
            for companion in COMPANIONS:
                path.with_name(path.name + companion).unlink(missing_ok=True)
        except OSError as error:
            raise ArchiveUnusable(f"{path}: {error.strerror}") from None

    def _files(self) -> Iterator[tuple[Month, Path]]:
        try:
            yield from month_files(self._database)
        except OSError as error:
            raise ArchiveUnusable(f"{self._database.parent}: {error.strerror}") from None


class _opened:  # noqa: N801 - it is used like a function: `with _opened(path) as file`
    """An open file, closed at the end, whose errors are told as ArchiveUnusable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_MonthReader":
        try:
            self._connection = open_for_reading(self._path)
        except sqlite3.Error as error:
            raise ArchiveUnusable(f"{self._path}: {error}") from None
        return _MonthReader(self._connection)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise ArchiveUnusable(f"{self._path}: {error}") from None


class _MonthReader:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def found(self, query: Query, *, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield id and record of what *query* wants and whose id sorts before *end*, the newest first."""
        candidates = self._indexed(query, end) if query.indexed else self._scanned(query, end)
        for record_id, record in candidates:
            try:
                values = decode(record)
            except ValueError:
                continue
            if isinstance(values, dict) and query.matches(values):
                yield record_id, record

    def by_id(self, record_id: bytes) -> bytes | None:
        row = self._connection.execute("SELECT record FROM records WHERE id = ?", (record_id,)).fetchone()
        return row[0] if row else None

    def news(self, after: int | None) -> tuple[int, list[bytes]]:
        """Return the last row and the records behind row *after*; of None only the last row."""
        (last,) = self._connection.execute("SELECT coalesce(max(rowid), 0) FROM records").fetchone()
        if after is None:
            return last, []
        rows = self._connection.execute(
            "SELECT record FROM records WHERE rowid > ? AND rowid <= ? ORDER BY rowid", (after, last)
        )
        return last, [record for (record,) in rows]

    def stones(self) -> tuple[int, list[Tombstone]]:
        rows = self._connection.execute("SELECT record FROM records ORDER BY rowid")
        records = 0
        stones: list[Tombstone] = []
        while some := [record for (record,) in rows.fetchmany(_SUMMED_AT_ONCE)]:
            records += len(some)
            stones = joined([*stones, *tombstones_of(some)])
        return records, stones

    def _scanned(self, query: Query, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        terms, values = ["id >= ?", "id < ?"], [query.first_id, end]
        index = ""
        low = 0
        if query.status is not None:
            low = query.status.low
            terms.append(f"status >= {low:d} AND status <= {query.status.high:d}")
        # A partial index is used for terms that stand in its own condition, with their values.
        if query.caller:
            index = "INDEXED BY records_caller"
        elif query.sent == "unknown":
            index = "INDEXED BY records_rare"
            terms.append("sent_upstream = 'unknown'")
        elif low >= 500:
            index = "INDEXED BY records_rare"
            terms.append("status >= 500")
        elif query.kind not in {"", "exchange"}:
            index = "INDEXED BY records_rare"
            terms.append("kind <> 'exchange'")
        for name, value in query.plain:
            if name in {"kind", "caller", "sent_upstream"}:
                terms.append(f"{name} = ?")
                values.append(value)  # type: ignore[arg-type]  # SQLite takes text beside bytes
            else:
                # Not parsed in SQL, which takes ten times as long; a hit elsewhere in the record is sorted out later.
                terms.append("instr(record, ?) > 0")
                values.append(f'"{name}":{json.dumps(value, ensure_ascii=False)}'.encode())
        yield from self._connection.execute(
            f"SELECT id, record FROM records {index} WHERE {' AND '.join(terms)} ORDER BY id DESC",  # noqa: S608 - values are bound
            values,
        )

    def _indexed(self, query: Query, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        ids = _common([self._having(one.value, query.first_id, end) for one in query.indexed])
        while some := list(islice(ids, _IDS_AT_ONCE)):
            yield from self._connection.execute(
                f"SELECT id, record FROM records WHERE id IN ({', '.join('?' * len(some))}) ORDER BY id DESC",  # noqa: S608
                some,
            )

    def _having(self, value: str, first: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the ids from *first* to before *end* that have an index value with the key of *value*, descending."""
        key = value_key(value.encode(errors="replace"))
        seals = [seal for (seal,) in self._connection.execute("SELECT seal FROM seals")]
        streams = [self._in_seal(seal, low=key + first, high=key + end) for seal in seals]
        previous = b""
        for record_id in heapq.merge(*streams, self._unsealed(value, first, end), reverse=True):
            if record_id != previous:
                yield record_id
                previous = record_id

    def _in_seal(self, seal: int, *, low: bytes, high: bytes) -> Iterator[bytes]:
        pieces = self._connection.execute(
            "SELECT entries FROM lookups WHERE seal = ? AND first < ? ORDER BY first DESC", (seal, high)
        )
        for (piece,) in pieces:
            for at in range(len(piece) - ENTRY_BYTES, -1, -ENTRY_BYTES):
                entry = piece[at : at + ENTRY_BYTES]
                if entry < low:
                    return
                if entry < high:
                    yield entry[KEY_BYTES:]

    def _unsealed(self, value: str, first: bytes, end: bytes) -> Iterator[bytes]:
        text = json.dumps(value, ensure_ascii=False)[1:-1].encode(errors="replace")
        rows = self._connection.execute(
            "SELECT id FROM records WHERE rowid > (SELECT coalesce(max(last_row), 0) FROM seals)"
            " AND +id >= ? AND +id < ? AND instr(record, ?) > 0",
            (first, end, text),
        )
        yield from sorted((record_id for (record_id,) in rows), reverse=True)


def _common(streams: Sequence[Iterator[bytes]]) -> Iterator[bytes]:
    """Yield what stands in all *streams*, each of them descending."""
    while True:
        try:
            heads = [next(stream) for stream in streams]
            while (low := min(heads)) != max(heads):
                for at, stream in enumerate(streams):
                    while heads[at] > low:
                        heads[at] = next(stream)
        except StopIteration:
            return
        yield low
