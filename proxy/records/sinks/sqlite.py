"""Records to SQLite: the embedded database, a file a month, written by one thread of low priority."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from proxy.records.months import Month
from proxy.records.sinks.row import Group, groups
from proxy.records.sinks.sink import SinkUnavailable
from proxy.records.sinks.sqlite_file import ENTRIES_IN_A_ROW, month_file, open_for_writing

# Rows whose index values are sorted together: to scan so many that are not takes a search some 20 ms.
SEAL_ROWS = 16384
# Around the turn of a month records of both come.
MOST_OPEN = 2
_NICE = 10
_ROWS_AT_ONCE = 32


class SqliteSink:
    """Writes each batch in one transaction to the file of its month beside *database*; ids that it has stay as are."""

    name = "database"

    def __init__(self, database: Path, *, seal_rows: int = SEAL_ROWS) -> None:
        self._database = database
        self._seal_rows = seal_rows
        self._open: dict[Month, _MonthFile] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite sink", initializer=_step_back)

    def __repr__(self) -> str:
        return f"<SqliteSink {self._database}>"

    async def write(self, batch: list[bytes]) -> None:
        """Return once all of *batch* is on disk."""
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
                self._file(group.month, path).write(group)
        except sqlite3.Error as error:
            self._shut()
            raise SinkUnavailable(None, _told(error, path)) from None
        except OSError as error:
            self._shut()
            raise SinkUnavailable(error.errno, f"{path.name}: {error.strerror}") from None

    def _file(self, month: Month, path: Path) -> "_MonthFile":
        file = self._open.get(month)
        if file is not None and not file.is_at(path):
            # Deleted by `logs prune`, or set aside by an operator because it was damaged.
            self._open.pop(month).close()
            file = None
        if file is None:
            while len(self._open) >= MOST_OPEN:
                self._open.pop(min(self._open)).close()
            file = self._open[month] = _MonthFile(path, seal_rows=self._seal_rows)
        return file

    def _shut(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _MonthFile:
    """An open file; *seal_rows* after the last seal their index values are sealed."""

    def __init__(self, path: Path, *, seal_rows: int) -> None:
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

    def is_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(path.stat(), self._identity)
        except FileNotFoundError:
            return False

    def write(self, group: Group) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            _insert(connection, "INSERT INTO records VALUES", group.rows)
            (last_row,) = connection.execute("SELECT max(rowid) FROM records").fetchone()
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

    def _write_seal(self, last_row: int) -> None:
        seal = self._seal + 1
        self._entries.sort()
        self._connection.execute("INSERT INTO seals VALUES (?, ?)", (seal, last_row))
        entries = self._entries
        pieces = [entries[at : at + ENTRIES_IN_A_ROW] for at in range(0, len(entries), ENTRIES_IN_A_ROW)]
        _insert(self._connection, "INSERT INTO lookups VALUES", [(seal, piece[0], b"".join(piece)) for piece in pieces])


def _insert(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert those of *rows* that are new; 32 by one call cost half of what executemany takes, which steps each."""
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[at : at + _ROWS_AT_ONCE]
        one = f"({', '.join('?' * len(some[0]))})"
        values = list(chain.from_iterable(some))
        connection.execute(f"{statement} {', '.join([one] * len(some))} ON CONFLICT DO NOTHING", values)


def _step_back() -> None:
    """Let this thread run only when keeper and workers don't need the processor (Linux: nice is per thread)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _told(error: sqlite3.Error, path: Path) -> str:
    code = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"{path.name} is damaged ({code}): move it away, and a new one is begun"
    return f"{path.name}: {error} ({code})"
