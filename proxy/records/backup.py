"""Consistent copies of SQLite month files, made while the proxy writes; each includes the WAL and is a single file."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from proxy.atomic_file import sync_directory
from proxy.records.sinks.sqlite_file import COMPANIONS, open_as_it_is

# Bytes 18 and 19 of the file: rollback journal (1) or WAL (2).
_ONE_FILE = "PRAGMA journal_mode = DELETE"


def back_up(source: Path, target: Path) -> int:
    """Copy the month *source* to *target* (0600) and return its number of records; raises OSError, sqlite3.Error.

    An existing *target* is replaced after the copy is on disk.
    """
    made = target.with_name(f".{target.name}.new")
    for name in (made.name, *(made.name + companion for companion in COMPANIONS)):
        made.with_name(name).unlink(missing_ok=True)
    os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        with closing(open_as_it_is(source)) as original, closing(open_as_it_is(made)) as copy:
            # One step: it does not block the writer, since in WAL mode readers and a writer don't block each other.
            original.backup(copy)
            copy.execute(_ONE_FILE)
            records = _count(copy)
        descriptor = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for companion in COMPANIONS:
            # Leftovers of an older file at this path: SQLite would apply them to the new one.
            target.with_name(target.name + companion).unlink(missing_ok=True)
        made.replace(target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
    return records


def _count(copy: sqlite3.Connection) -> int:
    if copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone() is None:
        return 0  # the disk was full when its tables were to be made
    (records,) = copy.execute("SELECT count(*) FROM records").fetchone()
    return records  # type: ignore[no-any-return]  # an integer
