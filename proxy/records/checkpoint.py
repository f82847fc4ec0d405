"""How far each sink is in the stream: stored in a file, so that a restarted keeper neither loses nor repeats records.

A second file stores since when each sink has received everything, and where it writes: `logs verify` derives from both
what a copy must contain. It is separate so that a payproxy from before 2026-11-28 can still read the positions.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.records.stream import Position, Stream

CHECKPOINT_FILE = "positions.json"
SINKS_FILE = "sinks.json"


class Checkpoint:
    """The stored positions of sinks, by name, beside the stream; *targets* maps each sink to where it writes."""

    def __init__(self, directory: Path, *, targets: Mapping[str, str]) -> None:
        self._path = directory / CHECKPOINT_FILE
        self._sinks_path = directory / SINKS_FILE
        self._targets = targets
        self._saved: dict[str, Position] = {}
        self._sinks: dict[str, Any] = {}
        self._sinks_saved = False

    def __repr__(self) -> str:
        return f"<Checkpoint {self._path.name} {len(self._saved)} sinks>"

    def load(self, names: list[str], stream: Stream) -> dict[str, Position]:
        """Return for each sink of *names* the position in *stream* where it continues.

        A new sink starts at the end. Without a readable file, all start at the oldest record: duplicates beat losses.
        """
        positions = self._positions(names, stream)
        stored = self._stored_sinks()
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
        except FileNotFoundError:
            return dict.fromkeys(names, stream.first())
        except (ValueError, TypeError, AttributeError):
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

    def _stored_sinks(self) -> dict[str, Any]:
        try:
            stored = json.loads(self._sinks_path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}


def _replace(path: Path, value: Any) -> None:
    made = path.with_suffix(".new")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(value).encode())
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    made.replace(path)
