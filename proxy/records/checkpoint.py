"""How far each sink is in the stream, kept in a file so that a restarted keeper neither loses nor floods.

Beside it stands since when each sink takes all there is, and where it puts it: `logs verify` knows by both what must be
there. That is a file of its own, so that a payproxy from before 2026-11-28 can still read the positions.
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
    """The positions of sinks by name, beside the stream; *targets* says where each sink writes."""

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
        """Return where each sink of *names* goes on in *stream*.

        A sink that is new begins at the end. Without a readable file all begin at what is kept: twice beats never.
        """
        positions = self._positions(names, stream)
        stored = self._stored_sinks()
        for name, position in positions.items():
            target = self._targets.get(name, "")
            noted = stored.get(name)
            after = noted.get("after") if isinstance(noted, dict) and noted.get("target") == target else None
            # Of a sink that is new, or writes elsewhere now, nothing is known that came before.
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
        # A machine that died may have lost the stream's last bytes, which come again from the journals.
        return {name: min(known.get(name, stream.end), stream.end) for name in names}

    def save(self, positions: dict[str, Position]) -> None:
        """Store *positions* if they changed; raises OSError."""
        if not self._sinks_saved:
            # First: positions with what is noted of another target would demand records of this one.
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
