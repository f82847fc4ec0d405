import asyncio
import errno
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.records.sinks.sink import SinkUnavailable
from proxy.records.sinks.sqlite import SqliteSink, _step_back
from proxy.records.sinks.sqlite_file import month_files
from tests.records.faults import largest_file
from tests.records.kept import id_of, kept, record
from tests.records.support import NOW, an_exchange, complete, open_journal, running_shipper, until

JANUARY = "requests-2027-01.db"
NEXT = 1_801_440_000.0  # 2027-02-01


def stored(path: Path, column: str = "record") -> list[bytes]:
    """Return a column of what the file *path* holds, in the order in which it came."""
    connection = sqlite3.connect(path)
    try:
        return [value for (value,) in connection.execute(f"SELECT {column} FROM records ORDER BY rowid")]  # noqa: S608
    finally:
        connection.close()


def modes_in(directory: Path) -> dict[str, int]:
    """Return the files of *directory* with their modes."""
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


async def test_records_are_kept_byte_for_byte(tmp_path: Path) -> None:
    """In the file of their month, which only its owner reads."""
    lines = kept(record(NOW + number) for number in range(100))
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(lines[:60])
    await sink.write(lines[60:])
    modes = modes_in(tmp_path)
    await sink.close()

    assert stored(tmp_path / JANUARY) == lines
    assert modes == dict.fromkeys([JANUARY, f"{JANUARY}-wal", f"{JANUARY}-shm"], 0o600)
    assert list(modes_in(tmp_path)) == [JANUARY]


async def test_what_comes_twice_is_kept_once(tmp_path: Path) -> None:
    """The shipper delivers at least once."""
    lines = kept(record(NOW + number) for number in range(50))
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(lines)
    await sink.write(lines[20:])
    await sink.close()

    assert stored(tmp_path / JANUARY) == lines


async def test_each_month_has_its_file(tmp_path: Path) -> None:
    """Months may alternate around their turn; an old one is found again."""
    lines = kept(record(at) for at in (NEXT - 1, NEXT, NEXT - 0.5, NEXT + 1, NEXT + 31 * 86400, NEXT - 0.25))
    sink = SqliteSink(tmp_path / "requests.db")
    for line in lines:
        await sink.write([line])
    await sink.close()

    assert [str(month) for month, _ in month_files(tmp_path / "requests.db")] == ["2027-01", "2027-02", "2027-03"]
    assert stored(tmp_path / JANUARY) == [lines[0], lines[2], lines[5]]


async def test_at_most_three_indexes(tmp_path: Path) -> None:
    """Each costs every record time."""
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write([record()])
    connection = sqlite3.connect(tmp_path / JANUARY)
    indexes = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    connection.close()
    await sink.close()

    assert sorted(indexes) == [("records_caller",), ("records_id",), ("records_rare",)]


async def test_index_values_are_sealed_also_over_a_restart(tmp_path: Path) -> None:
    """A seal comes after so many rows, whoever wrote them."""
    lines = kept(record(NOW + number, index=(("request-id", f"r{number}"),)) for number in range(25))
    for at in range(0, 25, 5):
        sink = SqliteSink(tmp_path / "requests.db", seal_rows=10)
        await sink.write(lines[at : at + 5])
        await sink.close()
    connection = sqlite3.connect(tmp_path / JANUARY)
    seals = connection.execute("SELECT seal, last_row FROM seals").fetchall()
    entries = b"".join(piece for (piece,) in connection.execute("SELECT entries FROM lookups"))
    connection.close()

    assert seals == [(1, 10), (2, 20)]
    assert {entries[at + 8 : at + 24] for at in range(0, len(entries), 24)} == {id_of(line) for line in lines[:20]}


async def test_the_writer_steps_back(tmp_path: Path) -> None:
    """One thread of lower priority than keeper and workers, unless these have a lower one already."""
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write([record()])
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("sqlite sink")]
    nice = [os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) for thread in threads]
    await sink.close()

    def stepped_back_from(before: int) -> int:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), before)
        _step_back()
        return os.getpriority(os.PRIO_PROCESS, 0)

    assert nice == [max(10, os.getpriority(os.PRIO_PROCESS, 0))]
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(stepped_back_from, 19).result() == 19


