"""Questions to all workers."""

import asyncio
from typing import Any

from proxy.keeper.worker_answers import WorkerAnswers


class Workers:
    """Workers that hear."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.heard: list[dict[str, Any]] = []
        self.answers = WorkerAnswers(self.hear)

    def hear(self, message: dict[str, Any]) -> list[str]:
        """Take a message for all."""
        self.heard.append(message)
        return self.names

    async def is_open(self, serial: int) -> bool:
        """Return whether somebody is waited for, after the loop has turned."""
        waiting = asyncio.ensure_future(self.answers.wait(serial))
        for _ in range(3):
            await asyncio.sleep(0)
        waiting.cancel()
        return waiting.cancelling() > 0 and not waiting.done()


async def test_all_have_to_answer() -> None:
    """Each message has a serial of its own, and each worker one answer; strangers and repeats count for nothing."""
    workers = Workers("a", "b")
    first, second = (workers.answers.ask({"type": "x"}) for _ in range(2))
    assert [one["serial"] for one in workers.heard] == [first, second]
    for worker in ("a", "a", "c"):
        workers.answers.take(worker, first, worker)
    assert await workers.is_open(first)
    assert workers.answers.waiting(first) == {"b"}
    workers.answers.take("b", first, "b")
    assert await workers.answers.wait(first) == ["a", "b"]
    assert await workers.is_open(second)


async def test_nobody_is_waited_for_where_nobody_serves() -> None:
    """And the one that asked itself is not asked."""
    workers = Workers("a")
    assert await workers.answers.wait(workers.answers.ask({"type": "x"}, but="a")) == []


async def test_a_worker_that_ended_counts_until_its_journal_is_read() -> None:
    """Where it matters what it had in flight; for all else it is gone at once."""
    workers = Workers("a", "b")
    plain = workers.answers.ask({"type": "x"})
    careful = workers.answers.ask({"type": "x"}, also_ended=True)
    for serial in (plain, careful):
        workers.answers.take("b", serial, None)

    workers.answers.ended("a")
    workers.names = ["b"]

    assert not await workers.is_open(plain)
    assert await workers.is_open(careful)
    later = workers.answers.ask({"type": "x"}, also_ended=True)
    workers.answers.take("b", later, None)
    assert await workers.is_open(later)
    workers.answers.recovered("a")
    assert not await workers.is_open(careful)
    assert not await workers.is_open(later)


async def test_what_is_forgotten_takes_no_answers() -> None:
    """Late ones are for nobody."""
    workers = Workers("a")
    serial = workers.answers.ask({"type": "x"})
    workers.answers.forget([serial, serial])
    workers.answers.take("a", serial, 1)
    assert workers.answers.waiting(serial) == frozenset()
