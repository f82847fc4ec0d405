"""Copies of SQLite months, whole at one instant, while the proxy writes on: its WAL is in them, and they have none."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from proxy.atomic_file import sync_directory
from proxy.records.sinks.sqlite_file import COMPANIONS, open_as_it_is

# Bytes 18 and 19 of the file: whether it is written by a rollback journal (1) or has a WAL (2).
_ONE_FILE = "PRAGMA journal_mode = DELETE"


def back_up(source: Path, target: Path) -> int:
    """Copy the month *source* to *target* (0600), and return how many records it has; raises OSError, sqlite3.Error.

    What stands at *target* is replaced when the copy is on disk.
    """
    made = target.with_name(f".{target.name}.new")
    for name in (made.name, *(made.name + companion for companion in COMPANIONS)):
        made.with_name(name).unlink(missing_ok=True)
    os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        with closing(open_as_it_is(source)) as original, closing(open_as_it_is(made)) as copy:
            # In one step: the writer is not held up, since a WAL has room for both.
            original.backup(copy)
            copy.execute(_ONE_FILE)
            records = _count(copy)
        descriptor = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for companion in COMPANIONS:
            # Of an older file at this place: they would be taken for the new one's.
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
