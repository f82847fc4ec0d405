import asyncio
import contextlib
import json
import math
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.errors import LogUnavailable
from proxy.events import Event, OutcomeUnknown, RecordsLost, SinkFailed, SinkRecovered, StreamFailed, StreamRecovered
from proxy.records.command_record import write_command_record
from proxy.records.segment import spool_size
from proxy.records.shipper import Shipper
from tests.records.faults import SlowDisk
from tests.records.support import (
    MemorySink,
    an_exchange,
    complete,
    intend,
    journal_lines,
    open_journal,
    promised_until_killed,
    running_shipper,
    until,
)


async def test_records_reach_every_sink_numbered(tmp_path: Path) -> None:
    """Intents stay behind; each record comes once, with its place in the one stream."""
    one, two = MemorySink("one"), MemorySink("two")
    exchanges = [an_exchange() for _ in range(100)]
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path, one, two) as shipper:
        for exchange in exchanges:
            await complete(journal, exchange)
        await until(lambda: len(one.records) == len(two.records) == 100)
        assert shipper.backlog_records == 0

    assert one.ids == [exchange.id for exchange in exchanges]
    assert [record["sequence"] for record in one.records] == list(range(1, 101))
    assert one.records == two.records
    assert one.closed


async def test_workers_share_one_stream(tmp_path: Path) -> None:
    """Numbers are given once, whichever worker a record is from."""
    sink = MemorySink()
    async with (
        open_journal(tmp_path, worker="w1") as first,
        open_journal(tmp_path, worker="w2") as second,
        running_shipper(tmp_path, sink),
    ):
        for _ in range(50):
            await asyncio.gather(complete(first, an_exchange()), complete(second, an_exchange()))
        await until(lambda: len(sink.records) == 100)

    assert [record["sequence"] for record in sink.records] == list(range(1, 101))
    assert len(set(sink.ids)) == 100


async def test_what_a_dead_worker_had_in_flight_is_unknown(tmp_path: Path) -> None:
    """A worker killed with -9: each intent that was promised has a record, and it says unknown."""
    sink = MemorySink()
    observed: list[Event] = []
    async with running_shipper(tmp_path, sink, events=observed) as shipper:
        promised = await promised_until_killed(tmp_path, "w1", intents=200)

        await shipper.worker_ended("w1")
        await until(lambda: len(sink.records) >= 200)

    assert promised <= set(sink.ids)
    assert {(record["sent_upstream"], record["note"]) for record in sink.records} == {("unknown", "worker_ended")}
    # Each is told, so that an alert sees it: the worker that counts them is dead.
    assert [one for one in observed if isinstance(one, OutcomeUnknown)] == [
        OutcomeUnknown(route=record["route"]) for record in sink.records
    ]
    assert not list((tmp_path / "journal").iterdir())


async def test_a_worker_that_ended_well_leaves_nothing(tmp_path: Path) -> None:
    """No record is made up, and its files go."""
    sink = MemorySink()
    async with running_shipper(tmp_path, sink) as shipper:
        async with open_journal(tmp_path) as journal:
            await complete(journal, an_exchange())
        await shipper.worker_ended("w1")

    assert [record["note"] for record in sink.records] == [""]
    assert not list((tmp_path / "journal").iterdir())


async def test_nobody_has_to_say_that_a_worker_ended(tmp_path: Path) -> None:
    """After keeper and worker died together the next keeper sees it by the lock that nobody holds."""
    exchange = an_exchange()
    async with open_journal(tmp_path) as journal:
        await intend(journal, exchange)
    sink = MemorySink()

    async with running_shipper(tmp_path, sink):
        await until(lambda: sink.records)

    assert sink.records[0]["sent_upstream"] == "unknown"


async def test_a_living_worker_is_not_called_ended(tmp_path: Path) -> None:
    """A keeper that starts while an old worker drains waits for its record."""
    exchange = an_exchange()
    sink = MemorySink()
    async with open_journal(tmp_path) as journal:
        await intend(journal, exchange)
        async with running_shipper(tmp_path, sink):
            pass
        assert sink.records == []
        async with running_shipper(tmp_path, sink):
            journal.finish(exchange)
            await until(lambda: sink.records)

    assert sink.records[0]["status"] == 200


