import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock, timestamp
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.link.messages import Acknowledged, NewPins, ToWorker
from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.pin_rows import Pins
from proxy.migration.pin_table import SHARDS
from proxy.migration.side import Side
from proxy.migration.stores.pins import PinFile
from tests.upstream.support import eventually

CLOCK = SystemClock()


def pin(number: int, *, side: Side = Side.MODERN) -> Pins:
    """Return a pin that holds for a day."""
    return {f"{number:016x}": RetryPin(side, "bank", CLOCK.now() + PIN_SECONDS)}


KNOWN = {"route": "pay", "reason": "unknown"}


def on_disk(directory: Path) -> list[str]:
    """Return the digests that another process finds in *directory*."""
    file = PinFile(directory)
    file.load(now=CLOCK.now())
    return [digest for shard in range(SHARDS) for digest, _ in file.table.shard(shard)]


class Workers:
    """What workers hear; each named one takes pins when told to."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.names = list(names)
        self.sent: list[NewPins] = []
        self.changes = 0
        self.answers = WorkerAnswers(self.broadcast)
        self.pins = RetryPins(
            PinFile(directory),
            clock=CLOCK,
            answers=self.answers,
            changed=self.change,
            migration_of=lambda route: {"pay": "payments"}[route],
        )

    def broadcast(self, message: ToWorker) -> list[str]:
        """Take a message for all."""
        assert isinstance(message, NewPins)
        self.sent.append(message)
        return self.names

    def change(self) -> None:
        """Count."""
        self.changes += 1

    def take(self, *names: str) -> None:
        """Let workers say that they have all that was sent."""
        for name in names:
            for message in self.sent:
                self.answers.on_answer(name, Acknowledged(message.serial))


@pytest.fixture(name="workers")
async def fixture_workers(tmp_path: Path) -> Workers:
    """Return two workers and the pins of their keeper."""
    workers = Workers(tmp_path, "w0", "w1")
    await workers.pins.open()
    return workers


async def test_a_pin_is_kept_once_it_is_on_disk_and_every_worker_has_it(tmp_path: Path, workers: Workers) -> None:
    """The caller's next try may come to any of them."""
    keeping = asyncio.create_task(workers.pins.keep(pin(1)))
    await eventually(lambda: bool(workers.sent))
    assert on_disk(tmp_path) == [*pin(1)]
    workers.take("w0")
    await asyncio.sleep(0)
    assert not keeping.done()

    workers.take("w1")

    assert await keeping
    [message] = workers.sent
    assert [(digest, pin.side, pin.upstream) for digest, pin in message.pins.items()] == [
        (f"{1:016x}", "modern", "bank")
    ]


async def test_a_worker_that_does_not_take_it_is_not_waited_for_longer(workers: Workers) -> None:
    """After a second the answer is no, though the pin is there."""
    started = CLOCK.monotonic()

    assert not await workers.pins.keep(pin(1))

    assert CLOCK.monotonic() - started > 0.9
    assert workers.pins.get(next(iter(pin(1))))


async def test_a_worker_that_is_gone_is_not_waited_for(workers: Workers) -> None:
    """Its callers come to others."""
    keeping = asyncio.create_task(workers.pins.keep(pin(1)))
    await eventually(lambda: bool(workers.sent))
    workers.take("w0")

    workers.answers.ended("w1")

    assert await keeping


async def test_many_are_written_together(workers: Workers) -> None:
    """What comes during a write goes into the next: a thousand pins take a few."""
    workers.names = []

    kept = await asyncio.gather(*(workers.pins.keep(pin(number)) for number in range(1000)))

    assert all(kept)
    assert len(workers.sent) < 50
    assert sum(len(message.pins) for message in workers.sent) == 1000


