"""The keeper's reader of one worker's journal: new records, and the intents that have no record yet."""

import contextlib
import fcntl
import io
import os
from collections import deque
from pathlib import Path
from typing import Any

from proxy.migration.in_flight import LINGER_SECONDS
from proxy.records.json_line import EXCHANGE_ID, INTENT, INTENT_ID
from proxy.records.rewritten import REWRITTEN, already_read
from proxy.records.segment import LOCK_SUFFIX, SUFFIX, segment_path
from proxy.records.unanswered import unanswered_records, uncertain

# Each poll of an idle journal reads this much of its preallocated NULs: 6 us.
FIRST_READ_BYTES = 64 * 1024
# Megabyte blocks are newly mapped memory each time (keeper/malloc.py), which costs more than reading into them.
READ_BYTES = 256 * 1024
MOST_BYTES_AT_ONCE = 512 * 1024

# The end of a line without `retry`; a search for `retry` in the whole line would take 0.4 us.
_LAST_MEMBER = b',"config_digest":"'
_LAST_MEMBER_AT = -len(_LAST_MEMBER) - 16 - len('"}\n')


class JournalTail:
    """Reads a worker's segments in order, from the keeper's position; takes kinds and ids by slices, parses nothing.

    `positions` are the bytes read of each segment, by file name; that of a removed segment stays until a later one has
    been begun, because the worker may write lines of it again (`rewritten`).
    """

    def __init__(self, directory: Path, worker: str, *, positions: dict[str, int], carried: list[str]) -> None:
        self.worker = worker
        self.ended = False
        self._directory = directory
        self.positions = {name: at for name, at in positions.items() if name.rpartition("-")[0] == worker}
        self._open: dict[bytes, list[bytes]] = {}
        self._carried: set[bytes] = set()
        self._numbers: list[int] = []
        self._done: list[int] = []
        self._uncertain: list[dict[str, Any]] = []
        self._recent: deque[dict[str, Any]] = deque()
        self._has_read_again = False
        for intent in carried:
            self._take(intent.encode() + b"\n", [])
        self._carried.update(self._open)

    def __repr__(self) -> str:
        return f"<JournalTail {self.worker} {len(self._open)} open{' ended' if self.ended else ''}>"

    @property
    def carried(self) -> list[str]:
        """Return the open intents whose segment will be removed: the stream has to store them."""
        return [intent[:-1].decode(errors="replace") for id_ in self._carried for intent in self._open.get(id_, ())]

    def _read_again(self, numbers: list[int]) -> None:
        """Read what the stream already has of segments *numbers* again, only to find the open intents."""
        for number in numbers:
            end = self.positions.get(self._name(number), 0)
            at = 0
            while at < end and (size := self._read(number, at, min(READ_BYTES, end - at), [])):
                at += size
        self._has_read_again = True

    def read(self, numbers: list[int]) -> tuple[list[bytes], bool]:
        """Return new records of the segments *numbers*, in order, and whether everything was read.

        List *numbers* beforehand: a segment followed by a later one, and an ended worker's last one, get no more lines.
        Raises OSError; then make a new tail, which reads the same records again.
        """
        if not self._has_read_again:
            self._read_again(numbers)
        self._numbers = numbers
        self._done = []
        records: list[bytes] = []
        left = MOST_BYTES_AT_ONCE
        for number in numbers:
            name = self._name(number)
            at = self.positions.setdefault(name, 0)
            size = FIRST_READ_BYTES
            while size := self._read(number, at, size, records):
                at += size
                left -= size
                self.positions[name] = at
                if left <= 0:
                    return records, False
                size = READ_BYTES
            if number != numbers[-1] or self.ended:
                self._done.append(number)
        if len(self.positions) > len(numbers):
            self._forget_removed()
        return records, True

    def unanswered(self, *, ended: float) -> list[bytes]:
        """Return records with outcome "unknown" for all open intents, after the worker is known to have *ended*."""
        self._uncertain += self.in_flight()
        records = [record for intents in self._open.values() for record in unanswered_records(intents, ended=ended)]
        self._open.clear()
        self._carried.clear()
        return records

    def in_flight(self) -> list[dict[str, Any]]:
        """Return what is known of the exchanges with an intent and no record, and of those that have just ended.

        In the form of `take_uncertain`. A worker's own list of keys in flight ends with its process.
        """
        return [*self._recent, *(found for intents in self._open.values() if (found := uncertain(intents[-1])))]

    def take_uncertain(self) -> list[dict[str, Any]]:
        """Return, once, the exchanges read since whose retry must go to the same side (`unanswered.uncertain`)."""
        found, self._uncertain = self._uncertain, []
        return found

    def mark_removable(self) -> bool:
        """Prepare fully read segments for removal; return whether there are any."""
        if self._done:
            self._carried.update(self._open)
        return bool(self._done)

    def remove(self) -> bool:
        """Remove the segments that `mark_removable` prepared; return whether nothing is left of this journal."""
        for number in self._done:
            segment_path(self._directory, self.worker, number).unlink(missing_ok=True)
        gone = self.ended and len(self._done) == len(self._numbers)
        if gone:
            (self._directory / f"{self.worker}{LOCK_SUFFIX}").unlink(missing_ok=True)
        self._done = []
        return gone

    def worker_runs(self) -> bool:
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

    def _read(self, number: int, at: int, size: int, records: list[bytes]) -> int:
        """Take the complete lines of a segment from *at* on, add them to *records*, and return their size in bytes.

        A torn last line and the preallocated NULs don't count.
        """
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(
                segment_path(self._directory, self.worker, number), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            )
            try:
                while True:
                    data = os.pread(descriptor, size, at)
                    reserve = data.find(b"\0")
                    whole = data.rfind(b"\n", 0, len(data) if reserve < 0 else reserve) + 1
                    if whole and at == 0 and data.startswith(REWRITTEN):
                        return self._begin(number, data[: data.index(b"\n") + 1])
                    if whole or reserve >= 0 or len(data) < size:
                        self._take(data[:whole], records)
                        return whole
                    size *= 4
            finally:
                os.close(descriptor)
        return 0

    def _begin(self, number: int, header: bytes) -> int:
        """Return the position in segment *number* from which on its lines are new."""
        positions = {_number_of(name): at for name, at in self.positions.items()}
        return len(header) + already_read(header, number, positions)

    def _forget_removed(self) -> None:
        begun = max((_number_of(name) for name, at in self.positions.items() if at), default=0)
        self.positions = {
            name: at
            for name, at in self.positions.items()
            if (number := _number_of(name)) >= begun or number in self._numbers
        }

    def _take(self, data: bytes, records: list[bytes]) -> None:
        """Add the records in *data* to *records*; track intents and the records that complete them."""
        open_, add = self._open, records.append
        # `split` checks each byte by itself: 0.3 us a line, this 0.05.
        for text in io.BytesIO(data).readlines():
            if text.startswith(INTENT):
                intents = open_.setdefault(text[INTENT_ID], [])
                if text not in intents:  # carried intents are read again as long as their segment exists
                    intents.append(text)
                continue
            add(text)
            if open_ and open_.pop(text[EXCHANGE_ID], []):
                self._carried.discard(text[EXCHANGE_ID])
            if not text.startswith(_LAST_MEMBER, _LAST_MEMBER_AT) and (found := uncertain(text)):
                if found["reason"] == "in_flight":
                    self._note_recent(found)
                else:
                    self._uncertain.append(found)

    def _note_recent(self, found: dict[str, Any]) -> None:
        """Keep *found*, whose answer may be on its way to the caller, for as long as its worker would."""
        recent = self._recent
        recent.append(found)
        while recent[0]["ended"] <= found["ended"] - LINGER_SECONDS:
            recent.popleft()

    def _name(self, number: int) -> str:
        return f"{self.worker}-{number}{SUFFIX}"


def _number_of(name: str) -> int:
    return int(name.removesuffix(SUFFIX).rpartition("-")[2])
