import asyncio
from pathlib import Path

import pytest

from proxy.errors import LogUnavailable
from proxy.records.journal import Journal
from proxy.records.journal_segments import reserve_of
from proxy.records.segment import segments
from tests.records.faults import SlowDisk, fill, largest_file
from tests.records.support import (
    an_attempt,
    an_exchange,
    complete,
    intend,
    intends,
    journal_lines,
    make_journal,
    open_journal,
    until,
)


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
        await until(journal._writer._inbox.qsize)

        disk.go.set()

        assert all(await asyncio.gather(first, *rest))
        assert disk.syncs == 2


async def test_segments_follow_each_other(tmp_path: Path) -> None:
    """A full segment is cut to what it holds, the next one has its own reserve, no line is divided or lost."""
    async with open_journal(tmp_path, spool_bytes=1024 * 1024) as journal:
        for _ in range(200):
            await complete(journal, an_exchange())

        def reserved() -> list[bool]:
            return [path.read_bytes().endswith(b"\0") for path in (tmp_path / "journal").glob("*.jsonl")]

        assert len(reserved()) > 2
        # While the thread changes segments, there are two for a moment.
        await until(lambda: sum(reserved()) == 1)

    kinds = [line["kind"] for line in journal_lines(tmp_path)]
    assert kinds.count("intent") == kinds.count("exchange") == 200


@pytest.mark.parametrize("workers", [1, 16, 100])
def test_what_all_journals_reserve_leaves_room_for_records(workers: int) -> None:
    """Also at a reload, where each worker has a successor, and with small and large spools."""
    for spool_bytes in (32 * 1024 * 1024, 1024**3, 1024**4):
        reserve = reserve_of(spool_bytes, workers=workers)
        assert 4096 <= reserve <= 64 * 1024 * 1024
        assert 2 * workers * reserve <= spool_bytes / 16


async def test_a_record_larger_than_a_segment_is_written(tmp_path: Path) -> None:
    """It has a segment to itself."""
    exchange = an_exchange(index=(("a", "x" * 2000), ("b", "y" * 2000), ("c", "z" * 2000)))
    async with open_journal(tmp_path, spool_bytes=65536) as journal:
        await complete(journal, exchange)

    assert [line["kind"] for line in journal_lines(tmp_path)] == ["intent", "exchange"]


async def test_a_journal_of_the_same_name_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    """Whatever an earlier process left torn is not written behind."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "w1-7.jsonl").write_bytes(b'{"kind":"inte')
    async with open_journal(tmp_path) as journal:
        await complete(journal, an_exchange())

    assert (tmp_path / "journal" / "w1-7.jsonl").read_bytes() == b'{"kind":"inte'
    assert len(journal_lines(tmp_path)) == 2
    assert (tmp_path / "journal" / "w1-8.jsonl").exists()


async def test_a_failed_sync_poisons_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is refused, the file never touched again, and a new one opened when the disk is well."""
    async with open_journal(tmp_path) as journal:
        await complete(journal, an_exchange())
        await until(lambda: len(journal_lines(tmp_path)) == 2)
        disk = SlowDisk(monkeypatch)
        disk.error = OSError(5, "Input/output error")
        refused = an_exchange(status=503)
        assert not await intends(journal, refused)
        journal.finish(refused)
        assert not journal.usable()
        poisoned = (tmp_path / "journal" / "w1-1.jsonl").read_bytes()

        disk.error = None
        await until(journal.usable)
        assert await intends(journal)

        assert (tmp_path / "journal" / "w1-1.jsonl").read_bytes() == poisoned
        await until(lambda: refused.id in {line["id"] for line in journal_lines(tmp_path) if line["kind"] != "intent"})


async def test_a_failed_sync_refuses_all_that_it_was_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty intents of one turn: none may be sent, and none is written when the disk is well again."""
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.error = OSError(5, "Input/output error")
        assert await asyncio.gather(*(intends(journal) for _ in range(20))) == [False] * 20

        disk.error = None
        await until(journal.usable)
        assert await intends(journal, taken := an_exchange())

    text = (tmp_path / "journal" / f"w1-{_last(tmp_path)}.jsonl").read_bytes()
    assert text.count(b"\n") == text.count(taken.id.encode()) == 1


async def test_a_disk_that_stays_broken_is_not_filled_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try removes the segment that it opened."""
    async with open_journal(tmp_path) as journal:
        disk = await _broken(journal, monkeypatch)

        assert len(list((tmp_path / "journal").glob("*.jsonl"))) <= 2
        disk.error = None


async def test_the_number_of_a_segment_that_is_gone_is_not_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper may have read some of it, and would pass over as much of another with its name."""
    async with open_journal(tmp_path) as journal:
        disk = await _broken(journal, monkeypatch)
        disk.error = None
        await until(lambda: intends(journal))

        assert _last(tmp_path) >= 4  # the first, two at least that were tried, and this


async def test_reads_are_synced_within_a_second_or_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if one comes after the other, so that there is never a second without."""
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        async with asyncio.timeout(60):
            while not disk.syncs:
                journal.finish(an_exchange(method="GET"))
                await asyncio.sleep(0.05)


async def test_a_full_disk_refuses_intents_until_there_is_room(small_disk: Path) -> None:
    """Everything is refused, reads too; with room again service comes back by itself within a second or so."""
    async with open_journal(small_disk, spool_bytes=8 * 1024 * 1024) as journal:
        taken = an_exchange()
        await complete(journal, taken)
        fill(small_disk / "filler")
        kept = []
        # The reserve lasts for a while: what was promised room has it.
        while await intends(journal, exchange := an_exchange()):
            kept.append(exchange)
        assert len(kept) > 100
        assert not journal.usable()
        journal.finish(refused := an_exchange(status=503))
        with pytest.raises(LogUnavailable) as caught:
            await intend(journal, taken)
        assert caught.value.status == 503
        assert caught.value.retry_after == 1
        assert "ENOSPC" in caught.value.cause

        (small_disk / "filler").unlink()
        await until(journal.usable)
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
        journal.finish(an_exchange())
    await until(journal.usable)
    assert await intends(journal)
    await journal.close()


async def test_what_cannot_be_held_is_counted_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished exchanges are held while the journal is broken; beyond the bound their number is recorded."""
    attempts = [an_attempt()] * 160  # 320 such records are more than MOST_KEPT_BYTES
    async with open_journal(tmp_path) as journal:
        disk = SlowDisk(monkeypatch)
        disk.error = OSError(5, "Input/output error")
        assert not await intends(journal)
        for _ in range(320):
            journal.finish(an_exchange(attempts=attempts))
        await until(lambda: journal._writer.lost)
        await until(lambda: not journal._writer._inbox.qsize())
        disk.error = None
        await until(journal.usable)

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
        await until(journal.usable)
        assert await intends(journal)


async def _broken(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """Return a disk that has failed an intent, and *journal* in two tries since; a third is under way."""
    disk = SlowDisk(monkeypatch)
    disk.error = OSError(5, "Input/output error")
    assert not await intends(journal)
    tries = disk.syncs
    await until(lambda: disk.syncs >= tries + 3)
    return disk


def _last(directory: Path) -> int:
    return max(number for _, number in segments(directory / "journal"))
