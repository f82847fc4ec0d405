"""How far each sink is in the stream: stored in a file, so that a restarted keeper neither loses nor repeats records.

A second file stores since when each sink has received everything, and where it writes: `logs verify` derives from both
what a copy must contain. It is separate so that a payproxy from before 2026-11-28 can still read the positions.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.records.chain import link_of
from proxy.records.chain_id import read_chain_id
from proxy.records.segment import STREAM, segment_path
from proxy.records.stream import MARK, NAME, Position, Stream, stream_segments

_POSITIONS_FILE = "positions.json"
_SINKS_FILE = "sinks.json"


class SinkPositions:
    """The stored positions of sinks, by name, beside the stream; *targets* maps each sink to where it writes."""

    def __init__(self, directory: Path, *, targets: Mapping[str, str]) -> None:
        self._path = directory / _POSITIONS_FILE
        self._sinks_path = directory / _SINKS_FILE
        self._targets = targets
        self._saved: dict[str, Position] = {}
        self._sinks: dict[str, Any] = {}
        self._sinks_saved = False

    def load(self, names: list[str], stream: Stream) -> dict[str, Position]:
        """Return for each sink of *names* the position in *stream* where it continues.

        A new sink starts at the end. Without a readable file, all start at the oldest record: duplicates beat losses.
        """
        positions = self._positions(names, stream)
        stored = _object(self._sinks_path)
        for name, position in positions.items():
            target = self._targets.get(name, "")
            noted = stored.get(name)
            after = noted.get("after") if isinstance(noted, dict) and noted.get("target") == target else None
            # For a new sink or target, nothing is known about earlier records.
            after = min(after, position.sequence) if isinstance(after, int) else position.sequence
            self._sinks[name] = {"target": target, "after": after}
        self._sinks_saved = self._sinks == stored
        return positions

    def _positions(self, names: list[str], stream: Stream) -> dict[str, Position]:
        try:
            stored = json.loads(self._path.read_bytes())
            known = {str(name): Position(*map(int, parts)) for name, parts in stored.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return dict.fromkeys(names, stream.first())
        # After a host crash the stream may lack its last bytes; those records come again from the journals.
        return {name: min(known.get(name, stream.end), stream.end) for name in names}

    def save(self, positions: dict[str, Position]) -> None:
        """Store *positions* if they changed; raises OSError."""
        if not self._sinks_saved:
            # Write this first: new positions with notes about an old target would demand records from the new one.
            _replace(self._sinks_path, self._sinks)
            self._sinks_saved = True
        if positions == self._saved:
            return
        _replace(self._path, {name: (at.segment, at.offset, at.sequence) for name, at in positions.items()})
        self._saved = positions


def _replace(path: Path, value: Any) -> None:
    made = path.with_suffix(".new")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(value).encode())
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    made.replace(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A sink has confirmed the records of *chain* after *after* up to *last*, whose hash is *hash* ("": unknown).

    *after* is None if the keeper did not note it: before 2026-11-28, or if the sink had another target.
    """

    chain: str
    after: int | None
    last: int
    hash: str = ""

    @property
    def nothing(self) -> bool:
        """Return whether it is certain that nothing was delivered."""
        return self.after is not None and self.last <= self.after


def delivered(data_directory: Path, sink: str, *, target: str) -> Delivered | None:
    """Return what *sink*, which writes to *target*, has confirmed, None if unknown. Raises OSError."""
    directory = data_directory / STREAM
    position = _object(directory / _POSITIONS_FILE).get(sink)
    if not (isinstance(position, list) and len(position) >= 3 and isinstance(position[2], int)):
        return None
    noted = _object(directory / _SINKS_FILE).get(sink)
    noted = noted if isinstance(noted, dict) else {}
    if noted and not _is_same(str(noted.get("target")), target, data_directory):
        return None
    after = noted.get("after")
    last = position[2]
    return Delivered(
        chain=read_chain_id(data_directory),
        after=after if isinstance(after, int) else None,
        last=last,
        hash=_hash_at(directory, last),
    )


def _is_same(noted: str, target: str, data_directory: Path) -> bool:
    """Return whether both targets are the same; a copied or moved data directory still contains its database."""
    if noted == target:
        return True
    inside = target.removeprefix(f"{data_directory}/")
    return inside != target and noted.endswith(f"/{inside}")


def _hash_at(directory: Path, sequence: int) -> str:
    """Return the hash of record *sequence* from the stream in *directory*, "" if the record is no longer there."""
    for number in reversed(stream_segments(directory)):
        try:
            data = segment_path(directory, NAME, number).read_bytes()
        except FileNotFoundError:
            continue
        for line in reversed(data.splitlines()):
            if line.startswith(MARK):
                mark = _parsed(line)
                if mark.get("sequence") == sequence:
                    return str(mark.get("hash", ""))
                continue
            link = link_of(line)
            if link is not None and link.intact:
                if link.sequence == sequence:
                    return link.hash
                if link.sequence == sequence + 1:
                    return link.previous_hash
                if link.sequence < sequence:
                    return ""
    return ""


def _object(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return {}


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
