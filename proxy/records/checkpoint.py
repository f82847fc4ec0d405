"""How far each sink is in the stream, kept in a file so that a restarted keeper neither loses nor floods."""

import json
import os
from pathlib import Path

from proxy.records.stream import Position, Stream

CHECKPOINT_FILE = "positions.json"


class Checkpoint:
    """The positions of sinks by name, beside the stream."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / CHECKPOINT_FILE
        self._saved: dict[str, Position] = {}

    def __repr__(self) -> str:
        return f"<Checkpoint {self._path.name} {len(self._saved)} sinks>"

    def load(self, names: list[str], stream: Stream) -> dict[str, Position]:
        """Return where each sink of *names* goes on in *stream*.

        A sink that is new begins at the end. Without a readable file all begin at what is kept: twice beats never.
        """
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
        if positions == self._saved:
            return
        parts = {name: (at.segment, at.offset, at.sequence) for name, at in positions.items()}
        made = self._path.with_suffix(".new")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(parts).encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        made.replace(self._path)
        self._saved = positions
