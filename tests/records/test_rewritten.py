"""Lines that a worker writes again, since their sync failed: the keeper may have read them from the page cache."""

import asyncio
import fcntl
import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.records.journal import Journal
from proxy.records.journal_segments import LAZY_SYNC_SECONDS, MOST_UNSYNCED_BYTES, JournalSegments
from proxy.records.journal_tail import JournalTail
from proxy.records.rewritten import FirstWrite
from proxy.records.segment import segment_path
from proxy.records.stream import Progress
from proxy.request_summary import RequestSummary
from tests.records.support import SPOOL_BYTES, an_attempt, an_exchange, intends, journal_lines, open_journal, until
from tests.records.test_merge import Reader
from tests.support.clock import ManualClock

INTENTS = b'{"kind":"intent","id":"%036d"}\n' % 7


class JournalDisk:
    """Fails each sync of a journal that begins while `failing`; `reads` is called in it, before the error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.failed = 0
        self.failing = False
        self.reads: Callable[[int], None] = lambda _: None
        self.go = threading.Event()
        self.go.set()
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        """Sync *descriptor*, or fail."""
        if "/journal/" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            self._real(descriptor)
            return
        self.syncs += 1
        failing = self.failing
        self.go.wait(10)
        if failing:
            self.failed += 1
            self.reads(self.failed)
            raise OSError(5, "Input/output error")
        self._real(descriptor)


class Keeper:
    """Reads the journals during the failed syncs with the numbers *moments*, each time anew if it *restarts*."""

    def __init__(self, directory: Path, moments: set[int], *, restarts: bool) -> None:
        self._directory = directory
        self._moments = moments
        self._restarts = restarts
        self._reader = Reader(directory)

    def read(self, failed: int) -> None:
        """Read during the *failed*-th sync that fails."""
        if failed in self._moments:
            self.pump()

    def pump(self) -> None:
        """Read what there is."""
        if self._restarts:
            self._reader.stream.close()
            self._reader = Reader(self._directory)
        while not self._reader.merger.pump():
            pass
        self._reader.stream.sync()

    def taken(self) -> list[str]:
        """Return the ids of all that was read."""
        return [line["id"] for line in self.taken_lines()]

    def taken_lines(self) -> list[dict[str, Any]]:
        """Return all that was read."""
        self._reader.merger.end("w1")
        self.pump()
        self._reader.stream.close()
        paths = sorted((self._directory / "stream").glob("records-*.jsonl"), key=lambda path: int(path.stem[8:]))
        lines = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
        return [line for line in lines if line["kind"] != "position"]


@pytest.mark.parametrize("restarts", [False, True], ids=["one keeper", "a new keeper each time"])
@pytest.mark.parametrize(
    "moments", [set(), {1}, {2}, {3}, {1, 3}, set(range(1, 100))], ids=lambda moments: f"{sorted(moments)[:4]}"
)
async def test_a_record_whose_sync_failed_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments: set[int], *, restarts: bool
) -> None:
    """Read from the abandoned segment (the first moment), from one of a failed try (later ones), or only at the end."""
    keeper = Keeper(tmp_path, moments, restarts=restarts)
    async with open_journal(tmp_path) as journal:
        disk = JournalDisk(monkeypatch)
        disk.reads = keeper.read
        finished = await _batch_that_fails(journal, disk)
        await until(lambda: disk.failed >= 3)
        finished.append(an_exchange(method="GET"))
        journal.finish(finished[-1])
        await until(lambda: disk.failed >= 5)
        disk.failing = False
        await until(journal.usable)
        if restarts:
            await asyncio.to_thread(keeper.pump)
        last = an_exchange()
        assert await intends(journal, last)
        journal.finish(last)

    assert keeper.taken() == [exchange.id for exchange in [*finished, last]]
    assert journal_lines(tmp_path) == []


@pytest.mark.parametrize("reads", [False, True], ids=["not read before", "read before"])
@pytest.mark.parametrize("by_intent", [False, True], ids=["by the clock", "by an intent"])
async def test_records_that_a_failed_sync_was_also_for_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_intent: bool, reads: bool
) -> None:
    """They were written up to a second before; what the disk has of them after the failure is nothing."""
    keeper = Keeper(tmp_path, {1} if reads else set(), restarts=False)

    def lose(failed: int) -> None:
        keeper.read(failed)
        if failed == 1:
            [segment] = (tmp_path / "journal").glob("*.jsonl")
            size = segment.stat().st_size
            segment.write_bytes(bytes(size))

    async with open_journal(tmp_path) as journal:
        disk = JournalDisk(monkeypatch)
        disk.failing, disk.reads = True, lose
        finished = [an_exchange(method="GET") for _ in range(3)]
        for exchange in finished:
            journal.finish(exchange)
            journal._flush()
            await until(lambda: not journal._writer.queued)
        if by_intent:
            finished.append(an_exchange(status=503))
            assert not await intends(journal, finished[-1])
            journal.finish(finished[-1])
        await until(lambda: disk.failed >= 2)
        disk.failing = False
        await until(journal.usable)

    assert keeper.taken() == [exchange.id for exchange in finished]


def test_what_is_held_for_it_is_bounded(tmp_path: Path) -> None:
    """Beyond some megabytes it is synced before the second is over, and then let go."""
    clock = ManualClock()
    written = JournalSegments(
        tmp_path, worker="w1", spool_bytes=4 * SPOOL_BYTES, reserve=2 * MOST_UNSYNCED_BYTES, monotonic=clock.monotonic
    )
    (tmp_path / "journal").mkdir()
    written.append(b"first\n", sync=False)
    written.append(bytes(MOST_UNSYNCED_BYTES - 7) + b"\n", sync=False)
    assert written.sync_at == clock.monotonic() + LAZY_SYNC_SECONDS
    assert [at for at, _ in written.unsynced] == [0, 6]

    written.append(b"one more\n", sync=False)
    assert written.sync_at == clock.monotonic()
    written.sync()

    assert (written.unsynced, written.sync_at) == ([], math.inf)
    written.append(b"next\n", sync=False)
    assert written.sync_at == clock.monotonic() + LAZY_SYNC_SECONDS
    written.close()


async def test_a_second_failure_right_after_the_first_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written again is on disk; the next failure is about other lines."""
    keeper = Keeper(tmp_path, set(range(1, 100)), restarts=False)
    finished = []
    async with open_journal(tmp_path) as journal:
        disk = JournalDisk(monkeypatch)
        disk.reads = keeper.read
        for _ in range(3):
            finished += await _batch_that_fails(journal, disk)
            await _tries(disk, 2)
            disk.failing = False
            await until(journal.usable)

    assert keeper.taken() == [exchange.id for exchange in finished]


