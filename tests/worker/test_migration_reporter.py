import asyncio
from typing import Any

from proxy.clock import SystemClock
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin
from proxy.migration.side import Side
from proxy.worker.migration_reporter import MigrationReporter
from tests.upstream.support import eventually

CLOCK = SystemClock()
DIGEST = f"{1:016x}"
PIN = RetryPin(Side.MODERN, "bank", 2e9, "payments")


def row(outcome: str = "ok", *, refused: bool = False) -> ExchangeOutcome:
    """Return what came of a send."""
    return ExchangeOutcome(
        migration="payments",
        side=Side.MODERN,
        caller="erp",
        safe=True,
        outcome=outcome,
        status=200,
        refused=refused,
        finished=CLOCK.monotonic(),
        route="status",
    )


def shift() -> tuple[MigrationReporter, list[dict[str, Any]]]:
    """Return a worker's, and what its keeper hears."""
    heard: list[dict[str, Any]] = []
    return MigrationReporter(send=heard.append), heard


async def test_a_pin_is_asked_for_and_answered() -> None:
    """Each by its own number, whatever the order."""
    worker, heard = shift()
    first = asyncio.create_task(worker.keep(DIGEST, PIN))
    second = asyncio.create_task(worker.claim(f"{2:016x}", PIN))
    await eventually(lambda: len(heard) == 2)

    worker.hear({"type": "pin_answer", "ask": heard[1]["ask"], "kept": False})
    worker.hear({"type": "pin_answer", "ask": heard[0]["ask"], "kept": True})

    assert (await first, await second) == (True, False)
    assert [(one["type"], one["row"]) for one in heard] == [
        ("pin", [DIGEST, "modern", "bank", 2e9, "payments", "unknown"]),
        ("claim", [f"{2:016x}", "modern", "bank", 2e9, "payments", "unknown"]),
    ]


async def test_a_keeper_that_does_not_answer_is_waited_for_one_second() -> None:
    """The caller gets its answer then; an answer that comes later is for nobody."""
    worker, heard = shift()
    began = CLOCK.monotonic()

    assert not await worker.keep(DIGEST, PIN)

    assert CLOCK.monotonic() - began > 0.9
    worker.hear({"type": "pin_answer", "ask": heard[0]["ask"], "kept": True})


async def test_a_keeper_that_is_gone_is_not_waited_for() -> None:
    """Neither by who waits already nor by who comes."""
    worker, heard = shift()
    waiting = asyncio.create_task(worker.keep(DIGEST, PIN))
    await eventually(lambda: bool(heard))

    worker.abandon()

    assert not await waiting
    assert not await worker.keep(DIGEST, PIN)
    assert len(heard) == 1


async def test_what_went_well_is_told_together() -> None:
    """Half a second later at most."""
    worker, heard = shift()
    for _ in range(3):
        worker.ended(row())
    assert not heard

    await eventually(lambda: bool(heard))

    assert [len(message["rows"]) for message in heard] == [3]


async def test_what_went_wrong_is_told_at_once() -> None:
    """With all that waits."""
    worker, heard = shift()
    worker.ended(row())
    worker.ended(row("refused", refused=True))
    worker.ended(row("failed"))

    assert [len(message["rows"]) for message in heard] == [2, 1]
    await asyncio.sleep(0.6)
    assert len(heard) == 2


async def test_a_batch_is_bounded() -> None:
    """A line of the link stays short."""
    worker, heard = shift()
    for _ in range(1200):
        worker.ended(row())

    assert [len(message["rows"]) for message in heard] == [500, 500]
    worker.flush()
    assert len(heard[-1]["rows"]) == 200
