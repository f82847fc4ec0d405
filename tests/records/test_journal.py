import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import LogUnavailable
from proxy.records.segment import Segment
from tests.records.support import Exchange, complete, journal_lines, make_journal, open_journal, until


def fill(path: Path) -> None:
    """Write to *path* until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size* bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def intends(journal: object, exchange: Exchange | None = None) -> bool:
    """Return whether an intent is taken."""
    exchange = exchange or Exchange()
    try:
        await journal.intend(exchange, exchange.attempts[0])  # type: ignore[attr-defined]
    except LogUnavailable:
        return False
    return True


class SlowDisk:
    """Holds up fdatasync until told, and counts; the real call follows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.error: OSError | None = None
        self.go = threading.Event()
        self.go.set()
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        self.syncs += 1
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        self._real(descriptor)


async def test_an_intent_is_in_the_file_when_intend_returns(tmp_path: Path) -> None:
    """With all that is known of the exchange by then."""
    exchange = Exchange()
    async with open_journal(tmp_path) as journal:
        await journal.intend(exchange, exchange.attempts[0])

        (line,) = journal_lines(tmp_path)

    assert line["kind"] == "intent"
    assert line["id"] == exchange.id
    assert line["attempt"] == 1
    assert line["path"] == exchange.path


async def test_intend_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent while fdatasync has not returned."""
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        waiting = asyncio.ensure_future(intends(journal))
        await until(lambda: disk.syncs)
        assert not waiting.done()

        disk.go.set()

        assert await waiting


async def test_intents_that_queue_up_during_a_sync_share_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred that come while one is written cost one more sync."""
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        first = asyncio.ensure_future(intends(journal))
        await until(lambda: disk.syncs == 1)
        rest = [asyncio.ensure_future(intends(journal)) for _ in range(100)]
        await until(lambda: journal._writer._inbox.qsize() == 100)

        disk.go.set()

        assert all(await asyncio.gather(first, *rest))
        assert disk.syncs == 2


async def test_async_durability_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is queued and written all the same."""
    async with open_journal(tmp_path, durable=False) as journal:
        disk = SlowDisk(monkeypatch)
        for _ in range(10):
            assert await intends(journal)
        await until(lambda: len(journal_lines(tmp_path)) == 10)
        assert disk.syncs == 0
        await until(lambda: disk.syncs == 1)


async def test_finish_never_waits_and_close_writes_everything(tmp_path: Path) -> None:
    """A thousand exchanges that end in one turn of the loop are all in the file after close."""
    exchanges = [Exchange() for _ in range(1000)]
    async with open_journal(tmp_path) as journal:
        for exchange in exchanges:
            journal.finish(exchange)

    assert [line["id"] for line in journal_lines(tmp_path)] == [exchange.id for exchange in exchanges]


async def test_a_single_finished_exchange_does_not_wait_for_others(tmp_path: Path) -> None:
    """It is in the file some milliseconds later."""
    async with open_journal(tmp_path) as journal:
        journal.finish(Exchange())

        await until(lambda: journal_lines(tmp_path), seconds=2)


async def test_a_record_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    """It takes no other record with it."""
    good = Exchange()
    async with open_journal(tmp_path) as journal:
        journal.finish(Exchange(finished="late"))  # type: ignore[arg-type]
        journal.finish(good)

    lost, told = journal_lines(tmp_path)
    assert (lost["kind"], lost["event"], lost["count"]) == ("lifecycle", "records_lost", 1)
    assert told["id"] == good.id


async def test_an_intent_that_nobody_waits_for_any_more_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller left during the sync: the others of the batch go on."""
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        left, stayed = (asyncio.ensure_future(intends(journal)) for _ in range(2))
        await until(lambda: disk.syncs)
        left.cancel()

        disk.go.set()

        assert await stayed


async def test_segments_follow_each_other(tmp_path: Path) -> None:
    """A full segment is cut to what it holds, the next one has its own reserve, no line is divided or lost."""
    async with open_journal(tmp_path, spool_bytes=1024 * 1024) as journal:
        for _ in range(200):
            await complete(journal, Exchange())
        paths = list((tmp_path / "journal").glob("*.jsonl"))
        assert len(paths) > 2
        assert sum(path.read_bytes().endswith(b"\0") for path in paths) == 1

    kinds = [line["kind"] for line in journal_lines(tmp_path)]
    assert kinds.count("intent") == kinds.count("exchange") == 200


async def test_a_record_larger_than_a_segment_is_written(tmp_path: Path) -> None:
    """It has a segment to itself."""
    exchange = Exchange(index=(("a", "x" * 2000), ("b", "y" * 2000), ("c", "z" * 2000)))
    async with open_journal(tmp_path, spool_bytes=65536) as journal:
        await complete(journal, exchange)

    assert [line["kind"] for line in journal_lines(tmp_path)] == ["intent", "exchange"]


async def test_a_journal_of_the_same_name_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    """Whatever an earlier process left torn is not written behind."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "w1-7.jsonl").write_bytes(b'{"kind":"inte')
    async with open_journal(tmp_path) as journal:
        await complete(journal, Exchange())

    assert (tmp_path / "journal" / "w1-7.jsonl").read_bytes() == b'{"kind":"inte'
    assert len(journal_lines(tmp_path)) == 2
    assert (tmp_path / "journal" / "w1-8.jsonl").exists()


async def test_a_failed_sync_poisons_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is refused, the file never touched again, and a new one opened when the disk is well."""
    async with open_journal(tmp_path) as journal:
        await complete(journal, Exchange())
        await until(lambda: len(journal_lines(tmp_path)) == 2)
        disk = SlowDisk(monkeypatch)
        disk.error = OSError(5, "Input/output error")
        refused = Exchange(status=503)
        assert not await intends(journal, refused)
        journal.finish(refused)
        assert not journal.usable()
        poisoned = (tmp_path / "journal" / "w1-1.jsonl").read_bytes()

        disk.error = None
        await until(journal.usable, seconds=3)
        assert await intends(journal)

        assert (tmp_path / "journal" / "w1-1.jsonl").read_bytes() == poisoned
        assert (tmp_path / "journal" / "w1-2.jsonl").exists()
        await until(lambda: refused.id in {line["id"] for line in journal_lines(tmp_path) if line["kind"] != "intent"})


