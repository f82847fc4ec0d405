"""How many entries of the shared stream were seen, by minute: fewer there mean that some were lost."""

from collections import Counter
from collections.abc import Iterable, Mapping

from proxy.migration.stores.redis import START, Place, minute_of


class SeenEntries:
    """Counts by the minute in which an entry was added (epoch minutes), as the stream is cut by minutes.

    What this replica has added counts at once: it can be lost before anybody has read it.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})
        self._last = START
        self._written: set[Place] = set()

    def read(self, places: Iterable[Place]) -> None:
        """Count entries that were read, in their order."""
        for place in places:
            self._last = place
            if place in self._written:
                self._written.discard(place)
            else:
                self._counts[minute_of(place[0])] += 1

    def wrote(self, places: Iterable[Place]) -> None:
        """Count entries that this replica has added."""
        for place in places:
            # Another task may have read it before we were told where it is.
            if place > self._last:
                self._written.add(place)
                self._counts[minute_of(place[0])] += 1

    def remove(self, places: Iterable[Place]) -> None:
        """Count no more what was taken out of the stream."""
        self._counts.subtract(Counter(minute_of(milliseconds) for milliseconds, _ in places))

    def forget(self, oldest: int) -> None:
        """Count no more what was added before the minute *oldest*."""
        for minute in [minute for minute in self._counts if minute < oldest]:
            del self._counts[minute]

    def since(self, oldest: int) -> int:
        """Return how many entries of the minute *oldest* or later were seen."""
        return sum(count for minute, count in self._counts.items() if minute >= oldest)

    def copy(self) -> "SeenEntries":
        """Return the counts as they are now."""
        return SeenEntries(self._counts)

    def __repr__(self) -> str:
        return f"<SeenEntries {self.since(0)}>"
