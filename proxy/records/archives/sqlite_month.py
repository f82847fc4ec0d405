"""Search and count the records of one month in an SQLite file."""

import heapq
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby, islice
from pathlib import Path

from proxy.records.json_line import quoted
from proxy.records.pruned_range import PrunedRange, joined, ranges_of
from proxy.records.query import ArchiveUnusable, Query, fitting
from proxy.records.sinks.row import ENTRY_BYTES, KEY_BYTES, value_key
from proxy.records.sinks.sqlite_file import snapshot
from proxy.records.tally import Tally

# SQLite allows at most 32766 parameters in a statement.
_IDS_AT_ONCE = 200
_SUMMED_AT_ONCE = 50_000
# Of SQLite's virtual machine: a scan takes a dozen a row.
_STEPS = 1000


@contextmanager
def opened_month(path: Path) -> Iterator["MonthReader"]:
    """Open a file for reading, as one snapshot, and close it at exit; sqlite3.Error is raised as ArchiveUnusable."""
    with snapshot(path, ArchiveUnusable) as connection:
        yield MonthReader(connection)


class MonthReader:
    """Reads one file, in the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def stop_if(self, too_late: Callable[[], bool]) -> None:
        """Let statements fail from when *too_late* returns True on; it is asked every millisecond or so."""
        self._connection.set_progress_handler(too_late, _STEPS)

    def found(self, query: Query, *, end: bytes) -> Generator[tuple[bytes, bytes]]:
        """Yield id and record of each match of *query* with an id before *end*, the newest first."""
        with closing(self._indexed(query, end) if query.indexed else self._scanned(query, end)) as candidates:
            for record_id, record in candidates:
                if fitting(query, record) is not None:
                    yield record_id, record

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

    def _scanned(self, query: Query, end: bytes) -> Generator[tuple[bytes, bytes]]:
        terms, values = ["id >= ?", "id < ?"], [query.first_id, end]
        index = ""
        low = 0
        if query.status is not None:
            low = query.status.low
            terms.append(f"status >= {low:d} AND status <= {query.status.high:d}")
        # SQLite uses a partial index only if the query repeats the terms of its WHERE clause, with their values.
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
                # JSON parsing in SQL takes ten times as long; `fitting` discards matches elsewhere in the record.
                terms.append("instr(record, ?) > 0")
                values.append(f'"{name}":{quoted(value)}'.encode())
        yield from self._connection.execute(
            f"SELECT id, record FROM records {index} WHERE {' AND '.join(terms)} ORDER BY id DESC",  # noqa: S608 - values are bound
            values,
        )

    def _indexed(self, query: Query, end: bytes) -> Generator[tuple[bytes, bytes]]:
        ids = _common([self._having_any(one.values, query.first_id, end) for one in query.indexed])
        while some := list(islice(ids, _IDS_AT_ONCE)):
            yield from self._connection.execute(
                f"SELECT id, record FROM records WHERE id IN ({', '.join('?' * len(some))}) ORDER BY id DESC",  # noqa: S608
                some,
            )

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


def _common(streams: Sequence[Iterator[bytes]]) -> Iterator[bytes]:
    """Yield the items that are in all *streams*; all of them are in descending order."""
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