async def test_what_was_lost_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the keeper reads what each try writes: two numbers would add up to more than was lost."""
    keeper = Keeper(tmp_path, set(range(1, 100)), restarts=False)
    attempts = [an_attempt()] * 160  # 320 such records are more than MOST_KEPT_BYTES
    async with open_journal(tmp_path) as journal:
        disk = JournalDisk(monkeypatch)
        disk.reads = keeper.read
        disk.failing = True
        refused = an_exchange(status=503)
        assert not await intends(journal, refused)
        journal.finish(refused)
        for _ in range(320):
            journal.finish(an_exchange(attempts=attempts))
        await until(lambda: journal._writer.lost and not journal._finished and not journal._writer._inbox.qsize())
        await _tries(disk, 3)
        disk.failing = False
        await until(journal.usable)

    taken = keeper.taken_lines()
    [lost] = [line for line in taken if line["kind"] == "lifecycle"]
    assert lost["event"] == "records_lost"
    assert lost["count"] + len({line["id"] for line in taken if line["kind"] == "exchange"}) == 321
    assert len(taken) == len({line["id"] for line in taken})


@pytest.mark.parametrize("read", range(7))
def test_a_reader_continues_behind_what_it_has_read(tmp_path: Path, read: int) -> None:
    """However many lines of the failed batch were there when it looked, those of refused intents among them."""
    lines = [b'{"kind":"exchange","id":"%036d"}\n' % number for number in range(6)]
    old, batch, copies, new = lines[0], [lines[1], INTENTS, lines[2], INTENTS, lines[3]], lines[1:4], lines[4:]
    first = segment_path(tmp_path, "w1", 1)
    tail = JournalTail(tmp_path, "w1", positions={}, carried=[])
    first.write_bytes(b"".join([old, *batch][:read]))
    taken, _ = tail.read([1])

    write = FirstWrite()
    write.begin(1)
    at = len(old)
    for line in batch:
        if line != INTENTS:
            write.add(at, len(line))
        at += len(line)
    first.write_bytes(b"".join([old, *batch][: max(read, 1)]))
    segment_path(tmp_path, "w1", 2).write_bytes(b"".join([write.header(), *copies, *new]))
    more, _ = tail.read([1, 2])

    assert taken + more == lines


@pytest.mark.parametrize("header", [b'{"kind":"rewritten"\n', b'{"kind":"rewritten","segment":1,"ranges":[7]}\n'])
def test_after_a_header_that_a_disk_has_changed_all_is_read(tmp_path: Path, header: bytes) -> None:
    """A record that comes twice is better than one that never comes."""
    lines = [b'{"kind":"exchange","id":"%036d"}\n' % number for number in range(3)]
    segment_path(tmp_path, "w1", 1).write_bytes(header + b"".join(lines))

    assert JournalTail(tmp_path, "w1", positions={}, carried=[]).read([1]) == (lines, True)


def test_a_new_keeper_knows_what_was_read_of_removed_segments(tmp_path: Path) -> None:
    """While its disk fails a running worker has no segment at times, and records of other workers go on."""
    journals = tmp_path / "journal"
    journals.mkdir()
    lines = [b'{"kind":"exchange","id":"%036d"}\n' % number for number in range(5)]
    write = FirstWrite()
    write.begin(1)
    write.add(0, len(lines[0]))
    with (journals / "w1.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        segment_path(journals, "w1", 1).write_bytes(lines[0])
        segment_path(journals, "w1", 2).touch()
        _pump_anew(tmp_path)
        assert not segment_path(journals, "w1", 1).exists()
        segment_path(journals, "w1", 2).unlink()
        for number in (1, 2):
            segment_path(journals, f"other{number}", 1).write_bytes(lines[number])
            _pump_anew(tmp_path)
        segment_path(journals, "w1", 3).write_bytes(b"".join([write.header(), lines[0], *lines[3:]]))
        _pump_anew(tmp_path)

    reader = _pump_anew(tmp_path)
    assert reader.take() == [json.loads(line)["id"] for line in lines]
    assert list(journals.glob("*.jsonl")) == []
    assert reader.merger._current() == Progress()


def _pump_anew(directory: Path) -> Reader:
    reader = Reader(directory)
    while not reader.merger.pump():
        pass
    reader.stream.sync()
    reader.stream.close()
    return reader


async def _tries(disk: JournalDisk, number: int) -> None:
    """Return once *number* more syncs have failed."""
    failed = disk.failed
    await until(lambda: disk.failed >= failed + number)


async def _batch_that_fails(journal: Journal, disk: JournalDisk) -> list[RequestSummary]:
    """Write finished exchanges in one batch with an intent whose sync fails; return all that have ended, in order."""
    sent, refused = an_exchange(), an_exchange(status=503)
    before = disk.syncs
    disk.go.clear()
    sending = asyncio.ensure_future(intends(journal, sent))
    await until(lambda: disk.syncs == before + 1)
    disk.failing = True
    finished = [an_exchange(method="GET") for _ in range(3)]
    for exchange in finished:
        journal.finish(exchange)
        journal._flush()
    refusing = asyncio.ensure_future(intends(journal, refused))
    await until(lambda: journal._writer._inbox.qsize() == len(finished) + 1)
    disk.go.set()
    assert await sending
    assert not await refusing
    journal.finish(sent)
    journal.finish(refused)
    return [*finished, sent, refused]
