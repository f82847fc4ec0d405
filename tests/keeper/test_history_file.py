import asyncio
import os
from pathlib import Path

from proxy.keeper.history_file import NAME, HistoryFile
from proxy.telemetry.history import History
from tests.records.support import until
from tests.support.clock import ManualClock
from tests.telemetry.test_history import counts


def total(history: History) -> int:
    """Return the requests of the last half hour."""
    return sum(sum(one.results) for one in history.samples(2, number=6, together=1))


async def test_the_history_is_kept_over_a_restart(tmp_path: Path) -> None:
    """It is in a file for its owner only."""
    clock, said = ManualClock(), list[str]()
    history, again = History(clock=clock), History(clock=clock)
    history.add(counts(number=7))
    await HistoryFile(history, tmp_path, clock=clock, write_line=said.append).write()
    running = asyncio.create_task(HistoryFile(again, tmp_path, clock=clock, write_line=said.append).run())
    await until(lambda: total(again) == 7)
    running.cancel()

    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert said == []


async def test_a_damaged_history_is_said_and_replaced(tmp_path: Path) -> None:
    """The instance starts all the same."""
    clock, said = ManualClock(), list[str]()
    (tmp_path / NAME).write_bytes(os.urandom(100))
    history = History(clock=clock)
    running = asyncio.create_task(HistoryFile(history, tmp_path, clock=clock, write_line=said.append).run())
    await until(lambda: bool(said))
    history.add(counts())
    await clock.advance(300.0)
    await until(lambda: (tmp_path / NAME).stat().st_size > 100)
    running.cancel()

    assert "begins anew" in said[0]
    assert History(clock=clock).load((tmp_path / NAME).read_bytes())


async def test_a_history_that_can_not_be_written_is_said_once(tmp_path: Path) -> None:
    """A full disk must not fill the log."""
    said = list[str]()
    file = HistoryFile(History(clock=ManualClock()), tmp_path / "none", clock=ManualClock(), write_line=said.append)
    await file.write()
    await file.write()

    assert len(said) == 1
    assert "can't be written" in said[0]
