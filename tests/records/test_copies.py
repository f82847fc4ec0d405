import asyncio
import json
from pathlib import Path

import pytest

from proxy.records.copies import CopyUnreadable, database_lines, lines_of, record_in
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.stream import Progress, Stream
from tests.records.chains import Writer, told, verdict, whole
from tests.records.kept import record
from tests.records.support import an_exchange


def jsonl(path: Path, lines: list[bytes]) -> Path:
    """Write *lines* to *path*."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def sequences(found: list[bytes]) -> list[int]:
    """Return the numbers of records."""
    return [json.loads(line)["sequence"] for line in found]


async def stored(database: Path, lines: list[bytes]) -> None:
    """Write *lines* to an SQLite database."""
    sink = SqliteSink(database)
    for at in range(0, len(lines), 7):
        await sink.write(lines[at : at + 7])
    await sink.close()


def test_rotated_files_are_read_in_the_order_of_their_records(tmp_path: Path) -> None:
    """However a shell sorts their names; places name file and line."""
    lines = whole(tmp_path)
    files = [
        jsonl(tmp_path / "requests.jsonl", lines[12:]),
        jsonl(tmp_path / "requests.jsonl.1", lines[5:12]),
        jsonl(tmp_path / "requests.jsonl.2", lines[:5]),
        jsonl(tmp_path / "empty.jsonl", []),
    ]

    found = list(lines_of(files))

    assert [line.text for line in found] == lines
    assert found[5].place == f"{tmp_path}/requests.jsonl.1:1"
    assert all(line.whole for line in found)


def test_a_last_line_without_its_end_is_said(tmp_path: Path) -> None:
    """It may be one that is being written."""
    path = jsonl(tmp_path / "a.jsonl", whole(tmp_path)[:3])
    path.write_bytes(path.read_bytes()[:-20])

    assert [line.whole for line in lines_of([path])] == [True, True, False]


def test_the_stream_is_read_without_its_marks(tmp_path: Path) -> None:
    """Over all segments."""
    builder = Writer(tmp_path)._builder
    stream = Stream(tmp_path / "stream", segment_bytes=1500)
    stream.open()
    for _ in range(10):
        stream.append([builder.exchange(an_exchange())[:-1]] * 2, Progress(journals={"w1-1.jsonl": 7}))
    stream.close()

    found = [line.text for line in lines_of([tmp_path / "stream"])]

    assert sequences(found) == list(range(1, 21))
    assert len(list((tmp_path / "stream").iterdir())) > 3


def test_segments_that_the_keeper_forgets_are_read_to_the_end(tmp_path: Path) -> None:
    """All sinks have them, `logs verify` not yet: a hole would look like missing records."""
    stream = Stream(tmp_path / "stream", segment_bytes=1500)
    stream.open()
    for _ in range(20):
        stream.append([record()] * 2, Progress())
    lines = lines_of([tmp_path / "stream"])
    found = [next(lines).text]
    stream.forget(8)
    found += [line.text for line in lines]
    stream.close()

    assert sequences(found) == list(range(1, 41))
    assert sequences([line.text for line in lines_of([tmp_path / "stream"])])[0] > 1


def test_a_month_without_tables_has_no_lines(tmp_path: Path) -> None:
    """The disk was full when they were to be made."""
    lines = whole(tmp_path)
    asyncio.run(stored(tmp_path / "requests.db", lines))
    (tmp_path / "requests-2000-01.db").touch()

    assert [line.text for line in database_lines(tmp_path / "requests.db")] == lines


def test_a_database_gives_the_bytes_that_were_written(tmp_path: Path) -> None:
    """The chain holds there too; a month's file alone is a copy as well."""
    lines = whole(tmp_path)
    asyncio.run(stored(tmp_path / "requests.db", lines))
    months = sorted(tmp_path.glob("requests-*.db"))

    assert sorted(line.text for path in months for line in lines_of([path])) == sorted(lines)
    assert [line.text for line in database_lines(tmp_path / "requests.db")] == lines
    assert len(months) == 2  # checkpoints are of now, exchanges of the tests' own time
    assert told(verdict([line.text for line in database_lines(tmp_path / "requests.db")])) == []


def test_a_record_is_found_by_its_id(tmp_path: Path) -> None:
    """By its place at the beginning of the line: an id in somebody's path is none."""
    lines = whole(tmp_path)
    path = jsonl(tmp_path / "a.jsonl", lines)
    wanted = bytes.fromhex(json.loads(lines[4])["id"].replace("-", ""))

    assert record_in(lines_of([path]), wanted) == lines[4]
    assert record_in(lines_of([path]), bytes(16)) is None


@pytest.mark.parametrize("kind", ["missing", "no stream", "no database"])
def test_what_can_not_be_read_is_named(tmp_path: Path, kind: str) -> None:
    """With the path."""
    path = tmp_path / "thing"
    if kind == "no stream":
        path.mkdir()
    if kind == "no database":
        path.write_bytes(b"SQLite format 3\0" + b"nonsense" * 100)

    with pytest.raises(CopyUnreadable, match="thing"):
        list(lines_of([path]))
