import asyncio
from pathlib import Path

import pytest

from tests.records.faults import SlowDisk
from tests.records.support import (
    Exchange,
    intends,
    journal_lines,
    make_journal,
    open_journal,
    promised_until_killed,
    until,
)


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


async def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """An intent after close is refused and not lost in a queue."""
    async with open_journal(tmp_path) as journal:
        pass

    assert not journal.usable()
    assert not await intends(journal)


async def test_closing_a_journal_that_was_never_opened_does_nothing(tmp_path: Path) -> None:
    """Start may have failed before."""
    await make_journal(tmp_path).close()

    assert journal_lines(tmp_path) == []


@pytest.mark.parametrize("turn", range(3))
async def test_every_intent_that_returned_survives_kill_9(tmp_path: Path, turn: int) -> None:
    """The witness is this process, over a pipe: each id that came through is in the file, whole."""
    promised = await promised_until_killed(tmp_path, f"w{turn}", intents=300 + 211 * turn)

    found = {line["id"] for line in journal_lines(tmp_path, f"w{turn}")}
    assert len(promised) >= 300
    assert promised <= found
    # At most the eight tasks' last intents were on disk and not yet told.
    assert len(found - promised) <= 8
