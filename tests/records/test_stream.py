import json
from pathlib import Path

import pytest

from proxy.records.stream import BATCH_BYTES, READ_BYTES, Position, Progress, Stream
from tests.records.faults import SlowDisk


def record(number: int) -> bytes:
    """Return a record as a journal has it."""
    return b'{"kind":"exchange","id":"%036d"}' % number


def read_all(stream: Stream, position: Position) -> list[int]:
    """Return the sequence numbers from *position* on."""
    sequences: list[int] = []
    while True:
        lines, position = stream.read(position)
        if not lines:
            return sequences
        sequences += [json.loads(line)["sequence"] for line in lines]


def filled(directory: Path, *, batches: int, segment_bytes: int = 400) -> Stream:
    """Return a stream with two records a batch."""
    stream = Stream(directory, segment_bytes=segment_bytes)
    stream.open()
    for number in range(batches):
        stream.append([record(number * 2), record(number * 2 + 1)], Progress(journals={"w1-1.jsonl": number}))
    return stream


def test_records_are_numbered_and_read_in_order(tmp_path: Path) -> None:
    """Over all segments, and the progress marks between them are not seen."""
    stream = filled(tmp_path, batches=20)

    assert read_all(stream, Position(1, 0, 0)) == list(range(1, 41))
    assert len(list(tmp_path.iterdir())) > 3
    stream.close()


def test_positions_count_records(tmp_path: Path) -> None:
    """A reader's position knows its sequence number."""
    stream = filled(tmp_path, batches=3, segment_bytes=10**6)

    lines, position = stream.read(Position(1, 0, 0))

    assert len(lines) == position.sequence == 6
    assert position == stream.end
    assert stream.read(position) == ([], position)
    stream.close()


def test_a_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    """Progress and numbers come back from the last mark."""
    filled(tmp_path, batches=5).close()
    stream = Stream(tmp_path)

    progress = stream.open()

    assert progress == Progress(journals={"w1-1.jsonl": 4})
    assert stream.end.sequence == 10
    stream.append([record(99)], progress)
    assert read_all(stream, Position(1, 0, 0)) == list(range(1, 12))
    stream.close()


@pytest.mark.parametrize("lost", range(1, 300, 23))
def test_a_batch_that_was_not_written_whole_is_cut(tmp_path: Path, lost: int) -> None:
    """Wherever the write was torn: its records come again from the journals, with the same numbers."""
    stream = filled(tmp_path, batches=3, segment_bytes=10**6)
    end = stream.end
    stream.append([record(6), record(7), record(8)], Progress(journals={"w1-1.jsonl": 77}))
    stream.close()
    path = tmp_path / "records-1.jsonl"
    torn = path.read_bytes()[:-lost]
    path.write_bytes(torn)

    stream = Stream(tmp_path)
    progress = stream.open()

    assert len(torn) > end.offset
    assert stream.end == end
    assert progress.journals == {"w1-1.jsonl": 2}


def test_a_first_segment_without_a_mark_is_begun_anew(tmp_path: Path) -> None:
    """Nothing in it was promised."""
    (tmp_path / "records-1.jsonl").write_bytes(record(1) + b"\n")
    stream = Stream(tmp_path)

    assert stream.open() == Progress()
    assert stream.end == Position(1, 0, 0)
    assert not list(tmp_path.iterdir())


def test_what_all_have_is_removed(tmp_path: Path) -> None:
    """But never the segment that is written to."""
    stream = filled(tmp_path, batches=20)
    last = stream.end.segment

    stream.forget(3)
    assert stream.first().segment == 3
    stream.forget(last + 10)
    assert [path.name for path in tmp_path.iterdir()] == [f"records-{last}.jsonl"]
    stream.close()


