"""Retry pins on disk: appended and synced before the caller has its answer, compacted when most have expired."""

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from proxy.migration.pin import RetryPin
from proxy.migration.side import Side
from proxy.migration.state import FORMAT, StateUnusable
from proxy.migration.stores.file import replace_file

NAME = "retry-pins.jsonl"
# Some 25 MB in each worker: as many exchanges with a key would have to end unknown, or with a 5xx, within a day.
MOST_PINS = 100_000
# A file with fewer lines than this in vain is left as it is.
_SLACK = 1024
# So that a file of many pins is written once a minute at most to say that there are more.
_OVERFLOW_SLACK_SECONDS = 60.0
_MOST_BYTES = 64 * 1024 * 1024
_DIGITS = frozenset("0123456789abcdef")
_DIGEST_LENGTH = 32
_LONGEST_NAME = 256

Pins = dict[str, RetryPin]


class PinFile:
    """The file in *data_directory*; its calls block, and may come from several threads.

    `problem` says why pins can't be read or kept, "" if they can. A pin that is one too many is not dropped without a
    word: until it would have expired, also after a restart, pins count as unreadable.
    """

    def __init__(self, data_directory: Path, *, most: int = MOST_PINS) -> None:
        self.path = data_directory / NAME
        self.problem = "retry pins are not read yet"
        self._most = most
        self._lock = threading.Lock()
        self._pins: Pins = {}
        self._overflow = 0.0
        self._read = False
        self._failed = False
        self._descriptor = -1
        self._lines = 0

    def load(self, *, now: float) -> Pins:
        """Read the file and return the pins that hold at epoch *now*; `problem` says if that can't be done.

        What came to be kept meanwhile stays. A file that is not there has no pins.
        """
        with self._lock:
            try:
                found, overflow = read_pins(self.path)
            except StateUnusable as error:
                self.problem = str(error)
            else:
                self._pins = found | self._pins
                self._overflow = max(self._overflow, overflow)
                self._read = True
                self.problem = ""
                if self._pins or self._overflow:
                    self._write_anew(now)
            return dict(self._pins)

    def keep(self, pins: Mapping[str, RetryPin], *, now: float) -> bool:
        """Return once *pins*, by digest, are on disk; False if they can't be: then they are held in memory only."""
        with self._lock:
            new = {digest: pin for digest, pin in pins.items() if self._pins.get(digest) != pin}
            if len(self._pins) + len(new) > self._most:
                self._drop_expired(now)
            if len(self._pins) + len(new) > self._most:
                until = max(pin.until for pin in new.values())
                if until > self._overflow:
                    self._overflow = until + _OVERFLOW_SLACK_SECONDS
                    self._write_anew(now)
                return False
            self._pins |= new
            if not self._read:
                return False
            if not new and not self._failed:
                return True
            if self._descriptor < 0 or self._lines > 2 * len(self._pins) + _SLACK:
                self._write_anew(now)
                return self._descriptor >= 0
            return self._append(new)

    def look_after(self, *, now: float) -> Pins:
        """Forget what expired and put right what can be; return the pins that hold. To be called now and then."""
        if not self._read:
            return self.load(now=now)
        with self._lock:
            self._drop_expired(now)
            if self._failed or 0 < self._overflow <= now:
                self._write_anew(now)
            return dict(self._pins)

    def close(self) -> None:
        """Close the file; what was kept stays."""
        with self._lock:
            self._shut()

    def _append(self, pins: Mapping[str, RetryPin]) -> bool:
        data = b"".join(_json(pin_row(digest, pin)) for digest, pin in pins.items())
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fdatasync(self._descriptor)
        except OSError as error:
            # What a failed sync left is not known: the next try writes another file.
            self._fail(error)
            return False
        self._lines += len(pins)
        return True

    def _write_anew(self, now: float) -> None:
        self._drop_expired(now)
        self._shut()
        lines = [_json({"format": FORMAT}), *(_json(pin_row(digest, pin)) for digest, pin in self._pins.items())]
        if self._overflow <= now:
            self._overflow = 0.0
        else:
            lines.insert(1, _json({"overflow": self._overflow}))
        try:
            replace_file(self.path, b"".join(lines))
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            self._fail(error)
            return
        self._failed = False
        self._lines = len(self._pins)
        more = f"there were more than {self._most} retry pins at once; {self.path} says until when that matters"
        self.problem = more if self._overflow else ""

    def _fail(self, error: OSError) -> None:
        self._shut()
        self._failed = True
        self.problem = f"{self.path} can't be written: {error.strerror}"

    def _drop_expired(self, now: float) -> None:
        self._pins = {digest: pin for digest, pin in self._pins.items() if pin.until > now}

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __repr__(self) -> str:
        return f"<PinFile {len(self._pins)} pins{' ' if self.problem else ''}{self.problem}>"


def pin_row(digest: str, pin: RetryPin) -> list[Any]:
    """Return a pin as JSON has it."""
    return [digest, pin.side.value, pin.upstream, pin.until]


def pins_of(rows: Iterable[Any]) -> Pins:
    """Return the pins that *rows* are, as `pin_row` makes them; raises ValueError or TypeError for what is none."""
    pins: Pins = {}
    for row in rows:
        digest, side, upstream, until = row
        sound = (
            isinstance(digest, str)
            and len(digest) == _DIGEST_LENGTH
            and _DIGITS.issuperset(digest)
            and isinstance(upstream, str)
            and 0 < len(upstream) <= _LONGEST_NAME
            and type(until) in (int, float)
            and 0 < until < 1e12
        )
        if not sound:
            raise ValueError("no pin")
        pins[digest] = RetryPin(side=Side(side), upstream=upstream, until=float(until))
    return pins


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def read_pins(path: Path) -> tuple[Pins, float]:
    """Return the pins in *path*, and until when one that could not be kept would have held; raises StateUnusable."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}, 0.0
    except OSError as error:
        raise StateUnusable(f"{path} can't be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise StateUnusable(f"{path} can't be used: it is too large for what payproxy writes")
    # What stands behind the last line feed was being written when the machine stopped: nobody was told that it is kept.
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    pins: Pins = {}
    overflow = 0.0
    known = True
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if number == 1:
                known = value["format"] == FORMAT
                if not known:
                    break
            elif isinstance(value, dict):
                overflow = float(value["overflow"])
            else:
                pins |= pins_of([value])
        except (ValueError, TypeError, LookupError, RecursionError):
            raise StateUnusable(f"{path} can't be used: line {number} is not what payproxy writes") from None
    if not known:
        raise StateUnusable(f"{path} can't be used: another payproxy than this, which knows format {FORMAT}, wrote it")
    return pins, overflow
