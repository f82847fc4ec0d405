"""Sink to SQLite, the embedded database: one file a month, written by one low-priority thread."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from proxy.records.months import Month
from proxy.records.sinks.row import Group, groups
from proxy.records.sinks.sink import SinkUnavailable, file_target
from proxy.records.sinks.sqlite_file import ENTRIES_IN_A_ROW, month_file, open_for_writing

# Rows per seal, whose lookup entries are sorted together: a search scans that many unsealed rows in some 20 ms.
SEAL_ROWS = 16384
# Around the turn of a month, records of both months come.
MOST_OPEN = 2
_ROWS_AT_ONCE = 128
_NICE = 10
_LAST_ROW = "SELECT coalesce(max(rowid), 0) FROM records"
_TALLY = """
INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  requests = requests + excluded.requests, other = other + excluded.other, held_back = held_back + excluded.held_back,
  failed = failed + excluded.failed, client_errors = client_errors + excluded.client_errors,
  fine = fine + excluded.fine, last = max(last, excluded.last)
"""


class SqliteSink:
    """Writes each batch in one transaction to its month's file beside *database*; existing ids stay unchanged."""

    name = "database"

    def __init__(self, database: Path, *, seal_rows: int = SEAL_ROWS) -> None:
        self._database = database
        self.target = file_target(database)
        self._seal_rows = seal_rows
        self._open: dict[Month, _MonthFile] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite sink", initializer=_step_back)

    def __repr__(self) -> str:
        return f"<SqliteSink {self._database}>"

    async def write(self, batch: list[bytes]) -> None:
        """Write *batch*; returns after it is on disk."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._write, batch)

    async def close(self) -> None:
        """Close the files."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._shut)
        await asyncio.to_thread(self._executor.shutdown)

    def _write(self, batch: list[bytes]) -> None:
        path = self._database
        try:
            for group in groups(batch):
                path = month_file(self._database, group.month)
                while not self._file(group.month, path).write(group):
                    # Deleted by `logs prune`, or moved away by an operator because it was damaged.
                    self._open.pop(group.month).close()
        except sqlite3.Error as error:
            self._shut()
            raise SinkUnavailable(None, _error_text(error, path)) from None
        except OSError as error:
            self._shut()
            raise SinkUnavailable(error.errno, f"{path.name}: {error.strerror}") from None

    def _file(self, month: Month, path: Path) -> "_MonthFile":
        file = self._open.get(month)
        if file is None:
            while len(self._open) >= MOST_OPEN:
                self._open.pop(min(self._open)).close()
            file = self._open[month] = _MonthFile(path, seal_rows=self._seal_rows)
        return file

    def _shut(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _MonthFile:
    """An open file; every *seal_rows* rows, the lookup entries are sealed."""

    def __init__(self, path: Path, *, seal_rows: int) -> None:
        self._path = path
        self._seal_rows = seal_rows
        self._connection = open_for_writing(path)
        self._identity = path.stat()
        seal, self._sealed = self._connection.execute(
            "SELECT coalesce(max(seal), 0), coalesce(max(last_row), 0) FROM seals"
        ).fetchone()
        self._seal: int = seal
        unsealed = self._connection.execute("SELECT record FROM records WHERE rowid > ?", (self._sealed,))
        self._entries = [entry for group in groups(record for (record,) in unsealed) for entry in group.entries]

    def close(self) -> None:
        self._connection.close()

    def write(self, group: Group) -> bool:
        """Write *group* to disk and return True; False if the file at this path was replaced or deleted."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Only inside the transaction: `logs prune` deletes the file in one of the same kind.
            if not self._in_place():
                connection.execute("ROLLBACK")
                return False
            (before,) = connection.execute(_LAST_ROW).fetchone()
            _insert(connection, "INSERT INTO records VALUES", group.rows)
            (last_row,) = connection.execute(_LAST_ROW).fetchone()
            whole = last_row - before == len(group.rows)
            self._tally([group] if whole else self._added(before))
            sealing = last_row - self._sealed >= self._seal_rows
            self._entries += group.entries
            if sealing:
                self._write_seal(last_row)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if sealing:
            self._entries.clear()
            self._sealed = last_row
            self._seal += 1
        return True

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), self._identity)
        except FileNotFoundError:
            return False

    def _added(self, before: int) -> list[Group]:
        """Return the rows after row *before*: of a batch offered again, only those are counted."""
        rows = self._connection.execute("SELECT record FROM records WHERE rowid > ?", (before,))
        return groups(record for (record,) in rows)

    def _tally(self, added: list[Group]) -> None:
        for group in added:
            self._connection.executemany(_TALLY, [(*key, *counts.columns) for key, counts in group.tallies.items()])

    def _write_seal(self, last_row: int) -> None:
        seal = self._seal + 1
        self._connection.execute("INSERT INTO seals VALUES (?, ?)", (seal, last_row))
        # Without duplicates, which a batch offered again has: two pieces with equal starts would be one row.
        entries = sorted(set(self._entries))
        pieces = [entries[at : at + ENTRIES_IN_A_ROW] for at in range(0, len(entries), ENTRIES_IN_A_ROW)]
        _insert(self._connection, "INSERT INTO lookups VALUES", [(seal, piece[0], b"".join(piece)) for piece in pieces])


def _step_back() -> None:
    """Let this thread, 6 to 11 us a record, run only when keeper and workers don't need the processor.

    On Linux each thread has a nice value of its own. Where a seccomp filter refuses the call, it stays as it is.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def _insert(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert the new ones among *rows*; 128 per statement take 3.1 us each, by executemany, which steps each, 3.9.

    For `bytes` Python first looks for an adapter, which costs two exceptions: 1 us each; a copy takes 0.1.
    """
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[at : at + _ROWS_AT_ONCE]
        one = f"({', '.join('?' * len(some[0]))})"
        values = list(chain.from_iterable(some))
        for column, value in enumerate(some[0]):
            if isinstance(value, bytes):
                values[column :: len(some[0])] = map(bytearray, values[column :: len(some[0])])
        connection.execute(f"{statement} {', '.join([one] * len(some))} ON CONFLICT DO NOTHING", values)


def _error_text(error: sqlite3.Error, path: Path) -> str:
    code = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{path.name} is damaged ({code}): move it away, and a new one is begun"
    return f"{path.name}: {error} ({code})"