async def test_a_new_worker_hears_all_pins(tmp_path: Path, workers: Workers) -> None:
    """Also after a restart, in lines that are not too long."""
    workers.names = []
    await asyncio.gather(*(workers.pins.keep(pin(number)) for number in range(1200)))
    workers.pins.close()

    again = Workers(tmp_path)
    await again.pins.open()

    messages = [*again.pins.messages()]
    assert [len(message.pins) for message in messages] == [500, 500, 200]
    assert {message.serial for message in messages} == {0}


async def test_what_cannot_be_written_is_said(tmp_path: Path, workers: Workers) -> None:
    """The answer is no, workers have the pin all the same, and everybody is told that pins can't be relied on."""
    workers.names = []
    changes = workers.changes
    obstacle = tmp_path / ".retry-pins.jsonl.new"
    obstacle.mkdir()

    assert not await workers.pins.keep(pin(1))

    assert workers.changes == changes + 1
    assert "can't be written" in workers.pins.problem
    assert workers.sent
    obstacle.rmdir()
    await workers.pins.look_after()
    assert not workers.pins.problem
    assert workers.changes == changes + 2
    assert on_disk(tmp_path) == [*pin(1)]


async def test_what_is_shared_is_told_to_replicas_too(workers: Workers) -> None:
    """Kept is only what they have; what comes from them is not sent back."""
    told: list[Pins] = []
    answer = False

    async def share(pins: Any) -> bool:
        told.append(dict(pins))
        return answer

    workers.names = []
    workers.pins.replicate = share
    assert not await workers.pins.keep(pin(1))
    answer = True
    assert await workers.pins.keep(pin(2))
    assert await workers.pins.keep(pin(3), replicate=False)

    assert [list(pins) for pins in told] == [list(pin(1)), list(pin(2))]


async def test_lost_exchanges_are_pinned_from_another_thread(tmp_path: Path, workers: Workers) -> None:
    """On disk on return, in every worker a moment later; lines that no worker wrote are passed over."""
    found = {"retry": f"{7:016x}", "side": "legacy", "upstream": "bank", "time": timestamp(CLOCK.now()), **KNOWN}

    await asyncio.to_thread(workers.pins.keep_uncertain, [found, {}, found | {"side": "other"}, found | {"time": "x"}])

    assert on_disk(tmp_path) == [f"{7:016x}"]
    await eventually(lambda: bool(workers.sent))
    assert [(digest, pin.side, pin.upstream) for digest, pin in workers.sent[0].pins.items()] == [
        (f"{7:016x}", "legacy", "bank")
    ]


async def test_what_had_just_ended_is_pinned_for_a_moment(tmp_path: Path, workers: Workers) -> None:
    """A worker that is gone can't say that its answer may not have been read, and nobody could ask again meanwhile."""
    now = CLOCK.now()
    one = {"route": "pay", "reason": "in_flight", "side": "modern", "upstream": "bank", "time": timestamp(now - 60)}
    late, soon_ = one | {"retry": f"{1:016x}", "ended": now - 11}, one | {"retry": f"{2:016x}", "ended": now - 1}

    await asyncio.to_thread(workers.pins.keep_uncertain, [late, soon_])

    assert on_disk(tmp_path) == [f"{1:016x}", f"{2:016x}"]
    for number in (1, 2):
        found = workers.pins.get(f"{number:016x}")
        assert found is not None
        assert 10 <= found.until - now < 70


async def test_what_its_worker_asked_for_is_not_written_again(tmp_path: Path, workers: Workers) -> None:
    """The record of an exchange that ended unknown comes behind its worker's own question."""
    workers.names = []
    await workers.pins.keep(pin(7, side=Side.LEGACY))
    before = (tmp_path / "retry-pins.jsonl").read_bytes()
    found = {"retry": f"{7:016x}", "side": "legacy", "upstream": "bank", "time": timestamp(CLOCK.now() - 1), **KNOWN}

    await asyncio.to_thread(workers.pins.keep_uncertain, [found])

    assert (tmp_path / "retry-pins.jsonl").read_bytes() == before
