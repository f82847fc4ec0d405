"""Retry pins on disk: appended and synced before the caller has its answer, compacted when most have expired."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy.atomic_file import replace_file
from proxy.migration.pin import RetryPin, merged
from proxy.migration.pin_rows import Pins, pin_row, pins_of
from proxy.migration.pin_table import MOST_PINS, SHARDS, PinTable
from proxy.migration.state import StateUnusable

NAME = "retry-pins.jsonl"
# The line format; format 1, without migration name and reason, can be read too.
FORMAT = 2
_FORMATS = (1, FORMAT)
# A file with fewer superfluous lines than this is not compacted.
_SLACK = 1024
# Shards checked per call of `look_after`: all of them within a minute.
_SHARDS_AT_ONCE = 32
# Twice the maximum number of pins, with 120 bytes a line.
_MOST_BYTES = 2 * MOST_PINS * 120
_LONGEST_LINE = 2048


class PinFile:
    """The pin file in *data_directory*. Calls block; they may come from several threads.

    `problem` says why pins can't be read or written, "" if they can. `table` has all pins; hold `guard` to read it. No
    one holds `guard` for longer than some milliseconds.
    """

    def __init__(self, data_directory: Path, *, most: int = MOST_PINS) -> None:
        self.path = data_directory / NAME
        self.problem = "retry pins are not read yet"
        self.table = PinTable(most=most)
        self.guard = threading.Lock()
        self._most = most
        self._lock = threading.Lock()
        self._given_up = 0.0
        self._read = False
        self._failed = False
        self._descriptor = -1
        self._lines = 0

    def load(self, *, now: float) -> None:
        """Read the file into `table`; on failure set `problem`. A missing file has no pins.

        Pins that were kept meanwhile take precedence.
        """
        with self._lock:
            self._load(now)

    def _load(self, now: float) -> None:
        with self.guard:
            newer = {digest for shard in range(SHARDS) for digest, _ in self.table.shard(shard)}
        try:
            for pins, given_up in read_pins(self.path):
                self._given_up = max(self._given_up, given_up)
                with self.guard:
                    for digest, pin in pins.items():
                        if pin.until > now and digest not in newer:
                            self.table.put(digest, pin)
        except StateUnusable as error:
            self.problem = str(error)
        else:
            self._read = True
            self.problem = ""
            if len(self.table) or self._given_up > now:
                self._write_anew(now)

    def keep(self, pins: Mapping[str, RetryPin], *, now: float) -> tuple[bool, Pins]:
        """Write *pins*, by digest, to disk; return whether they are there, and which were not covered before.

        If the write fails they are in memory only.
        """
        with self._lock:
            with self.guard:
                if len(self.table) + len(pins) > self._most:
                    self.table.forget_ended(now)
                new: Pins = {}
                for digest, pin in pins.items():
                    if (kept := merged(self.table.get(digest, now), pin)) is not None:
                        new[digest] = kept
                        self.table.put(digest, kept)
            if not self._read:
                return False, new
            self._note_given_up(now)
            if not new and not self._failed and not self._moved():
                return True, new
            if self._descriptor < 0 or self._lines > 2 * len(self.table) + _SLACK or self._moved():
                self._write_anew(now)
                return self._descriptor >= 0, new
            return self._append(new), new

    def look_after(self, *, now: float) -> None:
        """Remove ended pins and retry what failed; called about every second."""
        with self._lock:
            if not self._read:
                self._load(now)
                return
            with self.guard:
                self.table.forget_ended(now, shards=_SHARDS_AT_ONCE)
            if self._failed or self._moved() or 0 < self._given_up <= now:
                self._write_anew(now)

    def close(self) -> None:
        """Close the file; its pins stay on disk."""
        with self._lock:
            self._shut()

    def _moved(self) -> bool:
        """Return whether the open file is no longer the one that the next start will read."""
        if self._descriptor < 0:
            return False
        try:
            return not os.path.samestat(self.path.lstat(), os.fstat(self._descriptor))
        except OSError:
            return True

    def _append(self, pins: Pins) -> bool:
        data = b"".join(_json(pin_row(digest, pin)) for digest, pin in pins.items())
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fdatasync(self._descriptor)
        except OSError as error:
            # After a failed sync the file's content is unknown, so the next attempt writes a new file.
            self._fail(error)
            return False
        self._lines += len(pins)
        return True

    def _write_anew(self, now: float) -> None:
        self._shut()
        if self._given_up <= now:
            self._given_up = 0.0
        self._lines = 0
        try:
            replace_file(self.path, self._content(now))
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            self._fail(error)
            return
        self._failed = False
        self.problem = ""
        self._note_given_up(now)

    def _content(self, now: float) -> Iterator[bytes]:
        yield _json({"format": FORMAT})
        if self._given_up:
            yield _json({"overflow": self._given_up})
        for shard in range(SHARDS):
            with self.guard:
                rows = [pin_row(digest, pin) for digest, pin in self.table.shard(shard) if pin.until > now]
            self._lines += len(rows)
            yield b"".join(map(_json, rows))

    def _note_given_up(self, now: float) -> None:
        """Set `problem` if pins were evicted whose retries may still arrive."""
        given_up = max(self._given_up, self.table.given_up_until)
        if given_up > now:
            self.problem = self.problem or (
                f"there were more than {self._most} retry pins at once; {self.path} says until when that matters"
            )
            if given_up > self._given_up:
                self._given_up = given_up
                self._write_anew(now)

    def _fail(self, error: OSError) -> None:
        self._shut()
        self._failed = True
        self.problem = f"{self.path} can't be written: {error.strerror}"

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __repr__(self) -> str:
        return f"<PinFile {len(self.table)} pins{' ' if self.problem else ''}{self.problem}>"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def read_pins(path: Path) -> Iterator[tuple[Pins, float]]:
    """Yield the pins in *path*, and until when an evicted one would have been valid; raise StateUnusable."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise StateUnusable(f"{path} can't be used: it is too large for what payproxy writes")
            yield from _read_lines(path, file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateUnusable(f"{path} can't be read: {error.strerror}") from None


def _read_lines(path: Path, file: Any) -> Iterator[tuple[Pins, float]]:
    number = 0
    while True:
        line = file.readline(_LONGEST_LINE)
        number += 1
        if not line.endswith(b"\n") and number > 1 and len(line) < _LONGEST_LINE:
            # An incomplete last line was being written at a crash, and not confirmed to anyone. The first line is
            # always complete, since the file is replaced atomically.
            return
        try:
            value = json.loads(line)
            if number == 1:
                if not line.endswith(b"\n"):
                    raise ValueError("cut")
                if type(value["format"]) is int and value["format"] not in _FORMATS:
                    break
                value["format"] // 1  # raises TypeError if it is no number
            elif isinstance(value, dict):
                yield {}, float(value["overflow"])
            else:
                yield pins_of([value]), 0.0
        except (ValueError, TypeError, LookupError, RecursionError):
            raise StateUnusable(f"{path} can't be used: line {number} is not what payproxy writes") from None
    raise StateUnusable(f"{path} can't be used: another payproxy than this, which knows format {FORMAT}, wrote it")
