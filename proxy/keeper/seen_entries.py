"""Counts the shared stream's entries seen, by minute: fewer entries in the stream mean that some were lost."""

from collections import Counter
from collections.abc import Iterable, Mapping

from proxy.migration.stores.redis import START, EntryId, minute_of


class SeenEntries:
    """Counts entries by the minute (epoch minutes) in which they were added, as the stream is trimmed by minutes.

    An entry that this replica has added counts at once: it can be lost before anyone has read it.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})
        self._last = START
        self._written: set[EntryId] = set()

    def read(self, places: Iterable[EntryId]) -> None:
        """Count entries read from the stream, in stream order."""
        for place in places:
            self._last = place
            if place in self._written:
                self._written.discard(place)
            else:
                self._counts[minute_of(place[0])] += 1

    def wrote(self, places: Iterable[EntryId]) -> None:
        """Count entries that this replica has added."""
        for place in places:
            # Another task may have read it before this call.
            if place > self._last:
                self._written.add(place)
                self._counts[minute_of(place[0])] += 1

    def remove(self, places: Iterable[EntryId]) -> None:
        """Subtract entries that were removed from the stream."""
        self._counts.subtract(Counter(minute_of(milliseconds) for milliseconds, _ in places))

    def forget(self, oldest: int) -> None:
        """Drop the counts of minutes before *oldest*."""
        for minute in [minute for minute in self._counts if minute < oldest]:
            del self._counts[minute]

    def since(self, oldest: int) -> int:
        """Return how many entries were seen since the minute *oldest*, inclusive."""
        return sum(count for minute, count in self._counts.items() if minute >= oldest)

    def copy(self) -> "SeenEntries":
        """Return a copy of the counts."""
        return SeenEntries(self._counts)

    def __repr__(self) -> str:
        return f"<SeenEntries {self.since(0)}>"