async def test_a_restarted_shipper_neither_loses_nor_repeats(tmp_path: Path) -> None:
    """After a clean stop every record came exactly once, whatever was written in between."""
    sink = MemorySink()
    exchanges = [an_exchange() for _ in range(60)]
    async with open_journal(tmp_path) as journal:
        for turn in range(3):
            async with running_shipper(tmp_path, sink):
                for exchange in exchanges[turn * 20 : turn * 20 + 10]:
                    await complete(journal, exchange)
            for exchange in exchanges[turn * 20 + 10 : turn * 20 + 20]:
                await complete(journal, exchange)
    async with running_shipper(tmp_path, sink):
        pass

    assert sorted(sink.ids) == sorted(exchange.id for exchange in exchanges)
    assert [record["sequence"] for record in sink.records] == list(range(1, 61))


async def test_a_killed_shipper_loses_nothing(tmp_path: Path) -> None:
    """Cancelled at any moment: all records come, repeated ones with the same id and number."""
    sink = MemorySink()
    exchanges = [an_exchange() for _ in range(300)]
    async with open_journal(tmp_path) as journal:
        for exchange in exchanges:
            await complete(journal, exchange)
            if exchange.id in {other.id for other in exchanges[::60]}:
                shipper = Shipper(tmp_path, sinks=[sink], clock=SystemClock(), observe=lambda _: None)
                running = asyncio.ensure_future(shipper.run())
                sink.new_records.clear()
                await sink.new_records.wait()
                running.cancel()
                await asyncio.wait([running])
    async with running_shipper(tmp_path, sink):
        pass

    numbers = {record["id"]: record["sequence"] for record in sink.records}
    assert numbers.keys() == {exchange.id for exchange in exchanges}
    assert sorted(numbers.values()) == list(range(1, 301))
    assert len({(record["id"], record["sequence"]) for record in sink.records}) == 300


async def test_a_sink_that_is_away_holds_up_no_other(tmp_path: Path) -> None:
    """The other has everything meanwhile; back again, the first gets all of it in order."""
    away, well = MemorySink("away"), MemorySink("well")
    events: list[Event] = []
    away.available = False
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path, away, well, events=events) as shipper:
        for _ in range(100):
            await complete(journal, an_exchange())
        await until(lambda: len(well.records) == 100)
        assert away.records == []
        assert shipper.backlog_records == 100
        await until(lambda: [one.name for one in shipper.sinks if one.failing] == ["away"])

        away.available = True
        await until(lambda: len(away.records) == 100)
        await until(lambda: not any(one.failing for one in shipper.sinks))
        await until(lambda: shipper.backlog_records == 0)

    assert away.records == well.records
    assert events == [SinkFailed(sink="away", cause="switched off"), SinkRecovered(sink="away")]


async def test_what_a_sink_did_not_take_is_kept_over_a_restart(tmp_path: Path) -> None:
    """close() gives it a moment, and what is left comes with the next start."""
    sink = MemorySink()
    sink.available = False
    async with open_journal(tmp_path) as journal:
        async with running_shipper(tmp_path, sink, seconds=0.1):
            await complete(journal, an_exchange())
            await until(lambda: len(journal_lines(tmp_path)) == 2)
        sink.available = True
        async with running_shipper(tmp_path, sink):
            pass

    assert len(sink.records) == 1


async def test_a_sink_that_is_away_lets_the_spool_grow_to_its_bound_and_no_further(tmp_path: Path) -> None:
    """Then intents are refused; with the sink back everything that was taken arrives and service goes on."""
    spool_bytes = 16 * 1024 * 1024
    sink = MemorySink()
    sink.available = False
    exchanges = []
    async with (
        open_journal(tmp_path, spool_bytes=spool_bytes, durable=False) as journal,
        running_shipper(tmp_path, sink, seconds=20) as shipper,
    ):
        with contextlib.suppress(LogUnavailable):
            while True:
                exchange = an_exchange(path="/" + "x" * 2000)
                await complete(journal, exchange)
                exchanges.append(exchange)
                if len(exchanges) % 100 == 0:
                    await until(lambda: not journal._writer._inbox.qsize())
        assert spool_size(tmp_path) <= spool_bytes + 4 * 1024 * 1024

        sink.available = True
        await until(journal.usable)
        await complete(journal, an_exchange())
        await until(lambda: len(set(sink.ids)) >= len(exchanges))
        assert [(one.name, one.dropped) for one in shipper.sinks] == [("memory", 0)]

    assert {exchange.id for exchange in exchanges} <= set(sink.ids)


