"""Questions to all workers."""

import asyncio

from proxy.keeper.worker_answers import WorkerAnswers
from proxy.link.messages import Acknowledged, NewPins, ToWorker

PINS = NewPins({})


class Workers:
    """Workers that hear."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.sent: list[NewPins] = []
        self.answers = WorkerAnswers(self.broadcast)

    def broadcast(self, message: ToWorker) -> list[str]:
        """Take a message for all."""
        assert isinstance(message, NewPins)
        self.sent.append(message)
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
    first, second = (workers.answers.ask(PINS) for _ in range(2))
    assert [one.serial for one in workers.sent] == [first, second]
    for worker in ("a", "a", "c"):
        workers.answers.on_answer(worker, Acknowledged(first))
    assert await workers.is_open(first)
    assert workers.answers.waiting(first) == {"b"}
    workers.answers.on_answer("b", Acknowledged(first, agreed=False))
    assert [one.agreed for one in await workers.answers.wait(first)] == [True, False]
    assert await workers.is_open(second)


async def test_nobody_is_waited_for_where_nobody_serves() -> None:
    """And the one that asked itself is not asked."""
    workers = Workers("a")
    assert await workers.answers.wait(workers.answers.ask(PINS, but="a")) == []


async def test_a_worker_that_ended_counts_until_its_journal_is_read() -> None:
    """Where it matters what it had in flight; for all else it is gone at once."""
    workers = Workers("a", "b")
    plain = workers.answers.ask(PINS)
    careful = workers.answers.ask(PINS, also_ended=True)
    for serial in (plain, careful):
        workers.answers.on_answer("b", Acknowledged(serial))

    workers.answers.ended("a")
    workers.names = ["b"]

    assert not await workers.is_open(plain)
    assert await workers.is_open(careful)
    later = workers.answers.ask(PINS, also_ended=True)
    workers.answers.on_answer("b", Acknowledged(later))
    assert await workers.is_open(later)
    workers.answers.recovered("a")
    assert not await workers.is_open(careful)
    assert not await workers.is_open(later)


async def test_what_is_forgotten_takes_no_answers() -> None:
    """Late ones are for nobody."""
    workers = Workers("a")
    serial = workers.answers.ask(PINS)
    workers.answers.forget([serial, serial])
    workers.answers.on_answer("a", Acknowledged(serial))
    assert workers.answers.waiting(serial) == frozenset()
