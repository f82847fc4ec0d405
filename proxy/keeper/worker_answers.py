"""Messages that the keeper sends to all workers and whose answers it collects."""

import asyncio
from collections.abc import Callable, Iterable

from proxy.link.messages import Acknowledged, Numbered, ToWorker

# Sends a message to every worker that serves, and returns the names of these workers.
Broadcast = Callable[[ToWorker], Iterable[str]]


class _Question:
    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting
        self.answers: list[Acknowledged] = []
        self.answered = asyncio.Event()
        self.look()

    def look(self) -> None:
        if not self.waiting:
            self.answered.set()


class WorkerAnswers:
    """Numbers broadcast messages and collects the workers' answers.

    With *also_ended*, a worker that ended is waited for until its journal is read: only then is known what it had in
    flight. Not thread-safe: call on the event loop only. Nothing here blocks.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        self.broadcast = broadcast
        self._serial = 0
        self._questions: dict[int, tuple[_Question, bool]] = {}
        self._unread: set[str] = set()

    def ask(self, message: Numbered, *, also_ended: bool = False, but: str = "") -> int:
        """Send *message* with a new serial to all workers; return the serial. The worker *but* is not waited for."""
        self._serial += 1
        asked = set(self.broadcast(message._replace(serial=self._serial)))
        if also_ended:
            asked |= self._unread
        self._questions[self._serial] = (_Question(asked - {but}), also_ended)
        return self._serial

    def on_answer(self, worker: str, answer: Acknowledged) -> None:
        """Record the answer of *worker*."""
        found = self._questions.get(answer.serial)
        if found is not None and worker in found[0].waiting:
            found[0].answers.append(answer)
            self._strike(found[0], worker)

    def ended(self, worker: str) -> None:
        """Record that *worker* has ended and its journal is not read yet."""
        self._unread.add(worker)
        for question, also_ended in self._questions.values():
            if not also_ended:
                self._strike(question, worker)

    def recovered(self, worker: str) -> None:
        """Record that the journal of *worker*, which has ended, is read."""
        self._unread.discard(worker)
        for question, _ in self._questions.values():
            self._strike(question, worker)

    async def wait(self, serial: int) -> list[Acknowledged]:
        """Wait until all workers have answered the message *serial*; return their answers."""
        question = self._questions[serial][0]
        await question.answered.wait()
        return question.answers

    def waiting(self, serial: int) -> frozenset[str]:
        """Return the names of the workers that have not answered."""
        return frozenset(self._questions[serial][0].waiting) if serial in self._questions else frozenset()

    def forget(self, serials: Iterable[int]) -> None:
        """Discard the messages *serials* and their answers."""
        for serial in serials:
            self._questions.pop(serial, None)

    def _strike(self, question: _Question, worker: str) -> None:
        question.waiting.discard(worker)
        question.look()

    def __repr__(self) -> str:
        return f"<WorkerAnswers {len(self._questions)} open>"
