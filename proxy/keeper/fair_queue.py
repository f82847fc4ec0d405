"""A queue that several workers share: each in its turn, so that one with many requests delays no other's."""

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by their source, at most *most* of each; taken from one source after the other, the oldest first."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._items: dict[str, deque[Item]] = {}

    def put(self, source: str, item: Item) -> bool:
        """Add *item* of *source*; return False if that has too many already."""
        items = self._items.get(source)
        if items is None:
            self._items[source] = deque([item])
            return True
        if len(items) >= self._most:
            return False
        items.append(item)
        return True

    def take(self) -> Item | None:
        """Remove and return the next item, None if there is none; its source comes last then."""
        source = next(iter(self._items), None)
        if source is None:
            return None
        items = self._items.pop(source)
        item = items.popleft()
        if items:
            self._items[source] = items
        return item

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def __repr__(self) -> str:
        return f"<FairQueue {len(self)} of {len(self._items)}>"
