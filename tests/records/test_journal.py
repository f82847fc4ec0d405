import asyncio
import math
import os
import threading
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import LogUnavailable
from tests.records.faults import SlowDisk
from tests.records.support import (
    an_exchange,
    complete,
    intend,
    intends,
    journal_lines,
    make_journal,
    open_journal,
    promised_until_killed,
    until,
)


async def test_an_intent_is_in_the_file_when_intend_returns(tmp_path: Path) -> None:
    """With all that is known of the exchange by then."""
    exchange = an_exchange()
    async with open_journal(tmp_path) as journal:
        await intend(journal, exchange)

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


@pytest.mark.parametrize("durable", [True, False])
async def test_intents_are_written_in_the_order_in_which_they_were_asked_for(tmp_path: Path, *, durable: bool) -> None:
    """Many in one turn of the loop, and turn after turn."""
    exchanges = [an_exchange() for _ in range(90)]
    async with open_journal(tmp_path, durable=durable) as journal:
        for at in range(0, 90, 30):
            assert all(await asyncio.gather(*(intends(journal, exchange) for exchange in exchanges[at : at + 30])))

    assert [line["id"] for line in journal_lines(tmp_path)] == [exchange.id for exchange in exchanges]


async def test_an_async_intent_does_not_stay_in_memory(tmp_path: Path) -> None:
    """One turn after `intend` it is on its way to the file, whatever holds up the loop from then on."""
    async with open_journal(tmp_path, durable=False) as journal:
        assert await intends(journal)
        await asyncio.sleep(0)

        # The loop stands still here: nothing but the thread can write it.
        end = SystemClock().monotonic() + 10
        while not journal_lines(tmp_path) and SystemClock().monotonic() < end:
            threading.Event().wait(0.005)

        assert journal_lines(tmp_path)


async def test_close_writes_the_intents_of_the_same_turn(tmp_path: Path) -> None:
    """What `intend` took is in the file, though nobody waited for it."""
    exchange = an_exchange()
    async with open_journal(tmp_path, durable=False) as journal:
        assert await intends(journal, exchange)

    assert [line["id"] for line in journal_lines(tmp_path)] == [exchange.id]


async def test_close_answers_those_who_wait(tmp_path: Path) -> None:
    """Intents that were asked for in the turn in which the journal is closed are on disk, and their tasks go on."""
    async with open_journal(tmp_path) as journal:
        waiting = [asyncio.ensure_future(intends(journal)) for _ in range(5)]
        await asyncio.sleep(0)

    assert await asyncio.gather(*waiting) == [True] * 5
    assert len(journal_lines(tmp_path)) == 5


async def test_no_record_comes_before_its_intent(tmp_path: Path) -> None:
    """Exchanges may end in the turn in which they began: a reader would take the intent for one without an end."""
    exchanges = [an_exchange() for _ in range(100)]
    async with open_journal(tmp_path, durable=False) as journal:
        for exchange in exchanges:
            await complete(journal, exchange)

    seen: set[str] = set()
    for line in journal_lines(tmp_path):
        assert line["kind"] == "intent" or line["id"] in seen
        seen.add(line["id"])
    assert len(seen) == 100


async def test_an_intent_whose_caller_leaves_in_the_same_turn_disturbs_no_other(tmp_path: Path) -> None:
    """Those that were asked for with it return."""
    async with open_journal(tmp_path) as journal:
        tasks = [asyncio.ensure_future(intends(journal)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()

        assert await tasks[0]
        assert await tasks[2]
    assert tasks[1].cancelled()


async def test_finish_never_waits_and_close_writes_everything(tmp_path: Path) -> None:
    """A thousand exchanges that end in one turn of the loop are all in the file after close."""
    exchanges = [an_exchange() for _ in range(1000)]
    async with open_journal(tmp_path) as journal:
        for exchange in exchanges:
            journal.finish(exchange)

    assert [line["id"] for line in journal_lines(tmp_path)] == [exchange.id for exchange in exchanges]


async def test_a_single_finished_exchange_does_not_wait_for_others(tmp_path: Path) -> None:
    """It is in the file some milliseconds later."""
    async with open_journal(tmp_path) as journal:
        journal.finish(an_exchange())

        await until(lambda: journal_lines(tmp_path), seconds=2)


async def test_a_record_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    """It takes no other record with it."""
    good = an_exchange()
    async with open_journal(tmp_path) as journal:
        journal.finish(an_exchange(finished=math.inf))
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


async def test_what_comes_while_the_journal_is_closed_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line behind the end does not keep the thread, and whoever waits for one hears that it is not on disk."""
    journal = make_journal(tmp_path)
    await journal.open()
    disk = SlowDisk(monkeypatch)
    disk.go.clear()
    first = asyncio.ensure_future(intends(journal))
    await until(lambda: disk.syncs == 1)
    closing = asyncio.ensure_future(journal.close())
    await asyncio.sleep(0)
    journal.note(b'{"kind":"token"}\n')
    late = asyncio.ensure_future(intends(journal))
    disk.go.set()

    async with asyncio.timeout(60):
        assert await first
        await closing
        await late
    assert not await intends(journal)


async def test_what_comes_during_the_last_sync_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends behind it and looks no more."""
    journal = make_journal(tmp_path)
    await journal.open()
    first, last = threading.Event(), threading.Event()
    gates, begun, real = iter((first, last)), [0], os.fdatasync

    def sync(descriptor: int) -> None:
        begun[0] += 1
        next(gates).wait(60)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    taken = [asyncio.ensure_future(intends(journal))]
    await until(lambda: begun == [1])
    taken.append(asyncio.ensure_future(intends(journal)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(journal.close())
    await asyncio.sleep(0)
    first.set()
    await until(lambda: begun == [2])
    gates = iter((last,))  # of the end
    late = [asyncio.ensure_future(intends(journal)), asyncio.ensure_future(journal.write(b'{"kind":"operation"}\n'))]
    await asyncio.sleep(0)
    last.set()

    async with asyncio.timeout(60):
        assert await asyncio.gather(*taken) == [True, True]
        await closing
        refused, error = await asyncio.gather(*late, return_exceptions=True)
    assert refused is False
    assert isinstance(error, LogUnavailable)
