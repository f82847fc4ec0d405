"""The SQLite file of one month: its name, its tables, how it is opened."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from proxy.records.months import Month, parse_month

# Files beside a database in WAL mode.
COMPANIONS = ("-wal", "-shm")

# Three indexes: by id, by caller and time, and by time for rare records, which people look for first. Other searches
# read the record. `lookups` finds records by the values of index headers. Its keys are random, so one B-tree row for
# each would cost 10 us a record. Instead each seal adds its own sorted range: entries of a key (8 bytes) and an id (16
# bytes), ENTRIES_IN_A_ROW to a row, which is found by its first entry. Records after the last seal are found by a scan.
# `tallies` is counted as records are written: counting a million takes three seconds, an index for it 2 us a record,
# and this a few rows a batch.
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS records (
  id BLOB NOT NULL,
  kind TEXT NOT NULL,
  caller TEXT NOT NULL,
  status INTEGER NOT NULL,
  sent_upstream TEXT NOT NULL,
  record BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS records_id ON records (id);
CREATE INDEX IF NOT EXISTS records_caller ON records (caller, id);
CREATE INDEX IF NOT EXISTS records_rare ON records (id)
  WHERE sent_upstream = 'unknown' OR status >= 400 OR kind <> 'exchange';
CREATE TABLE IF NOT EXISTS seals (seal INTEGER PRIMARY KEY, last_row INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS lookups (
  seal INTEGER NOT NULL,
  first BLOB NOT NULL,
  entries BLOB NOT NULL,
  PRIMARY KEY (seal, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tallies (
  route TEXT NOT NULL,
  side TEXT NOT NULL,
  credential TEXT NOT NULL,
  caller TEXT NOT NULL,
  day INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  other INTEGER NOT NULL,
  held_back INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  client_errors INTEGER NOT NULL,
  fine INTEGER NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY (route, side, credential, caller, day)
) WITHOUT ROWID;
COMMIT;
"""
# Months that were begun with an earlier version keep this index: making it anew would take seconds a million.
EARLIER_RARE = (
    "CREATE INDEX records_rare ON records (id) WHERE sent_upstream = 'unknown' OR status >= 500 OR kind <> 'exchange'"
)
ENTRIES_IN_A_ROW = 64

# WAL with FULL: committed data survives a power cut, as the journal promises. 16 MiB of cache; the WAL is copied into
# the file at 2048 pages (32 MiB).
_PRAGMAS = """
PRAGMA page_size = 16384;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -16384;
PRAGMA wal_autocheckpoint = 2048;
PRAGMA journal_size_limit = 33554432;
"""
BUSY_SECONDS = 5.0


def month_file(database: Path, month: Month) -> Path:
    """Return the file of *month*: requests-2026-11.db for a *database* called requests.db."""
    return database.with_name(f"{database.stem}-{month}{database.suffix}")


def month_files(database: Path) -> Iterator[tuple[Month, Path]]:
    """Yield each month that has a file, and the file, the oldest first; raises OSError."""
    try:
        names = sorted(path.name for path in database.parent.iterdir())
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(f"{database.stem}-") and name.endswith(database.suffix):
            month = parse_month(name.removeprefix(f"{database.stem}-").removesuffix(database.suffix))
            if month is not None:
                yield month, database.parent / name


def named_month(path: Path) -> Month | None:
    """Return the month in the name of the file *path*, None if there is none."""
    return parse_month(path.stem[-7:]) if path.stem[-8:-7] == "-" else None


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Return a connection to the file *path*, creating it (0600) and its tables; raises OSError, sqlite3.Error.

    It may be used from any one thread at a time, and is in autocommit mode: transactions are started explicitly.
    """
    # SQLite would use the process's umask; the WAL gets the file's mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript(_PRAGMAS)
        connection.executescript(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def snapshot(path: Path, unusable: type[Exception]) -> Iterator[sqlite3.Connection]:
    """Yield a read-only connection to the file *path*; sqlite3.Error is raised as *unusable*.

    A file without tables reads like one without records: the disk was full when they were to be created.
    """
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(closing(open_as_it_is(path)))
            connection.execute("PRAGMA query_only = ON")
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                empty = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                connection = stack.enter_context(closing(empty))
                connection.executescript(_SCHEMA)
            # One snapshot: a seal written between two statements would hide its rows from both.
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise unusable(f"{path}: {error}") from None


def objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Return tables, indexes and other objects, by kind and name, each with its SQL."""
    rows = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return {name: " ".join((sql or "").replace("IF NOT EXISTS ", "").split()) for name, sql in rows}


def unchanged_objects() -> dict[str, str]:
    """Return what `objects` returns for an unmodified file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        return objects(connection)


def at_rest(path: Path) -> tuple[int, int, int] | None:
    """Return what tells whether the file *path* is still the same if it has no WAL, so that nobody writes to it.

    That is so for months that are over. None: it has one, or can't be looked at.
    """
    if path.with_name(path.name + COMPANIONS[0]).exists():
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def open_at_rest(path: Path) -> sqlite3.Connection:
    """Return a connection to the file *path* that takes no lock and makes no file beside it; raises sqlite3.Error.

    What it reads counts only if `at_rest` says the same before and after.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


def open_as_it_is(path: Path) -> sqlite3.Connection:
    """Return a connection to the existing file *path*; raises sqlite3.Error."""
    # Not mode=ro: it can't read a WAL that nobody has open, and would leave its companions behind.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
