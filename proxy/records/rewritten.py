"""The first line of a journal segment whose next lines may be in earlier segments too, because their sync failed.

After a failed sync nobody knows what of a file is on disk, so the worker writes the finished records of that batch
again, into another segment. The keeper, which reads the page cache, may have read some of them before. This line tells
it where they were, so that it can continue behind what it has read.
"""

import json
from typing import Final

from proxy.errors import MALFORMED
from proxy.records.json_line import line

REWRITTEN: Final = b'{"kind":"rewritten"'
# A worker that was taken over may write any numbers. No segment has so many bytes.
_MOST_BYTES: Final = 1 << 40


class FirstWrite:
    """Where the lines that wait to be written again were first written: byte ranges, in order, of one segment.

    Each attempt writes the same lines in the same order into a segment of a higher number, and more lines after them.
    """

    def __init__(self) -> None:
        self._segment = -1
        self._ranges: list[tuple[int, int]] = []

    def __repr__(self) -> str:
        return f"<FirstWrite segment {self._segment}, {len(self._ranges)} ranges>"

    def begin(self, segment: int) -> None:
        """Set the number of the last *segment* before the attempts; only the first call counts."""
        if self._segment < 0:
            self._segment = segment

    def add(self, at: int, size: int) -> None:
        """Add *size* bytes that were written at *at*, or were to be written there."""
        self._ranges.append((at, size))

    def header(self) -> bytes:
        """Return the line that comes before the lines in each attempt; it is always the same."""
        return line({"kind": "rewritten", "segment": self._segment, "ranges": self._ranges})


def already_read(header: bytes, number: int, positions: dict[int, int]) -> int:
    """Return how many bytes behind *header*, the first line of segment *number*, were read in earlier segments.

    *positions* are the bytes read of each segment. Returns 0 if a failing disk has changed the header: then records
    come twice, rather than not at all.
    """
    try:
        first = json.loads(header)
        segment, ranges = int(first["segment"]), [(int(at), int(size)) for at, size in first["ranges"]]
        in_first: int = sum(min(max(positions.get(segment, 0) - at, 0), size) for at, size in ranges)
        in_attempts = (at - len(header) for attempt, at in positions.items() if segment < attempt < number)
        return min(max(0, in_first, *in_attempts), _MOST_BYTES)
    except MALFORMED:
        return 0
