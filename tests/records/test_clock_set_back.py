"""The wall clock is set back by an hour between one record and the next."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.clock import timestamp
from proxy.entropy import SystemEntropy, Uuid7s
from proxy.records.audit_records import AuditRecords, SignedCheckpoints
from proxy.records.checkpoint_key import checkpoint_key
from proxy.records.journal import Journal
from proxy.records.shipper import CHECKPOINT_SECONDS, Shipper
from proxy.request_summary import RequestSummary
from tests.records.chains import MASK, told, verdict
from tests.records.support import CONTEXT, SPOOL_BYTES, an_attempt, an_exchange, complete, intend
from tests.records.test_signed_checkpoints import KeptSink
from tests.support.clock import ManualClock

HOUR = 3600.0
EACH = 20


async def test_order_and_chain_hold_when_the_clock_is_set_back(tmp_path: Path) -> None:
    """Each record comes once, in the order made, with the time that the clock had; signatures go on, nothing waits."""
    clock = ManualClock()
    started = clock.now()
    ids = Uuid7s(SystemEntropy())
    sink = _Sink()
    journal = _journal(tmp_path, clock)
    shipper = _shipper(tmp_path, clock, sink)
    running = asyncio.ensure_future(shipper.run())
    await journal.open()

    async def pay() -> list[str]:
        exchanges = [_exchange(ids, clock) for _ in range(EACH)]
        wanted = len(sink.exchanges) + EACH
        for exchange in exchanges:
            await complete(journal, exchange)
        await _passes(clock, lambda: len(sink.exchanges) == wanted)
        return [exchange.id for exchange in exchanges]

    made = await pay()
    clock.set_wall(started - HOUR)
    made += await pay()
    # A signature is due after so long by the clock for how long, whatever the time of day is.
    signed = len(sink.signed)
    await clock.advance(CHECKPOINT_SECONDS)
    await _passes(clock, lambda: len(sink.signed) > signed)
    clock.set_wall(started + HOUR)
    made += await pay()
    await journal.close()
    await _ended(clock, shipper, running)

    assert [record["id"] for record in sink.exchanges] == made
    assert [record["sequence"] for record in sink.records] == list(range(1, len(sink.records) + 1))
    hours = [record["time"][:13] for record in sink.exchanges]
    assert hours == [timestamp(started + step * HOUR)[:13] for step in (0, -1, 1) for _ in range(EACH)]
    found = verdict(sink.lines)
    assert told(found) == []
    assert found.holds
    assert found.chains[CONTEXT.instance].stopped


async def test_what_was_in_flight_is_told_although_the_clock_was_set_back(tmp_path: Path) -> None:
    """A worker that ends after the clock went back: its intents become unknown, with the times that they had."""
    clock = ManualClock()
    ids = Uuid7s(SystemEntropy())
    sink = _Sink()
    journal = _journal(tmp_path, clock)
    await journal.open()
    open_before = _exchange(ids, clock)
    await intend(journal, open_before)
    clock.set_wall(clock.now() - HOUR)
    open_after = _exchange(ids, clock)
    await intend(journal, open_after)
    await journal.close()
    shipper = _shipper(tmp_path, clock, sink)
    running = asyncio.ensure_future(shipper.run())
    await _passes(clock, lambda: len(sink.exchanges) == 2)
    await _ended(clock, shipper, running)

    assert [(record["id"], record["sent_upstream"], record["time"]) for record in sink.exchanges] == [
        (exchange.id, "unknown", timestamp(exchange.started_wall)) for exchange in (open_before, open_after)
    ]
    assert told(verdict(sink.lines)) == []


class _Sink(KeptSink):
    """Knows exchanges from checkpoints."""

    @property
    def exchanges(self) -> list[dict[str, Any]]:
        """Return the exchanges."""
        return [record for record in self.records if record["kind"] == "exchange"]

    @property
    def signed(self) -> list[dict[str, Any]]:
        """Return the checkpoints."""
        return [record for record in self.records if record.get("event") == "checkpoint"]


def _exchange(ids: Uuid7s, clock: ManualClock) -> RequestSummary:
    now = clock.now()
    return an_exchange(id=ids.next(now), started_wall=now, attempts=[an_attempt(started_wall=now)])


def _journal(directory: Path, clock: ManualClock) -> Journal:
    return Journal(
        directory,
        worker="w1",
        context=CONTEXT,
        durable=True,
        clock=clock,
        entropy=SystemEntropy(),
        spool_bytes=SPOOL_BYTES,
    )


def _shipper(directory: Path, clock: ManualClock, sink: _Sink) -> Shipper:
    entropy = SystemEntropy()
    records = AuditRecords(CONTEXT, mask=MASK, clock=clock, entropy=entropy)
    key = checkpoint_key(directory, entropy=entropy)
    checkpoints = SignedCheckpoints(records, key=key, version="0.1", clock=clock)
    return Shipper(directory, sinks=[sink], clock=clock, observe=lambda _: None, checkpoints=checkpoints)


async def _passes(clock: ManualClock, condition: Callable[[], bool]) -> None:
    """Let time pass until *condition* holds; what is waited for also happens in threads."""
    async with asyncio.timeout(60):
        while not condition():
            await clock.advance(0.1)
            await asyncio.sleep(0.005)


async def _ended(clock: ManualClock, shipper: Shipper, running: asyncio.Future[None]) -> None:
    """Stop in order."""
    closing = asyncio.ensure_future(shipper.close())
    await _passes(clock, closing.done)
    await running
