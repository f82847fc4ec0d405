"""How many entries of the shared stream were seen, by minute: fewer there mean that some were lost."""

from collections import Counter
from collections.abc import Iterable, Mapping

from proxy.migration.stores.redis import Place, minute_of


class SeenEntries:
    """Counts by the minute in which an entry was added (epoch minutes), as the stream is cut by minutes."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})

    def add(self, counts: Mapping[int, int]) -> None:
        """Count entries that were read."""
        self._counts.update(counts)

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
        """Return what was seen so far."""
        return SeenEntries(self._counts)

    def __repr__(self) -> str:
        return f"<SeenEntries {self.since(0)}>"
