import asyncio
import json
from pathlib import Path

from proxy.clock import SystemClock
from proxy.records.anchor import checkpoint_in
from proxy.records.shipper import CHECKPOINT_SECONDS, Shipper
from proxy.records.stream import Stream
from tests.records.chains import Writer, told, verdict
from tests.records.support import CONTEXT, MemorySink, an_exchange, complete, open_journal, until
from tests.support.clock import ManualClock


class KeptSink(MemorySink):
    """Keeps the bytes too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []

    async def write(self, batch: list[bytes]) -> None:
        """Keep *batch*."""
        await super().write(batch)
        self.lines += batch


def shipper(directory: Path, sink: MemorySink) -> Shipper:
    """Return a shipper with checkpoints, not running."""
    return Shipper(
        directory,
        sinks=[sink],
        clock=SystemClock(),
        observe=lambda _: None,
        checkpoints=Writer(directory).checkpoints,
    )


async def run(directory: Path, sink: KeptSink, *, exchanges: int, worker: str, kill: bool = False) -> None:
    """Ship *exchanges* of a worker, then stop in order or be cancelled."""
    one = shipper(directory, sink)
    running = asyncio.ensure_future(one.run())
    wanted = len(sink.lines) + exchanges
    async with open_journal(directory, worker=worker) as journal:
        for _ in range(exchanges):
            await complete(journal, an_exchange())
        await until(lambda: len(sink.lines) > wanted)
    if kill:
        running.cancel()
        await asyncio.wait([running])
    else:
        await one.close()
        await running


async def test_start_stop_and_signature_frame_the_records(tmp_path: Path) -> None:
    """The first record is the start, the last one a checkpoint over the stop."""
    sink = KeptSink()

    await run(tmp_path, sink, exchanges=5, worker="w1")

    events = [record.get("event", "exchange") for record in sink.records]
    assert events == ["start", *["exchange"] * 5, "stop", "checkpoint"]
    claim, key, signature = checkpoint_in(sink.records[-1])
    assert claim.is_signed(key, signature)
    assert claim.hash == sink.records[-2]["hash"]
    assert told(verdict(sink.lines)) == []


async def test_restarts_after_clean_stops_leave_one_chain_without_a_flaw(tmp_path: Path) -> None:
    """Numbers and hashes go on."""
    sink = KeptSink()

    for turn in range(3):
        await run(tmp_path, sink, exchanges=4, worker=f"w{turn}")

    found = verdict(sink.lines)
    assert told(found) == []
    assert found.chains[CONTEXT.instance].last == len(sink.lines) == 3 * (4 + 3)


async def test_a_killed_keeper_leaves_a_warning_and_an_unbroken_chain(tmp_path: Path) -> None:
    """The next start goes on with the chain; that there was no stop is said."""
    sink = KeptSink()
    await run(tmp_path, sink, exchanges=4, worker="w1", kill=True)
    await run(tmp_path, sink, exchanges=4, worker="w2")

    found = verdict(sink.lines)

    assert found.holds
    assert ("unclean", 6) in [(fault, number) for fault, _, number in told(found)]
    assert {fault for fault, *_ in told(found)} <= {"unclean", "duplicated"}


async def test_a_torn_stream_is_cut_and_the_chain_goes_on(tmp_path: Path) -> None:
    """Half a batch at the end, as a kill in the middle of the write leaves it."""
    sink = KeptSink()
    await run(tmp_path, sink, exchanges=4, worker="w1", kill=True)
    [path] = (tmp_path / "stream").glob("records-*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"kind":"exchange","id":"torn","sequence":6,"previous_hash":"00')

    await run(tmp_path, sink, exchanges=4, worker="w2")

    found = verdict(sink.lines)
    assert found.holds
    assert b"torn" not in b"".join(sink.lines)


async def test_a_checkpoint_comes_every_minute_but_not_on_top_of_another(tmp_path: Path) -> None:
    """An idle instance does not fill its log with signatures."""
    clock = ManualClock()
    sink = KeptSink()
    one = Shipper(
        tmp_path,
        sinks=[sink],
        clock=clock,
        observe=lambda _: None,
        checkpoints=Writer(tmp_path).checkpoints,
    )

    def checkpoints() -> int:
        return sum(record.get("event") == "checkpoint" for record in sink.records)

    async def pass_time(seconds: float) -> None:
        await clock.advance(seconds)
        await one._pump()
        await until(lambda: len(sink.records) == one._stream.end.sequence)

    running = asyncio.ensure_future(one.run())
    try:
        await until(lambda: len(sink.records) == 1)
        await pass_time(CHECKPOINT_SECONDS - 1)
        assert checkpoints() == 0
        await pass_time(2)
        assert checkpoints() == 1
        await pass_time(10 * CHECKPOINT_SECONDS)
        assert checkpoints() == 1
        async with open_journal(tmp_path) as journal:
            await complete(journal, an_exchange())
        await one.worker_ended("w1")
        await pass_time(CHECKPOINT_SECONDS + 1)
        assert checkpoints() == 2
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert json.loads(sink.lines[-1])["checkpoint"]["sequence"] == sink.records[-2]["sequence"]


async def test_the_chain_is_remembered_when_all_records_are_delivered_and_gone(tmp_path: Path) -> None:
    """Segments go once every sink has them, but never the one with the last mark, even if a new one was begun."""
    sink = KeptSink()
    await run(tmp_path, sink, exchanges=4, worker="w1")
    stream = Stream(tmp_path / "stream")
    stream.open()
    stream.rotate()
    stream.forget(10**6)
    stream.close()

    await run(tmp_path, sink, exchanges=4, worker="w2")

    assert told(verdict(sink.lines)) == []