async def test_journals_are_removed_once_their_records_are_in_the_stream(tmp_path: Path) -> None:
    """Full segments go; the stream goes too once the sinks have it."""
    sink = MemorySink()
    async with (
        open_journal(tmp_path, spool_bytes=4 * 1024 * 1024) as journal,
        running_shipper(tmp_path, sink),
    ):
        for _ in range(1000):
            await complete(journal, an_exchange())
        await until(lambda: len(sink.records) == 1000)
        await until(lambda: len(list((tmp_path / "journal").glob("*.jsonl"))) == 1)


async def test_a_stream_that_cannot_be_written_leaves_everything_in_the_journals(tmp_path: Path) -> None:
    """It is said, and caught up on when it can."""
    sink = MemorySink()
    events: list[Event] = []
    (tmp_path / "stream" / "records-1.jsonl").mkdir(parents=True)
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path, sink, events=events):
        await complete(journal, an_exchange())
        await until(lambda: events)
        assert isinstance(events[0], StreamFailed)
        assert len(journal_lines(tmp_path)) >= 1

        (tmp_path / "stream" / "records-1.jsonl").rmdir()
        await until(lambda: sink.records)


async def test_no_sink_has_what_is_not_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that dies would give the same numbers and hashes to other records."""
    sink = MemorySink()
    async with open_journal(tmp_path, durable=False) as journal, running_shipper(tmp_path, sink) as shipper:
        await complete(journal, an_exchange())
        await until(lambda: len(sink.records) == 1)
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        await complete(journal, an_exchange())
        await until(lambda: shipper._stream.end.sequence == 2)
        await until(lambda: disk.syncs)
        assert len(sink.records) == 1

        disk.go.set()
        await until(lambda: len(sink.records) == 2)


async def test_what_the_disk_does_not_keep_is_handed_on_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO in each sync of the stream: once at the beginning and once at the end, and every record arrives."""
    sink = MemorySink()
    events: list[Event] = []
    (tmp_path / "journal").mkdir()
    disk = SlowDisk(monkeypatch)

    async def arrives(number: int) -> None:
        line = b'{"kind":"token","id":"%036d"}\n' % number
        write_command_record(tmp_path, line, entropy=SystemEntropy())
        await until(lambda: len(sink.records) == number)

    async with running_shipper(tmp_path, sink, events=events) as shipper:
        await until(lambda: shipper.caught_up)
        disk.error = OSError(5, "Input/output error")
        for number in (1, 2, 3):
            await arrives(number)
        disk.error = None
        await arrives(4)
        await until(lambda: not list((tmp_path / "journal").iterdir()))

    assert events == [StreamFailed(cause="Input/output error"), StreamRecovered()]
    assert [record["sequence"] for record in sink.records] == [1, 2, 3, 4]


async def test_positions_that_cannot_be_kept_hold_up_no_record(tmp_path: Path) -> None:
    """It is said once; a keeper killed now would tell records again, which is all there is to lose."""
    sink = MemorySink()
    events: list[Event] = []
    (tmp_path / "journal").mkdir()
    async with running_shipper(tmp_path, sink, events=events) as shipper:
        await until(lambda: shipper.caught_up)
        in_the_way = tmp_path / "stream" / "positions.new"
        in_the_way.mkdir()
        async with open_journal(tmp_path) as journal:
            await complete(journal, an_exchange())
            await until(lambda: len(sink.records) == 1)
            await until(lambda: events)
            await complete(journal, an_exchange())
            await until(lambda: len(sink.records) == 2)
        in_the_way.rmdir()
        await until(lambda: len(events) == 2)

    assert events == [StreamFailed(cause=f"Is a directory ({in_the_way})"), StreamRecovered()]


async def test_a_stream_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    """The sink that has to read it waits, and is given everything when it can."""
    sink = MemorySink()
    sink.available = False
    events: list[Event] = []
    file, hidden = tmp_path / "stream" / "records-1.jsonl", tmp_path / "hidden"
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path, sink, events=events) as shipper:
        await complete(journal, an_exchange())
        await until(lambda: shipper.backlog_records == 1)
        await complete(journal, an_exchange())
        await until(lambda: shipper.backlog_records == 2)
        file.rename(hidden)
        file.mkdir()
        sink.available = True
        await complete(journal, an_exchange())
        await until(lambda: shipper.backlog_records == 3)
        assert sink.records == []

        file.rmdir()
        hidden.rename(file)
        await until(lambda: len(sink.records) == 3)

    assert [type(event) for event in events] == [SinkFailed, SinkRecovered]


