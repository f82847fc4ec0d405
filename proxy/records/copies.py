"""Read copies of the log as the sinks keep them: files of JSON lines, SQLite month files, the keeper's stream."""

import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from proxy.records.chain import link_of
from proxy.records.months import Month, id_member
from proxy.records.searched import COLUMNS, SealCheck, TallyCheck, damage, differences, group_of, same_id
from proxy.records.segment import SUFFIX, segment_path
from proxy.records.sinks.sqlite_file import month_files, named_month, snapshot
from proxy.records.stream import MARK, NAME, stream_segments

_SQLITE = b"SQLite format 3\0"


class Line(NamedTuple):
    """One line of a copy, without line feed, and its place; *whole* is False for a last line without line feed.

    *differs* states how the search columns differ from the record. With an empty *text* it is about the whole copy.
    """

    text: bytes
    place: str
    whole: bool = True
    differs: str = ""


class CopyUnreadable(Exception):
    """A copy can't be read; the message states which one and why."""


def lines_of(paths: Iterable[Path]) -> Iterator[Line]:
    """Yield the lines of all *paths*: JSON lines, SQLite files, the base name of month files, or a stream's directory.

    Rotated files may be given in any order: they are sorted by their first records. Raises CopyUnreadable.
    """
    copies = [_opened(path) for path in paths]
    first = [(next(copy, None), copy) for copy in copies]
    for head, copy in sorted(
        ((head, copy) for head, copy in first if head is not None), key=lambda pair: _sequence(pair[0])
    ):
        yield head
        yield from copy


def database_lines(database: Path) -> Iterator[Line]:
    """Yield the records of all months of *database* merged by sequence number; raises CopyUnreadable."""
    try:
        files = [_rows(path) for _, path in month_files(database)]
    except OSError as error:
        raise CopyUnreadable(f"{database.parent}: {error.strerror}") from None
    return heapq.merge(*files, key=_sequence)


def is_family(path: Path) -> bool:
    """Return whether *path* is the base name of existing month files."""
    try:
        return any(month_files(path))
    except OSError:
        return False


def record_in(lines: Iterable[Line], record_id: bytes) -> bytes | None:
    """Return the record with this id of 16 bytes among *lines*, None if there is none."""
    wanted = id_member(record_id)
    return next((line.text for line in lines if wanted in line.text[:128]), None)


def _opened(path: Path) -> Iterator[Line]:
    if path.is_dir():
        return _stream(path)
    if not path.exists() and is_family(path):
        return database_lines(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
    except OSError as error:
        raise CopyUnreadable(f"{path}: {error.strerror}") from None
    return _rows(path) if head == _SQLITE else _json_lines(path)


def _json_lines(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            yield from _lines_in(file, name=str(path))
    except OSError as error:
        raise CopyUnreadable(f"{path}: {error.strerror}") from None


def _lines_in(file: BinaryIO, *, name: str) -> Iterator[Line]:
    for number, text in enumerate(file, start=1):
        whole = text.endswith(b"\n")
        yield Line(text[:-1] if whole else text, f"{name}:{number}", whole=whole)


def _stream(directory: Path) -> Iterator[Line]:
    """Yield the stream's records without the keeper's progress marks between them."""
    numbers = stream_segments(directory)
    if not numbers and not any(directory.glob(f"*{SUFFIX}")):
        raise CopyUnreadable(f"{directory}: there is no stream in this directory")
    with ExitStack() as held:
        try:
            files = _opened_together([segment_path(directory, NAME, number) for number in numbers], held)
            for name, file in files:
                for line in _lines_in(file, name=f"{directory.name}/{name}"):
                    if not line.text.startswith(MARK):
                        yield line
        except OSError as error:
            raise CopyUnreadable(f"{error.filename or directory}: {error.strerror}") from None


def _opened_together(paths: Sequence[Path], held: ExitStack) -> list[tuple[str, BinaryIO]]:
    """Return name and file of those *paths* that still exist; the keeper may delete more while they are read.

    The keeper deletes the oldest first. The newest is opened first, so that only a beginning can be missing, never a
    gap.
    """
    files: list[tuple[str, BinaryIO]] = []
    for path in reversed(paths):
        try:
            files.append((path.name, held.enter_context(path.open("rb"))))
        except FileNotFoundError:
            break
    return files[::-1]


def _rows(path: Path) -> Iterator[Line]:
    """Yield the rows of an SQLite month in insertion order."""
    with snapshot(path, CopyUnreadable) as connection:
        yield from _checked_rows(connection, path.name, named=named_month(path))


def _checked_rows(connection: sqlite3.Connection, name: str, *, named: Month | None) -> Iterator[Line]:
    seals, tallies = SealCheck(connection), TallyCheck(connection)
    faults: list[str] = []
    strangers = 0
    for row, record_id, *columns, text in connection.execute(
        "SELECT rowid, id, kind, caller, status, sent_upstream, CAST(record AS BLOB) FROM records ORDER BY rowid"
    ):
        group = group_of(text)
        own = group.rows[0]
        found = (record_id, *columns)
        differs = differences(COLUMNS, found, (same_id(record_id, own), *own[1:5])) if found != own[:5] else ""
        faults += seals.take(row, group.entries)
        tallies.take(group.tallies)
        if named is not None and not named.first_id <= record_id < named.end_id:
            strangers += 1
        yield Line(text, f"{name} row {row}", differs=differs)
    if strangers:
        faults.append(f"{strangers} records are not of the month that the file is named after: was it renamed?")
    for fault in [*faults, *seals.finish(), *tallies.finish(), *damage(connection)]:
        yield Line(b"", name, differs=fault)


def _sequence(line: Line) -> int:
    link = link_of(line.text)
    return link.sequence if link else 0
