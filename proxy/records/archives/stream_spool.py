"""Read the records still on this host, from the files of the workers' journals and the keeper's stream."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from proxy.records.archives.in_thread import in_thread
from proxy.records.json_line import EXCHANGE, EXCHANGE_ID, INTENT, INTENT_ID
from proxy.records.months import id_member
from proxy.records.query import Query, fitting
from proxy.records.segment import JOURNALS, STREAM, segment_path, segments
from proxy.records.sinks.row import decode
from proxy.records.stream import MARK, NAME, stream_segments


class Spool:
    """Reads the journals and the stream below *data_directory*, whether the keeper is running or not."""

    def __init__(self, data_directory: Path) -> None:
        self._journals = data_directory / JOURNALS
        self._stream = data_directory / STREAM
        self._at: tuple[int, int] | None = None

    @in_thread
    def newest(self, number: int, query: Query) -> list[bytes]:
        """Return the last *number* records of the stream that match *query*, the oldest first."""
        newest_first = (record for path in reversed(self._segments()) for record in reversed(_records(_lines(path))))
        found = (record for record in newest_first if fitting(query, record) is not None)
        return list(islice(found, number))[::-1]

    @in_thread
    def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, or else its latest intent."""
        wanted = id_member(record_id)
        # Read the journals first: records that leave them meanwhile are then found in the stream.
        found = None
        for worker, number in sorted(segments(self._journals)):
            for line in _lines(segment_path(self._journals, worker, number)):
                if wanted in line[:96]:
                    found = line
        mark = b""
        for path in self._segments():
            for line in _lines(path):
                if line.startswith(MARK):
                    mark = line
                elif wanted in line[:96]:
                    return line
        return found or next((intent for intent in _carried(mark) if wanted in intent[:96]), None)

    @in_thread
    def matching(self, queries: Sequence[Query]) -> list[bytes]:
        """Return the exchanges that match one of *queries*, and the latest intent of those that have no record yet."""
        found: dict[bytes, bytes] = {}
        mark = b""
        for path in [segment_path(self._journals, *one) for one in sorted(segments(self._journals))] + self._segments():
            for line in _lines(path):
                if line.startswith(MARK):
                    mark = line
                else:
                    _take(line, queries, found)
        for intent in reversed(list(_carried(mark))):
            _take(intent, queries, found)
        return list(found.values())

    @in_thread
    def of_kind(self, query: Query, *, having: bytes = b"") -> list[bytes]:
        """Return the records of the query's kind that match *query*; one may be there twice.

        Of requests there may be many: only lines with *having* are looked at closely.
        """
        start = f'{{"kind":"{query.kind}",'.encode()
        paths = [segment_path(self._journals, *one) for one in sorted(segments(self._journals))]
        lines = (
            line
            for path in [*paths, *self._segments()]
            for line in _lines(path)
            if having in line and line.startswith(start)
        )
        return [line for line in lines if fitting(query, line) is not None]

    @in_thread
    def new_records(self) -> list[bytes]:
        """Return the records appended to the stream since the last call; the first call returns none."""
        numbers = stream_segments(self._stream)
        if not numbers:
            return []
        if self._at is None:
            path = segment_path(self._stream, NAME, numbers[-1])
            self._at = (numbers[-1], sum(len(line) + 1 for line in _lines(path)))
            return []
        segment, offset = self._at
        found: list[bytes] = []
        for number in [number for number in numbers if number >= segment]:
            start = offset if number == segment else 0
            lines = list(_lines(segment_path(self._stream, NAME, number), start))
            found += _records(lines)
            self._at = (number, start + sum(len(line) + 1 for line in lines))
        return found

    def _segments(self) -> list[Path]:
        return [segment_path(self._stream, NAME, number) for number in stream_segments(self._stream)]


def _take(line: bytes, queries: Sequence[Query], found: dict[bytes, bytes]) -> None:
    """Put *line* into *found*, by its id, if it matches; no intent replaces its exchange."""
    if line.startswith(EXCHANGE):
        record_id = line[EXCHANGE_ID]
    elif line.startswith(INTENT) and not found.get(line[INTENT_ID], b"").startswith(EXCHANGE):
        record_id = line[INTENT_ID]
    else:
        return
    if any(fitting(query, line) is not None for query in queries):
        found[record_id] = line


def _carried(mark: bytes) -> Iterator[bytes]:
    """Yield the intents in the stream's last *mark*, the latest first: their journal segments are deleted."""
    try:
        workers = decode(mark)["open"].values()
    except (ValueError, KeyError):
        return
    for intents in workers:
        yield from (intent.encode() for intent in reversed(intents))


def _records(lines: Iterator[bytes] | list[bytes]) -> list[bytes]:
    return [line for line in lines if not line.startswith(MARK)]


def _lines(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the complete lines of *path* from byte *start* on, without line feeds; stop at preallocated NULs."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start, os.SEEK_SET)
        for line in file:
            if not line.endswith(b"\n") or line.startswith(b"\0"):
                return
            yield line[:-1]