async def test_records_of_other_kinds_pass(tmp_path: Path) -> None:
    """The loss that a journal tells is a record like any other, and an event, so that an alert sees it."""
    sink = MemorySink()
    events: list[Event] = []
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path, sink, events=events):
        journal.finish(an_exchange(finished=math.inf))
        await until(lambda: sink.records)

    assert events == [RecordsLost(count=1)]

    assert sink.records[0]["event"] == "records_lost"
    assert sink.records[0]["sequence"] == 1


async def test_without_sinks_nothing_piles_up(tmp_path: Path) -> None:
    """All sinks may be switched off."""
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path) as shipper:
        await complete(journal, an_exchange())
        await until(lambda: shipper._stream.end.sequence == 1)
        assert shipper.backlog_records == 0


async def test_a_shipper_that_never_ran_can_be_closed(tmp_path: Path) -> None:
    """Start may have failed before."""
    sink = MemorySink()
    shipper = Shipper(tmp_path, sinks=[sink], clock=SystemClock(), observe=lambda _: None)

    await shipper.close()

    assert sink.closed


@pytest.mark.parametrize("torn", [b'{"kind":"exch', b'{"kind":"exchange","id":"' + b"0" * 36 + b'"'])
async def test_a_torn_last_line_of_a_dead_worker_is_cut(tmp_path: Path, torn: bytes) -> None:
    """It is no record, and nothing is put behind it."""
    exchange = an_exchange()
    async with open_journal(tmp_path) as journal:
        await complete(journal, exchange)
    with (tmp_path / "journal" / "w1-1.jsonl").open("ab") as file:
        file.write(torn)
    sink = MemorySink()

    async with running_shipper(tmp_path, sink):
        await until(lambda: sink.records)

    assert sink.ids == [exchange.id]
    assert all(json.loads(line) for line in (tmp_path / "stream" / "records-1.jsonl").read_bytes().splitlines())


@pytest.mark.thorough
async def test_what_every_sink_has_goes_though_positions_cannot_be_saved(tmp_path: Path) -> None:
    """On a full disk just that makes the room to save them."""
    sink = MemorySink()
    (tmp_path / "stream" / "positions.new").mkdir(parents=True)  # where they are written
    async with open_journal(tmp_path, durable=False) as journal, running_shipper(tmp_path, sink):
        for _ in range(90):
            for _ in range(50):
                await complete(journal, an_exchange(path="/" + "x" * 2000))
            await asyncio.sleep(0)
        await until(lambda: len(sink.records) == 4500)
        await until(lambda: not (tmp_path / "stream" / "records-1.jsonl").exists())
        (tmp_path / "stream" / "positions.new").rmdir()


async def test_a_journal_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    """Its path is named, and once it can be read its records come."""
    sink = MemorySink()
    events: list[Event] = []
    strange = tmp_path / "journal" / "x-1.jsonl"
    strange.parent.mkdir()
    strange.symlink_to("/dev/null")  # is not followed
    async with running_shipper(tmp_path, sink, events=events), open_journal(tmp_path) as journal:
        await complete(journal, first := an_exchange())
        await until(lambda: sink.ids == [first.id])
        assert [type(event) for event in events] == [StreamFailed]
        assert str(strange) in str(events[0])

        strange.unlink()
        await until(lambda: StreamRecovered() in events)
        await complete(journal, an_exchange())
        await until(lambda: len(sink.records) == 2)


class DefectiveSink(MemorySink):
    """Raises what no sink should."""

    async def write(self, batch: list[bytes]) -> None:
        """Fail."""
        raise KeyError(batch[0])

    async def close(self) -> None:
        """Fail."""
        raise KeyError("close")


async def test_a_defect_of_one_sink_is_no_end_for_keeper_and_others(tmp_path: Path) -> None:
    """It is told without a record's text; the sinks after it are closed, and `run` returns."""
    bad, good = DefectiveSink("bad"), MemorySink("good")
    events: list[Event] = []
    async with running_shipper(tmp_path, bad, good, events=events, seconds=0), open_journal(tmp_path) as journal:
        await complete(journal, an_exchange())
        await until(lambda: good.records)
        await until(lambda: events == [SinkFailed(sink="bad", cause="a defect of the proxy: KeyError")])

    assert good.closed
