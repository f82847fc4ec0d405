import asyncio
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from proxy.records.archives import sqlite
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.archives.sqlite_month import MonthReader, opened_month
from proxy.records.copies import lines_of
from proxy.records.months import Month
from proxy.records.query import END_ID, ArchiveUnusable, Query, StatusRange, indexed
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.sinks.sqlite_file import EARLIER_RARE, open_at_rest
from tests.records.kept import id_of, kept, record
from tests.records.sinks.test_sqlite import modes_in
from tests.records.support import NOW

JANUARY = "requests-2027-01.db"


async def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither changed bytes nor files beside, whether the proxy runs or not."""
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write([record()])
    await sink.close()
    before = (tmp_path / JANUARY).read_bytes()
    archive = SqliteArchive(tmp_path / "requests.db")

    assert len((await archive.page(Query(), before=None, size=10)).records) == 1
    assert list(modes_in(tmp_path)) == [JANUARY]
    assert (tmp_path / JANUARY).read_bytes() == before


async def test_what_a_killed_proxy_left_in_the_wal_is_found(tmp_path: Path) -> None:
    """A WAL that nobody has open is read too."""
    sink = SqliteSink(tmp_path / "requests.db")
    line = record()
    await sink.write([line])
    (tmp_path / "copy").mkdir()
    for name in (JANUARY, f"{JANUARY}-wal"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    await sink.close()

    page = await SqliteArchive(tmp_path / "copy" / "requests.db").page(Query(), before=None, size=10)
    assert page.records == [line]


async def test_a_database_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    """Before the first record, and before the first start."""
    for database in (tmp_path / "requests.db", tmp_path / "none" / "requests.db"):
        archive = SqliteArchive(database)
        assert (await archive.page(Query(), before=None, size=10)).records == []
        assert await archive.months() == []
        assert await archive.new_records() == []


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """Whatever is asked."""
    (tmp_path / JANUARY).write_bytes(b"no database" * 100)
    archive = SqliteArchive(tmp_path / "requests.db")
    with pytest.raises(ArchiveUnusable, match=JANUARY):
        await archive.page(Query(), before=None, size=10)


async def test_values_that_json_escapes_are_found(tmp_path: Path) -> None:
    """Before they are sealed and after."""
    values = ['a"b', "c\\d", "e\tf", "äöü", "x" * 300, "a%b_c"]
    lines = kept(record(NOW + at, index=(("request-id", value),)) for at, value in enumerate(values))
    for seal_rows in (1, 1000):
        directory = tmp_path / str(seal_rows)
        directory.mkdir()
        sink = SqliteSink(directory / "requests.db", seal_rows=seal_rows)
        await sink.write(lines)
        await sink.close()
        archive = SqliteArchive(directory / "requests.db")
        for line, value in zip(lines, values, strict=True):
            query = Query(indexed=(indexed("request-id", value, None),))
            assert (await archive.page(query, before=None, size=10)).records == [line]


async def test_a_value_of_many_records_is_found_the_newest_first_across_seals(tmp_path: Path) -> None:
    """Though each seal has its own stretch of them, and records come in other orders than they began."""
    times = [NOW + (number * 37 % 500) for number in range(500)]
    lines = kept(record(at, index=(("merchant-id", "m"),)) for at in times)
    sink = SqliteSink(tmp_path / "requests.db", seal_rows=64)
    for at in range(0, 500, 50):
        await sink.write(lines[at : at + 50])
    await sink.close()

    page = await SqliteArchive(tmp_path / "requests.db").page(
        Query(indexed=(indexed("merchant-id", "m", None),)), before=None, size=100
    )
    newest = sorted(zip(times, lines, strict=True), reverse=True)[:100]
    assert page.records == [line for _, line in newest]


async def missing(database: Path, count: int) -> list[int]:
    """Return which of the request ids r0, r1, ... nothing is found by."""
    archive = SqliteArchive(database)
    queries = [Query(indexed=(indexed("request-id", f"r{number}", None),)) for number in range(count)]
    return [at for at, query in enumerate(queries) if not (await archive.page(query, before=None, size=1)).records]


async def test_a_caller_hides_no_records_of_others(tmp_path: Path) -> None:
    """By a value that stands three hundred times in a header."""
    records = [record(NOW + number, index=(("request-id", f"r{number}"),)) for number in range(500)]
    sink = SqliteSink(tmp_path / "requests.db", seal_rows=500)
    await sink.write(kept([*records, record(index=(("request-id", ", ".join(["x"] * 300)),))]))
    await sink.close()

    assert await missing(tmp_path / "requests.db", 500) == []


async def test_what_is_offered_often_hides_nothing(tmp_path: Path) -> None:
    """A batch comes again for as long as another sink of it is away."""
    lines = kept(record(NOW + number, index=(("request-id", f"r{number}"),)) for number in range(100))
    sink = SqliteSink(tmp_path / "requests.db", seal_rows=100)
    for _ in range(100):
        await sink.write(lines[:50])
    await sink.write(lines[50:])
    await sink.close()

    assert await missing(tmp_path / "requests.db", 100) == []


async def test_a_seal_that_is_written_while_somebody_searches_hides_nothing(tmp_path: Path) -> None:
    """Between the look into the seals and that into what is not sealed yet."""
    lines = kept(record(NOW + number, index=(("request-id", f"r{number}"),)) for number in range(100))
    sink = SqliteSink(tmp_path / "requests.db", seal_rows=100)
    await sink.write(lines[:50])
    query = Query(indexed=(indexed("request-id", "r7", None),))
    seals: list[str] = []

    def before(statement: str) -> None:
        if "instr(record" in statement:
            sink._write(lines[50:])
            seals.append(statement)

    with opened_month(tmp_path / JANUARY) as file:
        file._connection.set_trace_callback(before)
        found = [found for _, found in file.candidates(query, end=END_ID)]
    await sink.close()

    assert len(seals) == 1
    assert found == [lines[7]]


async def test_a_file_without_tables_is_one_without_records(tmp_path: Path) -> None:
    """The disk was full, or the keeper killed, when they were to be made; the other months are read on."""
    line = record()
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write([line])
    await sink.close()
    (tmp_path / "requests-2027-02.db").touch()
    archive = SqliteArchive(tmp_path / "requests.db")

    assert (await archive.page(Query(), before=None, size=10)).records == [line]
    assert (await archive.page(Query(indexed=(indexed("a", "b", None),)), before=None, size=10)).records == []
    assert await archive.oldest() is not None
    assert await archive.tallies(["reports"], since=0) == []
    assert await archive.new_records() == []
    assert await archive.ranges(Month(2027, 2)) == (0, [])
    await archive.forget(Month(2027, 2), records=0)
    assert list(modes_in(tmp_path)) == [JANUARY]


async def test_a_renamed_month_is_searched_and_pruned_by_what_is_in_it(tmp_path: Path) -> None:
    """Nothing is hidden by a file's name, and nothing goes that is not old; `logs verify` says what was renamed."""
    lines = kept(record(NOW + number) for number in range(4))
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(lines[:2])
    await sink.close()
    (tmp_path / "requests-2027-01.db").rename(tmp_path / "requests-2020-05.db")
    await sink_again(tmp_path, lines[2:])
    archive = SqliteArchive(tmp_path / "requests.db")

    first = await archive.page(Query(since=NOW), before=None, size=3)
    second = await archive.page(Query(since=NOW), before=first.before, size=3)
    assert [*first.records, *second.records] == lines[::-1]
    assert [await archive.by_id(id_of(line)) for line in lines] == lines
    assert await archive.months() == [Month(2027, 1)]
    records, _ = await archive.ranges(Month(2027, 1))
    assert records == 4
    differs = [line.differs for line in lines_of([tmp_path / "requests-2020-05.db"]) if line.differs]
    assert differs == ["2 records are not of the month that the file is named after: was it renamed?"]
    await archive.forget(Month(2027, 1), records=4)
    assert await archive.months() == []


