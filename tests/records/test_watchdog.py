"""A disk that hangs: fdatasync does not return, and reports no error."""

import asyncio
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import LogUnavailable
from proxy.records.journal import MOST_WAITING_BYTES
from proxy.request_summary import RequestSummary
from tests.records.faults import SlowDisk
from tests.records.support import (
    an_attempt,
    an_exchange,
    intend,
    intends,
    journal_lines,
    make_journal,
    open_journal,
    until,
)

SOON = 0.4  # seconds of exchange_timeout


async def test_who_waits_for_a_disk_that_hangs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are all that come after; when the disk is back they stay refused, and new ones are taken."""
    async with open_journal(tmp_path, exchange_timeout=SOON) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        waiting = [asyncio.ensure_future(intend(journal, _just_begun())) for _ in range(3)]
        for caught in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(caught, LogUnavailable)
            assert "the disk" in caught.cause
        await until(lambda: not journal.usable())
        assert "has not answered for 0.4 s" in journal.problem
        assert not await intends(journal)

        disk.go.set()

        await until(journal.usable)
        assert await intends(journal, _just_begun())
        assert journal.problem == ""


async def test_an_intent_waits_no_longer_than_its_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that began long ago little is left, though the disk is not given up yet; the others wait on."""
    async with open_journal(tmp_path, exchange_timeout=8.0) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        young = asyncio.ensure_future(intends(journal, _just_begun()))
        old = asyncio.ensure_future(intend(journal, _just_begun(before=8.0)))
        with pytest.raises(LogUnavailable) as caught:
            await old
        assert "exchange_timeout" in caught.value.cause
        assert not young.done()
        assert journal.usable()

        disk.go.set()

        assert await young


async def test_what_the_keeper_writes_waits_no_longer_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on record does not happen."""
    async with open_journal(tmp_path, exchange_timeout=SOON) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        with pytest.raises(LogUnavailable):
            await journal.write(b'{"kind":"operation"}\n')
        disk.go.set()


async def test_close_gives_up_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is refused; what was finished before is in the file once the disk answers."""
    journal = make_journal(tmp_path, exchange_timeout=SOON)
    await journal.open()
    disk = SlowDisk(monkeypatch)
    disk.go.clear()
    waiting = asyncio.ensure_future(intends(journal, _just_begun()))
    await until(lambda: disk.syncs)
    journal.finish(finished := an_exchange())

    assert not await journal.close()
    assert not await waiting
    disk.go.set()
    await until(lambda: journal._writer.ended)
    assert await journal.close()
    assert finished.id in {line["id"] for line in journal_lines(tmp_path)}


async def test_a_disk_that_hangs_at_the_start_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be sent; service begins when it answers."""
    disk = SlowDisk(monkeypatch)
    disk.go.clear()
    journal = make_journal(tmp_path, exchange_timeout=SOON)
    await journal.open()
    assert not journal.usable()
    disk.go.set()
    await until(journal.usable)
    assert await journal.close()


async def test_what_waits_for_a_disk_that_hangs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads are refused when much waits, before the disk is given up; what can't be kept is counted and told."""
    attempts = [an_attempt()] * 2000  # a record of some 150 KB
    async with open_journal(tmp_path, spool_bytes=8 * 1024**3) as journal:
        disk = SlowDisk(monkeypatch)
        disk.go.clear()
        waiting = asyncio.ensure_future(intends(journal, _just_begun()))
        await until(lambda: disk.syncs)
        finished = 0
        while journal._writer.queued <= MOST_WAITING_BYTES:
            journal.finish(an_exchange(attempts=attempts))
            finished += 1
        queued = journal._writer.queued
        await until(lambda: "wait for the disk" in journal.problem)
        for _ in range(64):
            journal.finish(an_exchange(attempts=attempts))
        journal.note(b'{"kind":"token"}\n')
        assert journal._writer.queued == queued

        disk.go.set()

        await until(lambda: not journal._writer.queued)
        assert await waiting
        await until(journal.usable)
        assert await intends(journal, _just_begun())

    lines = journal_lines(tmp_path)
    (lost,) = [line for line in lines if line["kind"] == "lifecycle"]
    kept = sum(line["kind"] == "exchange" for line in lines)
    # Records are built a few at a time: some that were finished before were not built when there was no more room.
    assert (lost["event"], lost["count"]) == ("records_lost", finished - kept + 65)
    assert 0 < kept <= finished


def _just_begun(*, before: float = 0.0) -> RequestSummary:
    return an_exchange(started=SystemClock().monotonic() - before)
