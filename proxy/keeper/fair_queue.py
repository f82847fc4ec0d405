"""A queue that callers share: each in its turn, so that one with many requests delays no other's."""

from collections import Counter, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by caller and, below that, by the worker that has them, the oldest first; at most *most* of each worker.

    Callers take turns, and the workers of a caller do: what a caller sends to another worker has no turn of its own,
    and a worker that invents items of a caller has half of that caller's turns.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._callers: dict[str, dict[str, deque[Item]]] = {}
        self._of_workers: Counter[str] = Counter()

    def put(self, item: Item, *, caller: str, worker: str) -> bool:
        """Add *item*; return False if *worker* has too many already."""
        if self._of_workers[worker] >= self._most:
            return False
        self._of_workers[worker] += 1
        self._callers.setdefault(caller, {}).setdefault(worker, deque()).append(item)
        return True

    def take(self) -> Item | None:
        """Remove and return the next item, None if there is none; its caller comes last then."""
        caller = next(iter(self._callers), None)
        if caller is None:
            return None
        workers = self._callers.pop(caller)
        worker = next(iter(workers))
        items = workers.pop(worker)
        item = items.popleft()
        self._of_workers[worker] -= 1
        if items:
            workers[worker] = items
        if workers:
            self._callers[caller] = workers
        return item

    def __len__(self) -> int:
        return self._of_workers.total()

    def __repr__(self) -> str:
        return f"<FairQueue {len(self)} of {len(self._callers)} callers>"