async def test_months_that_are_over_are_not_opened_to_be_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files that may be written they would cost each page milliseconds; a WAL is looked into all the same."""
    lines = kept(record(NOW - number * 31 * 86400) for number in range(12))
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(lines[1:])
    await sink.close()
    late = SqliteSink(tmp_path / "requests.db")
    await late.write(lines[:1])
    opened: list[Path] = []

    def noted(path: Path) -> AbstractContextManager[MonthReader]:
        opened.append(path)
        return opened_month(path)

    monkeypatch.setattr(sqlite, "opened_month", noted)
    page = await SqliteArchive(tmp_path / "requests.db").page(Query(since=NOW - 3600), before=None, size=10)
    await late.close()

    assert page.records == lines[:1]
    assert set(opened) == {tmp_path / JANUARY}


async def test_a_month_that_is_written_while_it_is_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of it without a lock may be anything."""
    lines = kept(record(NOW + number) for number in range(2))
    await sink_again(tmp_path, lines[:1])
    newest = SqliteSink(tmp_path / "requests.db")

    def written(path: Path) -> sqlite3.Connection:
        connection = open_at_rest(path)
        connection.execute("SELECT min(id) FROM records").fetchall()
        asyncio.run(newest.write(lines[1:]))
        return connection

    monkeypatch.setattr(sqlite, "open_at_rest", written)
    page = await SqliteArchive(tmp_path / "requests.db").page(Query(since=NOW + 1), before=None, size=10)
    await newest.close()

    assert page.records == lines[1:]


async def sink_again(folder: Path, lines: list[bytes]) -> None:
    """Write *lines* as a proxy does that was started again."""
    sink = SqliteSink(folder / "requests.db")
    await sink.write(lines)
    await sink.close()


@pytest.mark.parametrize(("low", "high", "expected"), [(400, 499, 1), (404, 404, 1), (500, 599, 2), (503, 503, 0)])
async def test_a_month_that_an_earlier_version_began_is_searched_by_status(
    tmp_path: Path, low: int, high: int, expected: int
) -> None:
    """Its index of rare records lacks 4xx; they are looked for in all."""
    lines = kept([record(NOW), record(NOW + 1, status=404), record(NOW + 2, status=504), record(NOW + 3, status=500)])
    sink = SqliteSink(tmp_path / "requests.db")
    await sink.write(lines)
    await sink.close()
    with closing(sqlite3.connect(tmp_path / JANUARY)) as connection:
        connection.executescript(f"DROP INDEX records_rare; {EARLIER_RARE}")

    page = await SqliteArchive(tmp_path / "requests.db").page(
        Query(status=StatusRange(low, high)), before=None, size=10
    )
    assert len(page.records) == expected