async def test_a_writer_that_may_not_step_back_writes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seccomp filter, as of a systemd unit without @resources, refuses it: the database took no record at all."""

    def refused(*_: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setpriority", refused)
    sink = SqliteSink(tmp_path / "requests.db")
    lines = kept([record()])
    await sink.write(lines)
    await sink.close()

    assert stored(tmp_path / JANUARY) == lines


async def test_a_full_disk_makes_it_unavailable_until_there_is_room(tmp_path: Path) -> None:
    """Nothing of the batch is kept then, and all of it when it comes again."""
    lines = kept(record(NOW + number) for number in range(500))
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(lines[:1])
    with largest_file(200_000), pytest.raises(SinkUnavailable, match=JANUARY):
        await sink.write(lines[1:])
    assert stored(tmp_path / JANUARY) == lines[:1]

    await sink.write(lines[1:])
    await sink.close()

    assert stored(tmp_path / JANUARY) == lines


async def test_a_damaged_file_is_said_and_a_new_one_begun_once_it_is_moved_away(tmp_path: Path) -> None:
    """It is never deleted or written over by the proxy: there may be records to save."""
    path = tmp_path / JANUARY
    path.write_bytes(b"no database " * 1000)
    sink = SqliteSink(tmp_path / "requests.db")
    with pytest.raises(SinkUnavailable, match=r"damaged .* move it away"):
        await sink.write([record()])
    assert path.read_bytes() == b"no database " * 1000

    path.rename(tmp_path / "damaged")
    line = record()
    await sink.write([line])
    await sink.close()

    assert stored(path) == [line]


async def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    """As `logs prune` does while the proxy runs."""
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write([record()])
    for name in modes_in(tmp_path):
        (tmp_path / name).unlink()
    line = record()
    await sink.write([line])
    await sink.close()

    assert stored(tmp_path / JANUARY) == [line]


async def test_a_file_that_is_taken_away_at_the_last_moment_is_made_anew(tmp_path: Path) -> None:
    """After the sink looked for it: what went into the deleted file would be gone."""
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write([record()])
    path, line = tmp_path / JANUARY, record()

    def before(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            path.unlink()

    (open_file,) = sink._open.values()
    open_file._connection.set_trace_callback(before)
    await sink.write([line])
    await sink.close()

    assert stored(path) == [line]


async def test_a_missing_directory_makes_it_unavailable_until_it_is_there(tmp_path: Path) -> None:
    """The error names the file."""
    sink = SqliteSink(tmp_path / "logs" / "requests.db")
    with pytest.raises(SinkUnavailable, match=r"requests-2027-01\.db: No such"):
        await sink.write([record()])

    (tmp_path / "logs").mkdir()
    await sink.write([record()])
    await sink.close()


async def test_readers_hold_up_nothing(tmp_path: Path) -> None:
    """One that reads for long sees what was there, and the writer goes on."""
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(kept(record(NOW + number) for number in range(100)))
    reader = sqlite3.connect(tmp_path / JANUARY)
    rows = reader.execute("SELECT record FROM records")
    rows.fetchone()
    async with asyncio.timeout(60):
        await sink.write([record()])
    assert len(rows.fetchall()) == 99
    reader.close()
    await sink.close()


async def test_the_shipper_fills_it(tmp_path: Path) -> None:
    """From the journal, numbered, in order."""
    sink = SqliteSink(tmp_path / "requests.db")
    exchanges = [an_exchange() for _ in range(200)]
    async with open_journal(tmp_path) as journal, running_shipper(tmp_path, sink) as shipper:
        for exchange in exchanges:
            await complete(journal, exchange)
        await until(lambda: shipper._stream.end.sequence >= 200 and shipper.backlog_records == 0)

    ids = [f"{value.hex()}" for value in stored(tmp_path / JANUARY, "id")]
    assert ids == [exchange.id.replace("-", "") for exchange in exchanges]
