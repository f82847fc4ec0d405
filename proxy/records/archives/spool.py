"""Reading what has not left this machine yet: the workers' journals and the keeper's stream, by files alone."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from proxy.records.line import INTENT
from proxy.records.segment import JOURNALS, STREAM, segment_path, segments
from proxy.records.stream import MARK, NAME


class Spool:
    """The journals and the stream below *data_directory*; the keeper may be writing, or not there."""

    def __init__(self, data_directory: Path) -> None:
        self._journals = data_directory / JOURNALS
        self._stream = data_directory / STREAM
        self._at: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<Spool {self._stream.parent}>"

    async def newest(self, number: int) -> list[bytes]:
        """Return the last *number* records of the stream, the oldest first."""
        return await asyncio.to_thread(self._newest, number)

    async def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id; failing that its latest intent, if it is still in a journal."""
        return await asyncio.to_thread(self._by_id, record_id)

    async def news(self) -> list[bytes]:
        """Return records that came into the stream since the last call; the first call returns none."""
        return await asyncio.to_thread(self._news)

    async def close(self) -> None:
        """Nothing is held open."""

    def _newest(self, number: int) -> list[bytes]:
        found: list[bytes] = []
        for path in reversed(self._segments()):
            found = [*_records(_lines(path)), *found]
            if len(found) >= number:
                break
        return found[-number:] if number else []

    def _by_id(self, record_id: bytes) -> bytes | None:
        text = record_id.hex()
        wanted = f'"id":"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"'.encode()
        intent = None
        journals = [segment_path(self._journals, worker, number) for worker, number in sorted(segments(self._journals))]
        for path in [*self._segments(), *journals]:
            for line in _lines(path):
                if wanted in line[:96]:
                    if not line.startswith(INTENT):
                        return line
                    intent = line
        return intent

    def _news(self) -> list[bytes]:
        numbers = sorted(number for name, number in segments(self._stream) if name == NAME)
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
        numbers = sorted(number for name, number in segments(self._stream) if name == NAME)
        return [segment_path(self._stream, NAME, number) for number in numbers]


def _records(lines: Iterator[bytes] | list[bytes]) -> list[bytes]:
    return [line for line in lines if not line.startswith(MARK)]


def _lines(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the whole lines of *path* from byte *start* on, without line feeds; a reserve of NULs has none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start, os.SEEK_SET)
        for line in file:
            if not line.endswith(b"\n") or line.startswith(b"\0"):
                return
            yield line[:-1]
