"""Search and count the records of one month in an SQLite file."""

import heapq
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path

from proxy.records.json_line import quoted
from proxy.records.pruned_range import PrunedRange, joined, ranges_of
from proxy.records.query import ArchiveUnusable, Query
from proxy.records.sinks.row import ENTRY_BYTES, KEY_BYTES, value_key
from proxy.records.sinks.sqlite_file import snapshot
from proxy.records.tally import Tally

# SQLite allows at most 32766 parameters in a statement; a search can't stop between them.
_IDS_AT_ONCE = 100
_SUMMED_AT_ONCE = 50_000

# An id, and its record if that may match. Ids without one are yielded too, so that a search can stop at any of them.
Candidate = tuple[bytes, bytes | None]


@contextmanager
def opened_month(path: Path) -> Iterator["MonthReader"]:
    """Open a file for reading, as one snapshot, and close it at exit; sqlite3.Error is raised as ArchiveUnusable."""
    with snapshot(path, ArchiveUnusable) as connection:
        yield MonthReader(connection)


class MonthReader:
    """Reads one file, in the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def candidates(self, query: Query, *, end: bytes) -> Generator[Candidate]:
        """Yield what was looked at for *query* before *end*, the newest first; `fitting` decides on the records."""
        return self._indexed(query, end) if query.indexed else self._scanned(query, end)

    def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, if there is one."""
        row = self._connection.execute("SELECT record FROM records WHERE id = ?", (record_id,)).fetchone()
        return row[0] if row else None

    def span(self) -> tuple[bytes, bytes] | None:
        """Return the first and the last id, if there is a record."""
        (first,) = self._connection.execute("SELECT min(id) FROM records").fetchone()
        (last,) = self._connection.execute("SELECT max(id) FROM records").fetchone()
        return None if first is None else (first, last)

    def new_records(self, after: int | None) -> tuple[int, list[bytes]]:
        """Return the number of the last row and the records after row *after*; no records if *after* is None."""
        (last,) = self._connection.execute("SELECT coalesce(max(rowid), 0) FROM records").fetchone()
        if after is None:
            return last, []
        rows = self._connection.execute(
            "SELECT record FROM records WHERE rowid > ? AND rowid <= ? ORDER BY rowid", (after, last)
        )
        return last, [record for (record,) in rows]

    def tallies(self, routes: Sequence[str], day: int) -> list[Tally]:
        """Return the outcome counts of the requests on *routes*, from *day* (days since the epoch) on."""
        names = ", ".join("?" * len(routes))
        rows = self._connection.execute(
            "SELECT route, side, credential, caller, sum(requests), sum(held_back), sum(failed), sum(client_errors),"  # noqa: S608
            f" sum(fine), max(last) / 1000.0 FROM tallies WHERE route IN ({names}) AND day >= ? GROUP BY 1, 2, 3, 4",
            (*routes, day),
        )
        return [Tally(*row) for row in rows]

    def count(self) -> int:
        """Return the number of records."""
        (records,) = self._connection.execute("SELECT count(*) FROM records").fetchone()
        return records  # type: ignore[no-any-return]  # an integer

    def ranges(self) -> tuple[int, list[PrunedRange]]:
        """Return the number of records, and the ranges of the chain that they cover."""
        rows = self._connection.execute("SELECT record FROM records ORDER BY rowid")
        records = 0
        ranges: list[PrunedRange] = []
        while some := [record for (record,) in rows.fetchmany(_SUMMED_AT_ONCE)]:
            records += len(some)
            ranges = joined([*ranges, *ranges_of(some)])
        return records, ranges

    def prune_records(self) -> list[bytes]:
        """Return the signed records that state what was pruned."""
        rows = self._connection.execute(
            "SELECT record FROM records WHERE kind <> 'exchange' AND kind = 'operation' AND instr(record, ?) > 0",
            (b'"pruned_by":',),
        )
        return [record for (record,) in rows]

    def _scanned(self, query: Query, end: bytes) -> Generator[Candidate]:
        index, terms = _index_for(query, rare_from=self._rare_from())
        filters, values = ["1"], []
        if query.status is not None:
            filters.append(f"status BETWEEN {query.status.low:d} AND {query.status.high:d}")
        for name, value in query.plain:
            if name in {"kind", "sent_upstream"}:
                filters.append(f"{name} = ?")
                values.append(value)
            elif name != "caller":
                # JSON parsing in SQL takes ten times as long; `fitting` discards matches elsewhere in the record.
                filters.append("instr(record, ?) > 0")
                values.append(f'"{name}":{quoted(value)}'.encode())  # type: ignore[arg-type]  # bytes beside text
        if query.caller:
            values.append(query.caller)
        yield from self._connection.execute(
            f"SELECT id, CASE WHEN {' AND '.join(filters)} THEN record END FROM records {index}"  # noqa: S608 - values are bound
            f" WHERE {terms} AND id >= ? AND id < ? ORDER BY id DESC",
            (*values, query.first_id, end),
        )

    def _rare_from(self) -> int:
        (sql,) = self._connection.execute("SELECT sql FROM sqlite_master WHERE name = 'records_rare'").fetchone() or (
            "",
        )
        return 400 if "status >= 400" in sql else 500

    def _indexed(self, query: Query, end: bytes) -> Generator[Candidate]:
        steps = _common([self._having_any(one.values, query.first_id, end) for one in query.indexed])
        while some := list(islice(steps, _IDS_AT_ONCE)):
            ids = [record_id for record_id, in_all in some if in_all]
            marks = ", ".join("?" * len(ids))
            found = self._connection.execute(f"SELECT id, record FROM records WHERE id IN ({marks})", ids)  # noqa: S608
            records = dict(found.fetchall())
            yield from ((record_id, records.get(record_id)) for record_id, _ in some)

    def _having_any(self, values: Iterable[str], first: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the ids in [*first*, *end*) that have any of the index *values* by its key, descending, each once."""
        seals = [seal for (seal,) in self._connection.execute("SELECT seal FROM seals")]
        streams: list[Iterator[bytes]] = []
        for value in values:
            key = value_key(value.encode(errors="replace"))
            streams += [self._in_seal(seal, low=key + first, high=key + end) for seal in seals]
            streams.append(self._unsealed(value, first, end))
        return (record_id for record_id, _ in groupby(heapq.merge(*streams, reverse=True)))

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
        text = quoted(value)[1:-1].encode()
        rows = self._connection.execute(
            "SELECT id FROM records WHERE rowid > (SELECT coalesce(max(last_row), 0) FROM seals)"
            " AND +id >= ? AND +id < ? AND instr(record, ?) > 0",
            (first, end, text),
        )
        yield from sorted((record_id for (record_id,) in rows), reverse=True)


def _index_for(query: Query, *, rare_from: int) -> tuple[str, str]:
    """Return the index that *query* is searched by, and its term; without one all records are read.

    Statuses from *rare_from* on are in the index of rare records. SQLite uses a partial index only if the query repeats
    the terms of its WHERE clause, with their values.
    """
    if query.caller:
        return "INDEXED BY records_caller", "caller = ?"
    if query.sent == "unknown":
        return "INDEXED BY records_rare", "sent_upstream = 'unknown'"
    if query.status is not None and query.status.low >= rare_from:
        return "INDEXED BY records_rare", f"status >= {rare_from:d}"
    if query.kind not in {"", "exchange"}:
        return "INDEXED BY records_rare", "kind <> 'exchange'"
    return "", "1"


def _common(streams: Sequence[Iterator[bytes]]) -> Iterator[tuple[bytes, bool]]:
    """Yield the items of *streams*, all in descending order, each once, with whether it is in all of them.

    It ends with the first stream that ends.
    """
    try:
        heads = [next(stream) for stream in streams]
        while True:
            high = max(heads)
            yield high, min(heads) == high
            for at, head in enumerate(heads):
                if head == high:
                    heads[at] = next(streams[at])
    except StopIteration:
        return