def test_a_failed_append_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one takes the same numbers."""
    stream = filled(tmp_path, batches=1, segment_bytes=10**6)
    end = stream.end
    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", _no_space)
        with pytest.raises(OSError, match="full"):
            stream.append([record(2)], Progress())

    assert stream.end == end
    stream.append([record(2)], Progress())
    assert read_all(stream, Position(1, 0, 0)) == [1, 2, 3]
    stream.close()


def test_a_record_larger_than_a_read_is_read_whole(tmp_path: Path) -> None:
    """However long a path was."""
    stream = Stream(tmp_path)
    stream.open()
    stream.append([b'{"kind":"exchange","path":"%b"}' % (b"x" * 700_000)], Progress())

    (line,), _ = stream.read(Position(1, 0, 0))

    assert len(json.loads(line)["path"]) == 700_000
    stream.close()


def test_who_lags_behind_gets_much_at_once(tmp_path: Path) -> None:
    """From several blocks and segments, since a database commits each batch by itself; but not all there is."""
    stream = Stream(tmp_path, segment_bytes=1024 * 1024)
    stream.open()
    for number in range(80):
        stream.append([record(number)[:-1] + b',"cause":"%b"}' % (b"x" * 65536)], Progress())

    lines, position = stream.read(Position(1, 0, 0))

    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, position.sequence + 1))
    assert BATCH_BYTES <= len(lines) * 66000 <= BATCH_BYTES + READ_BYTES
    assert position.segment > 1
    assert read_all(stream, position) == list(range(position.sequence + 1, 81))
    stream.close()


def test_what_lies_before_a_segment_that_can_not_be_read_is_handed_on(tmp_path: Path) -> None:
    """The reader hears of it when it comes there."""
    stream = filled(tmp_path, batches=20)
    broken = tmp_path / "records-3.jsonl"
    broken.unlink()
    broken.mkdir()

    lines, position = stream.read(Position(1, 0, 0))

    assert len(lines) == position.sequence > 0
    assert position.segment == 3
    with pytest.raises(IsADirectoryError):
        stream.read(position)
    stream.close()


def test_who_keeps_up_gets_the_records_without_reading_a_file(tmp_path: Path) -> None:
    """All that one sync was about; who is elsewhere has to read, and at the end there is nothing."""
    stream = filled(tmp_path, batches=3, segment_bytes=10**6)
    stream.sync()
    begin = stream.end
    for number in (6, 7):
        stream.append([record(number)], Progress())
    assert stream.fresh(begin) is None
    stream.sync()

    found = stream.fresh(begin)
    assert found is not None
    assert [json.loads(line)["sequence"] for line in found[0]] == [7, 8]
    (tmp_path / "records-1.jsonl").unlink()
    assert stream.read(begin) == found
    assert stream.fresh(Position(1, 0, 0)) is None
    assert stream.fresh(stream.end) == ([], stream.end)
    stream.close()


def test_zeros_that_a_dead_machine_left_are_cut(tmp_path: Path) -> None:
    """A file's length may reach the disk before all of its pages do: what follows the hole comes from the journals."""
    stream = filled(tmp_path, batches=3, segment_bytes=10**6)
    end = stream.end
    stream.append([record(6)], Progress())
    hole = stream.end.offset
    stream.append([record(7)], Progress())
    stream.close()
    path = tmp_path / "records-1.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: end.offset + 10] + bytes(hole - end.offset - 10) + data[hole:])

    stream = Stream(tmp_path)

    assert stream.open().journals == {"w1-1.jsonl": 2}
    assert stream.end == end
    stream.close()


def test_after_a_failed_sync_a_new_segment_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost of what can be read, and it is known up to where the disk may not have it."""
    stream = filled(tmp_path, batches=1, segment_bytes=10**6)
    end = stream.end
    disk = SlowDisk(monkeypatch)
    disk.error = OSError(5, "Input/output error")
    stream.sync()
    assert stream.trouble is disk.error
    assert stream.suspect == end

    disk.error = None
    stream.append([record(2)], Progress())
    stream.sync()

    assert stream.trouble is None
    assert stream.end.segment == 2
    assert read_all(stream, Position(1, 0, 0)) == [1, 2, 3]
    syncs = disk.syncs
    stream.sync()
    assert disk.syncs == syncs
    stream.close()


def _no_space(*_: object) -> int:
    raise OSError(28, "the disk is full")
