"""The keeper's stream: all workers' records in one order, numbered, kept until every sink has them."""

import contextlib
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.atomic_file import sync_directory
from proxy.records.chain import GENESIS, chained, link_of
from proxy.records.json_line import line
from proxy.records.segment import segment_path, segments

NAME = "records"
SEGMENT_BYTES = 4 * 1024 * 1024
READ_BYTES = 512 * 1024
# Batch for a sink that lags behind, about as large as that of `fresh`: a commit per 512 KB slowed SQLite by a third.
BATCH_BYTES = 2 * 1024 * 1024
MARK = b'{"kind":"position"'


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the stream: segment, offset in bytes, and the sequence number of the record before it."""

    segment: int
    offset: int
    sequence: int


@dataclass(slots=True, kw_only=True)
class Progress:
    """The journals' progress in the stream: bytes read by segment name, and open intents whose file is deleted.

    It is written after its records, in the same write: a keeper that dies neither loses nor repeats any.
    """

    journals: dict[str, int] = field(default_factory=dict)
    carried: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records, lines without line feed, with their start and end in the stream."""

    begin: Position
    records: list[bytes]
    end: Position


class Stream:
    """Appends and reads records; raises OSError. Only one thread at a time may use it, except `fresh`."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.end = Position(1, 0, 0)
        self.hash = GENESIS
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._marked = 1
        self._pending = Batch(self.end, [], self.end)
        self._fresh = Batch(self.end, [], self.end)
        self._unsynced = False
        self.suspect = self.end
        self.trouble: OSError | None = None

    def __repr__(self) -> str:
        return f"<Stream {self.end.sequence} records, segment {self.end.segment}>"

    def open(self) -> Progress:
        """Truncate the stream after the last progress mark, and return that progress."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in reversed(self._numbers()):
            path = self._path(number)
            # After a host crash, a page that did not reach the disk may be zeros.
            data = path.read_bytes().partition(b"\0")[0]
            end = data.rfind(b"\n") + 1
            start = data.rfind(MARK, 0, end)
            while start > 0 and data[start - 1 : start] != b"\n":
                start = data.rfind(MARK, 0, start)
            mark = _mark_of(data[start : data.find(b"\n", start) + 1]) if start >= 0 else None
            if mark is None:
                # Its first batch is incomplete, so that batch comes again from the journals.
                path.unlink()
                continue
            end = data.find(b"\n", start) + 1
            os.truncate(path, end)
            self.end = Position(number, end, mark["sequence"])
            self.hash = mark.get("hash", GENESIS)
            self._marked = number
            self.close()
            self._open_segment()
            self._pending = Batch(self.end, [], self.end)
            self._unsynced = True
            self.sync()
            return Progress(journals=mark["journals"], carried=mark["open"])
        return Progress()

    def close(self) -> None:
        """Close the file; appended data stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def rotate(self) -> None:
        """Make the next append start a new segment."""
        self.close()
        self.end = Position(self.end.segment + 1, 0, self.end.sequence)

    def append(self, records: list[bytes], progress: Progress) -> None:
        """Append *records*, lines with or without line feed, as the next links of the chain, and *progress*.

        Call `sync` before anyone reads: sinks must not get records that a host crash can remove from the chain.
        """
        if self.end.offset >= self._segment_bytes:
            self.sync()
            if self._descriptor >= 0:
                self.rotate()
        if self._descriptor < 0:
            self._open_segment()
        begin = self.end
        # A worker that was taken over may write such a line: the space keeps it a record.
        records = [b" " + one if one.startswith(MARK) else one for one in records]
        lines, last = chained(records, sequence=begin.sequence, previous_hash=self.hash)
        sequence = begin.sequence + len(records)
        mark = {
            "kind": "position",
            "sequence": sequence,
            "hash": last,
            "journals": progress.journals,
            "open": progress.carried,
        }
        data = b"\n".join([*lines, line(mark)])
        try:
            written = os.pwrite(self._descriptor, data, begin.offset)
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], begin.offset + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, begin.offset)
            raise
        self.end = Position(begin.segment, begin.offset + written, sequence)
        self.hash = last
        self._marked = begin.segment
        self._pending.records.extend(lines)
        self._unsynced = True

    def sync(self) -> None:
        """Sync all appended records; on failure set `trouble`, and `suspect` to the end.

        The records can be read in both cases. After a failure the next ones go into a new segment: the content of this
        one on disk is unknown.
        """
        if not self._unsynced:
            return
        self._unsynced = False
        try:
            os.fdatasync(self._descriptor)
            self.trouble = None
        except OSError as error:
            self.trouble = error
            self.suspect = self.end
            self.rotate()
        self._fresh = Batch(self._pending.begin, self._pending.records, self.end)
        self._pending = Batch(self.end, [], self.end)

    def fresh(self, position: Position) -> tuple[list[bytes], Position] | None:
        """Return what `read` would if that needs no file access, else None; callable from any thread.

        That is the batch of the last `sync`, for a reader that keeps up, or an empty one at the end.
        """
        if position == self.end:
            return [], position
        fresh = self._fresh
        return (fresh.records, fresh.end) if fresh.begin == position and fresh.records else None

    def read(self, position: Position) -> tuple[list[bytes], Position]:
        """Return records from *position* on, lines without line feed, and the position after them."""
        records: list[bytes] = []
        left = BATCH_BYTES
        while position < self.end and left > 0:
            if not records and (found := self.fresh(position)):
                return found
            last = position.segment == self.end.segment
            try:
                data = self._data(position, self.end.offset if last else None)
            except OSError:
                if records:
                    break  # first deliver the records read so far
                raise
            size = data.rfind(b"\n") + 1
            if size:
                lines = io.BytesIO(data[:size]).readlines()
                some = [item[:-1] for item in lines if not item.startswith(MARK)]
                position = Position(position.segment, position.offset + size, position.sequence + len(some))
                records += some
                left -= size
            elif last:
                break
            else:
                position = Position(position.segment + 1, 0, position.sequence)
        return records, position

    def forget(self, before: int) -> None:
        """Remove the segments before number *before*: every sink has them. The last mark stays: it holds the chain."""
        for number in self._numbers():
            if number < min(before, self._marked):
                self._path(number).unlink(missing_ok=True)

    def first(self) -> Position:
        """Return the oldest position kept; raises OSError."""
        number = min(self._numbers(), default=self.end.segment)
        start = Position(number, 0, 0)
        end = self.end.offset if number == self.end.segment else None
        link = link_of(self._data(start, end).partition(b"\n")[0]) if start < self.end else None
        # The sequence is that of the record before; an unreadable first record counts as an empty stream.
        return Position(number, 0, link.sequence - 1 if link is not None else self.end.sequence)

    def _open_segment(self) -> None:
        path = self._path(self.end.segment)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        sync_directory(self._directory)

    def _data(self, position: Position, end: int | None) -> bytes:
        """Return complete lines from *position* on, up to READ_BYTES unless the first one is longer."""
        size = READ_BYTES
        try:
            descriptor = os.open(self._path(position.segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            while True:
                wanted = size if end is None else min(size, end - position.offset)
                data = os.pread(descriptor, wanted, position.offset)
                if b"\n" in data or len(data) < size:
                    return data
                size *= 4
        finally:
            os.close(descriptor)

    def _numbers(self) -> list[int]:
        return stream_segments(self._directory)

    def _path(self, number: int) -> Path:
        return segment_path(self._directory, NAME, number)


def stream_segments(directory: Path) -> list[int]:
    """Return the numbers of the segments of the stream in *directory*, in order."""
    return sorted(number for name, number in segments(directory) if name == NAME)


def _mark_of(text: bytes) -> dict[str, Any] | None:
    try:
        mark = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return mark if isinstance(mark, dict) and mark.get("kind") == "position" else None
