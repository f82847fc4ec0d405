"""What a copy of the log must contain, by the keeper's notes on each sink: its position, and since when it gets all."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.records.chain import link_of
from proxy.records.chain_id import read_chain_id
from proxy.records.checkpoint import CHECKPOINT_FILE, SINKS_FILE
from proxy.records.segment import STREAM, segment_path, segments
from proxy.records.stream import MARK, NAME


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
    position = _object(directory / CHECKPOINT_FILE).get(sink)
    if not (isinstance(position, list) and len(position) >= 3 and isinstance(position[2], int)):
        return None
    noted = _object(directory / SINKS_FILE).get(sink)
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
    for number in sorted((number for name, number in segments(directory) if name == NAME), reverse=True):
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
