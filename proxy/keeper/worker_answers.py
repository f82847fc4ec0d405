"""Questions that the keeper asks all workers at once, and who has not answered yet."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

# Sends a message to every worker that serves, and returns their names.
Broadcast = Callable[[dict[str, Any]], Iterable[str]]


class _Question:
    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting
        self.values: list[Any] = []
        self.answered = asyncio.Event()
        self.look()

    def look(self) -> None:
        if not self.waiting:
            self.answered.set()


class WorkerAnswers:
    """Numbers messages, and collects what workers say of each.

    A worker that ended counts until its journal is read where *also_ended* is asked for: what it had in flight is known
    only then. *on_loop* methods only; nothing here blocks.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._serial = 0
        self._questions: dict[int, tuple[_Question, bool]] = {}
        self._unread: set[str] = set()

    def ask(self, message: dict[str, Any], *, also_ended: bool = False, but: str = "") -> int:
        """Send *message* with a serial of its own to all workers; return that. The worker *but* is not waited for."""
        self._serial += 1
        told = set(self._broadcast({**message, "serial": self._serial}))
        if also_ended:
            told |= self._unread
        self._questions[self._serial] = (_Question(told - {but}), also_ended)
        return self._serial

    def take(self, worker: str, serial: int, value: Any) -> None:
        """Note what *worker* answered to the message *serial*."""
        found = self._questions.get(serial)
        if found is not None and worker in found[0].waiting:
            found[0].values.append(value)
            self._strike(found[0], worker)

    def ended(self, worker: str) -> None:
        """Note that *worker* has ended; its journal is not read yet."""
        self._unread.add(worker)
        for question, also_ended in self._questions.values():
            if not also_ended:
                self._strike(question, worker)

    def recovered(self, worker: str) -> None:
        """Note that the journal of *worker*, which has ended, is read."""
        self._unread.discard(worker)
        for question, _ in self._questions.values():
            self._strike(question, worker)

    async def wait(self, serial: int) -> list[Any]:
        """Return what workers answered to the message *serial*, once all have."""
        question = self._questions[serial][0]
        await question.answered.wait()
        return question.values

    def waiting(self, serial: int) -> frozenset[str]:
        """Return which workers have not answered."""
        return frozenset(self._questions[serial][0].waiting) if serial in self._questions else frozenset()

    def forget(self, serials: Iterable[int]) -> None:
        """Wait no longer for answers to the messages *serials*."""
        for serial in serials:
            self._questions.pop(serial, None)

    def _strike(self, question: _Question, worker: str) -> None:
        question.waiting.discard(worker)
        question.look()

    def __repr__(self) -> str:
        return f"<WorkerAnswers {len(self._questions)} open>"
