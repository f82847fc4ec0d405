import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import Sent
from proxy.records.copies import lines_of
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.sinks.sqlite_file import EARLIER_RARE
from tests.records.kept import kept, operation, record
from tests.records.support import NOW


def month(folder: Path) -> Path:
    """Return a month with 23 exchanges with an index value each, of which 20 are sealed, and others."""
    exchanges = [record(NOW + number, index=(("request-id", f"r{number}"),)) for number in range(23)]
    lines = kept([*exchanges, operation(), b"{}", record(sent=Sent.UNKNOWN, status=504)])

    async def write() -> None:
        sink = SqliteSink(folder / "requests.db", seal_rows=10)
        for at in range(0, len(lines), 5):
            await sink.write(lines[at : at + 5])
        await sink.close()

    asyncio.run(write())
    [path] = folder.glob("requests-*.db")
    return path


def differences(path: Path) -> list[str]:
    """Return what is found to differ."""
    return [f"{line.place}: {line.differs}" for line in lines_of([path]) if line.differs]


def test_what_was_written_differs_in_nothing(tmp_path: Path) -> None:
    """Rows, seals and tables, also of what is no record."""
    assert differences(month(tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE records SET sent_upstream = 'no' WHERE rowid = 26", "row 26: sent_upstream is 'no' in the table"),
        ("UPDATE records SET caller = 'x' WHERE rowid = 3", "row 3: caller is 'x'"),
        ("UPDATE records SET kind = 'exchange' WHERE rowid = 24", "row 24: kind is 'exchange'"),
        ("UPDATE records SET status = 200 WHERE rowid = 26", "row 26: status is 200 in the table and 504"),
        ("UPDATE records SET id = zeroblob(16) WHERE rowid = 1", "row 1: id is 00000000000000000000000000000000"),
        ("DELETE FROM lookups WHERE seal = 1", "rows up to 10 lack 10 entries"),
        ("UPDATE lookups SET first = zeroblob(24) WHERE seal = 2", "rows up to 20 are not in order"),
        ("UPDATE seals SET last_row = 99 WHERE seal = 2", "rows up to 99 lack 3 entries"),
        ("DELETE FROM seals WHERE seal = 1", "rows up to 20 lack 10 entries"),
        ("UPDATE tallies SET failed = 0", "of 'erp' on 'payments' 24 requests (0 held back, 0 failed,"),
        ("DELETE FROM tallies", "nothing, by the records 24 requests (0 held back, 1 failed,"),
        ("UPDATE tallies SET caller = 'x'", "tallies differ from the records in 2 rows"),
        ("DROP INDEX records_rare", "index records_rare is missing"),
        (f"DROP INDEX records_rare; {EARLIER_RARE.replace('500', '501')}", "index records_rare is not the proxy's"),
        ("DROP INDEX records_rare; CREATE INDEX records_rare ON records (id)", "index records_rare is not the proxy's"),
        ("CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END", "trigger t is not the proxy's"),
    ],
)  # fmt: skip
def test_what_hides_a_record_from_searches_is_found(tmp_path: Path, change: str, told: str) -> None:
    """The record itself was not touched, so that the chain holds."""
    path = month(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(change)

    found = differences(path)

    assert any(told in one for one in found), found


def test_a_month_from_before_there_were_tallies_differs_in_nothing(tmp_path: Path) -> None:
    """Nobody makes that table in a month that has ended."""
    path = month(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE tallies")

    assert differences(path) == []


def test_a_month_that_an_earlier_version_began_differs_in_nothing(tmp_path: Path) -> None:
    """Its index of rare records begins at 500; making it anew would take long."""
    path = month(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"DROP INDEX records_rare; {EARLIER_RARE}")

    assert differences(path) == []
