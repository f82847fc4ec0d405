"""One worker's journal as the keeper reads it: new records, and the intents that no record has answered yet."""

import contextlib
import fcntl
import json
import os
from pathlib import Path

from proxy.records.line import EXCHANGE, EXCHANGE_ID, INTENT, INTENT_ID
from proxy.records.segment import LOCK_SUFFIX, SUFFIX, segment_path
from proxy.records.unknown import unknown_exchange

# Of an idle journal as much of its empty reserve is read at each poll: 6 us.
READ_BYTES = 64 * 1024
MOST_BYTES_AT_ONCE = 4 * 1024 * 1024


class JournalTail:
    """Reads a worker's segments in order, from where the keeper was; kinds and ids by slices, nothing is parsed."""

    def __init__(self, directory: Path, worker: str, *, positions: dict[str, int], carried: list[str]) -> None:
        self.worker = worker
        self.ended = False
        self._directory = directory
        self._positions = {name: at for name, at in positions.items() if name.rpartition("-")[0] == worker}
        self._open: dict[bytes, list[bytes]] = {}
        self._carried: set[bytes] = set()
        self._numbers: list[int] = []
        self._done: list[int] = []
        for intent in carried:
            self._take([intent.encode()])
        self._carried.update(self._open)

    def __repr__(self) -> str:
        return f"<JournalTail {self.worker} {len(self._open)} open{' ended' if self.ended else ''}>"

    @property
    def positions(self) -> dict[str, int]:
        """Return the bytes read of each segment, by file name."""
        return self._positions

    @property
    def carried(self) -> list[str]:
        """Return the open intents whose segment goes away: the stream has to remember them."""
        return [intent.decode() for id_ in self._carried for intent in self._open.get(id_, ())]

    @property
    def open(self) -> int:
        """Return how many exchanges have an intent and no record."""
        return len(self._open)

    def recall(self, numbers: list[int]) -> None:
        """Read again, for open intents only, what of segments *numbers* is in the stream already."""
        for number in numbers:
            end = self._positions.get(self._name(number), 0)
            at = 0
            while at < end:
                data = self._data(number, at, min(READ_BYTES, end - at))
                if not data:
                    break
                self._take(data[:-1].split(b"\n"))
                at += len(data)

    def read(self, numbers: list[int]) -> tuple[list[bytes], bool]:
        """Return new records of the segments *numbers*, in order, and whether that is all there is now.

        *numbers* were listed before: a segment that has a later one gets no more lines, nor has an ended worker's last.
        """
        self._numbers = numbers
        self._done = []
        records: list[bytes] = []
        left = MOST_BYTES_AT_ONCE
        for number in numbers:
            name = self._name(number)
            at = self._positions.setdefault(name, 0)
            while data := self._data(number, at, READ_BYTES):
                records += self._take(data[:-1].split(b"\n"))
                at += len(data)
                left -= len(data)
                self._positions[name] = at
                if left <= 0:
                    return records, False
            if number != numbers[-1] or self.ended:
                self._done.append(number)
        return records, True

    def unknown(self) -> list[bytes]:
        """Return records that say "unknown" for all open intents: to be asked when the worker has ended."""
        records = [unknown_exchange([json.loads(intent) for intent in intents])[:-1] for intents in self._open.values()]
        self._open.clear()
        self._carried.clear()
        return records

    def retire(self) -> bool:
        """Prepare the segments that are read to their end for removal; return whether there are any."""
        if self._done:
            self._carried.update(self._open)
        return bool(self._done)

    def remove(self) -> bool:
        """Remove what `retire` prepared; return whether nothing is left of this journal."""
        for number in self._done:
            path = segment_path(self._directory, self.worker, number)
            path.unlink(missing_ok=True)
            self._positions.pop(path.name, None)
        gone = self.ended and len(self._done) == len(self._numbers)
        if gone:
            (self._directory / f"{self.worker}{LOCK_SUFFIX}").unlink(missing_ok=True)
        self._done = []
        return gone

    def worker_lives(self) -> bool:
        """Return whether a process holds this journal's lock."""
        try:
            lock = os.open(self._directory / f"{self.worker}{LOCK_SUFFIX}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    def _take(self, lines: list[bytes]) -> list[bytes]:
        """Return the records among *lines*, noting intents and what answers them."""
        records = []
        unanswered = self._open
        for text in lines:
            if text.startswith(INTENT):
                unanswered.setdefault(text[INTENT_ID], []).append(text)
                continue
            records.append(text)
            if text.startswith(EXCHANGE) and unanswered.pop(text[EXCHANGE_ID], []) and self._carried:
                self._carried.discard(text[EXCHANGE_ID])
        return records

    def _data(self, number: int, at: int, size: int) -> bytes:
        """Return complete lines of a segment from *at* on; a torn last line and the empty reserve are none."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(
                segment_path(self._directory, self.worker, number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            )
            try:
                while True:
                    data = os.pread(descriptor, size, at)
                    end = data.find(b"\0")
                    whole = data[: data.rfind(b"\n", 0, len(data) if end < 0 else end) + 1]
                    if whole or end >= 0 or len(data) < size:
                        return whole
                    size *= 4
            finally:
                os.close(descriptor)
        return b""

    def _name(self, number: int) -> str:
        return f"{self.worker}-{number}{SUFFIX}"