async def test_a_disk_that_stays_broken_is_not_filled_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try removes the segment that it opened."""
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.error = OSError(5, "Input/output error")
        assert not await intends(journal)
        tries = disk.syncs
        await until(lambda: disk.syncs >= tries + 3)

        assert len(list((tmp_path / "journal").glob("*.jsonl"))) <= 2
        disk.error = None


async def test_a_full_disk_refuses_intents_until_there_is_room(small_disk: Path) -> None:
    """Everything is refused, reads too; with room again service comes back by itself within a second or so."""
    async with open_journal(small_disk, spool_bytes=8 * 1024 * 1024) as journal:
        taken = Exchange()
        await complete(journal, taken)
        fill(small_disk / "filler")
        kept = []
        # The reserve lasts for a while: what was promised room has it.
        while await intends(journal, exchange := Exchange()):
            kept.append(exchange)
        assert len(kept) > 100
        assert not journal.usable()
        journal.finish(refused := Exchange(status=503))
        with pytest.raises(LogUnavailable) as caught:
            await journal.intend(taken, taken.attempts[0])
        assert caught.value.status == 503
        assert caught.value.retry_after == 1
        assert "ENOSPC" in caught.value.cause

        (small_disk / "filler").unlink()
        await until(journal.usable, seconds=3)
        assert await intends(journal)
        await until(lambda: refused.id in {line["id"] for line in journal_lines(small_disk)})

    intents = {line["id"] for line in journal_lines(small_disk) if line["kind"] == "intent"}
    assert intents >= {exchange.id for exchange in kept}


async def test_a_journal_that_cannot_be_opened_serves_once_it_can(tmp_path: Path) -> None:
    """open() returns, nothing may be sent, and a later try succeeds."""
    with largest_file(0):
        journal = make_journal(tmp_path)
        await journal.open()
        assert not journal.usable()
        assert not await intends(journal)
        journal.finish(Exchange())
    await until(journal.usable, seconds=3)
    assert await intends(journal)
    await journal.close()


async def test_what_cannot_be_held_is_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished exchanges are held while the journal is broken; beyond the bound their number is recorded."""
    monkeypatch.setattr("proxy.records.writer.MOST_HELD_BYTES", 20_000)
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.error = OSError(5, "Input/output error")
        assert not await intends(journal)
        for _ in range(320):
            journal.finish(Exchange())
        await until(lambda: journal._writer.lost)
        await until(lambda: not journal._writer._inbox.qsize())
        disk.error = None
        await until(journal.usable, seconds=3)

    lines = journal_lines(tmp_path)
    (lost,) = [line for line in lines if line["kind"] == "lifecycle"]
    assert lost["event"] == "records_lost"
    assert lost["count"] + sum(line["kind"] == "exchange" for line in lines) == 320


async def test_the_spool_is_bounded(tmp_path: Path) -> None:
    """At spool_bytes intents are refused; when what is shipped goes away they are taken again."""
    spool_bytes = 512 * 1024
    async with open_journal(tmp_path, spool_bytes=spool_bytes) as journal:
        while await intends(journal):
            pass
        paths = sorted((tmp_path / "journal").glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        assert spool_bytes * 0.8 < sum(path.stat().st_size for path in paths) <= spool_bytes
        assert "spool_bytes" in journal._writer.cause

        for path in paths[:-1]:
            path.unlink()
        await until(journal.usable, seconds=3)
        assert await intends(journal)


async def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """An intent after close is refused and not lost in a queue."""
    async with open_journal(tmp_path) as journal:
        pass

    assert not journal.usable()
    assert not await intends(journal)


async def test_closing_a_journal_that_was_never_opened_does_nothing(tmp_path: Path) -> None:
    """Start may have failed before."""
    await make_journal(tmp_path).close()

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("turn", range(3))
async def test_every_intent_that_returned_survives_kill_9(tmp_path: Path, turn: int) -> None:
    """The witness is this process, over a pipe: each id that came through is in the file, whole."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.records.intending", str(tmp_path), f"w{turn}"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    with child.stdout as pipe:
        seen = [await asyncio.to_thread(pipe.readline) for _ in range(300 + 211 * turn)]
        child.send_signal(signal.SIGKILL)
        seen += await asyncio.to_thread(pipe.readlines)
    assert await asyncio.to_thread(child.wait) == -signal.SIGKILL

    promised = {line.decode().strip() for line in seen if line.endswith(b"\n")}
    found = {line["id"] for line in journal_lines(tmp_path, f"w{turn}")}
    assert len(promised) >= 300
    assert promised <= found
    # At most the eight tasks' last intents were on disk and not yet told.
    assert len(found - promised) <= 8


def test_a_reader_takes_no_part_of_a_line(tmp_path: Path) -> None:
    """A torn last line is not JSON, and the support of these tests sees it as the shipper does."""
    (tmp_path / "journal").mkdir()
    segment = Segment(tmp_path / "journal" / "w1-1.jsonl", reserve=4096)
    segment.append(json.dumps({"kind": "intent"}).encode() + b'\n{"kind":"ex')
    segment.abandon()

    assert journal_lines(tmp_path) == [{"kind": "intent"}]
