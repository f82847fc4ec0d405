import asyncio
from typing import Any

from proxy.clock import SystemClock
from proxy.link.messages import ClaimRequest, PinRequest
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


def shift() -> tuple[MigrationReporter, list[Any]]:
    """Return a worker's, and what its keeper hears."""
    sent: list[Any] = []
    return MigrationReporter(send=sent.append), sent


async def test_a_pin_is_asked_for_and_answered() -> None:
    """Each by its own number, whatever the order."""
    worker, sent = shift()
    first = asyncio.create_task(worker.keep(DIGEST, PIN))
    second = asyncio.create_task(worker.claim(f"{2:016x}", PIN))
    await eventually(lambda: len(sent) == 2)

    worker.on_answer(sent[1].ask, kept=False)
    worker.on_answer(sent[0].ask, kept=True)

    assert (await first, await second) == (True, False)
    assert sent == [PinRequest(1, DIGEST, PIN), ClaimRequest(2, f"{2:016x}", PIN)]
    assert [type(one) for one in sent] == [PinRequest, ClaimRequest]


async def test_a_keeper_that_does_not_answer_is_waited_for_one_second() -> None:
    """The caller gets its answer then; an answer that comes later is for nobody."""
    worker, sent = shift()
    started = CLOCK.monotonic()

    assert not await worker.keep(DIGEST, PIN)

    assert CLOCK.monotonic() - started > 0.9
    worker.on_answer(sent[0].ask, kept=True)


async def test_a_keeper_that_is_gone_is_not_waited_for() -> None:
    """Neither by who waits already nor by who comes."""
    worker, sent = shift()
    waiting = asyncio.create_task(worker.keep(DIGEST, PIN))
    await eventually(lambda: bool(sent))

    worker.abandon()

    assert not await waiting
    assert not await worker.keep(DIGEST, PIN)
    assert len(sent) == 1


async def test_what_went_well_is_told_together() -> None:
    """Half a second later at most."""
    worker, sent = shift()
    for _ in range(3):
        worker.ended(row())
    assert not sent

    await eventually(lambda: bool(sent))

    assert [len(message.rows) for message in sent] == [3]


async def test_what_went_wrong_is_told_at_once() -> None:
    """With all that waits."""
    worker, sent = shift()
    worker.ended(row())
    worker.ended(row("refused", refused=True))
    worker.ended(row("failed"))

    assert [len(message.rows) for message in sent] == [2, 1]
    await asyncio.sleep(0.6)
    assert len(sent) == 2


async def test_a_batch_is_bounded() -> None:
    """A line of the link stays short."""
    worker, sent = shift()
    for _ in range(1200):
        worker.ended(row())

    assert [len(message.rows) for message in sent] == [500, 500]
    worker.flush()
    assert len(sent[-1].rows) == 200
