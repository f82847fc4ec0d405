import os
from pathlib import Path

import pytest

from proxy.records.segment import Segment, segments, spool_size


def test_the_reserve_is_taken_at_creation(tmp_path: Path) -> None:
    """A segment that exists can be written to its end; others may not read it."""
    segment = Segment(tmp_path / "w1-1.jsonl", reserve=65536)

    status = segment.path.stat()
    assert status.st_size == 65536
    assert status.st_blocks * 512 >= 65536
    assert status.st_mode & 0o777 == 0o600
    segment.abandon()


def test_a_finished_segment_gives_back_its_reserve(tmp_path: Path) -> None:
    """What is left is what was written."""
    segment = Segment(tmp_path / "w1-1.jsonl", reserve=65536)
    segment.append(b"one\n")
    segment.append(b"two\n")
    segment.sync()
    segment.finish()

    assert segment.path.read_bytes() == b"one\ntwo\n"


def test_blocks_are_written_for_the_first_time_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync after such a write is slow; in between, lines go to blocks that were written before."""
    segment = Segment(tmp_path / "w1-1.jsonl", reserve=1024 * 1024)
    first, end, real = 0, 0, os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        nonlocal first, end
        first += at + len(data) > end
        end = max(end, at + len(data))
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    lines = [b"x" * 999 + b"\n" for _ in range(200)]
    for line in lines:
        segment.append(line)
    segment.sync()

    assert first == 4
    assert segment.size == 200_000
    assert segment.path.read_bytes() == b"".join(lines) + bytes(1024 * 1024 - 200_000)
    segment.finish()
    assert segment.path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("reserve", [4096, 65536, 100_000])
def test_no_byte_is_written_beyond_the_reserve(tmp_path: Path, reserve: int) -> None:
    """The disk has promised no more; a line that is larger than all of it takes only what it needs."""
    segment = Segment(tmp_path / "w1-1.jsonl", reserve=reserve)
    written = 0
    while segment.has_room(900):
        segment.append(b"x" * 899 + b"\n")
        written += 900
    assert segment.path.stat().st_size == reserve
    assert segment.path.read_bytes().rstrip(b"\0") == (b"x" * 899 + b"\n") * (written // 900)
    segment.finish()

    large = Segment(tmp_path / "w1-2.jsonl", reserve=reserve)
    large.append(b"x" * reserve + b"\n")
    assert large.path.stat().st_size == reserve + 1
    large.finish()


def test_what_the_disk_takes_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write goes on where the last one ended, also within the NULs behind a line."""
    segment = Segment(tmp_path / "w1-1.jsonl", reserve=65536)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: real(descriptor, data[:7001], at))
    lines = [b"%d %s\n" % (number, b"x" * 9000) for number in range(5)]
    for line in lines:
        segment.append(line)
    segment.finish()

    assert segment.path.read_bytes() == b"".join(lines)


def test_a_file_that_exists_is_never_written_over(tmp_path: Path) -> None:
    """Two writers can't share a segment."""
    (tmp_path / "w1-1.jsonl").write_bytes(b"mine\n")

    with pytest.raises(FileExistsError):
        Segment(tmp_path / "w1-1.jsonl", reserve=4096)

    assert (tmp_path / "w1-1.jsonl").read_bytes() == b"mine\n"


def test_a_segment_without_its_reserve_leaves_no_file(tmp_path: Path) -> None:
    """A disk that can't hold it is as it was before."""
    with pytest.raises(OSError, match=r"\[Errno"):
        Segment(tmp_path / "w1-1.jsonl", reserve=2**62)

    assert not list(tmp_path.iterdir())


def test_a_reserve_that_does_not_fit_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To try would take the last block from all others on that disk for an instant, each second."""
    tried: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda _descriptor, _at, size: tried.append(size))
    with pytest.raises(OSError, match="No space left"):
        Segment(tmp_path / "w1-1.jsonl", reserve=2**62)

    assert tried == []
    assert not list(tmp_path.iterdir())


def test_only_segments_are_listed(tmp_path: Path) -> None:
    """A worker's name may have dashes; locks and strangers are passed over."""
    for name in ("w-1-12.jsonl", "w-1.lock", "notes.jsonl", "w-x.jsonl"):
        (tmp_path / name).touch()

    assert list(segments(tmp_path)) == [("w-1", 12)]
    assert list(segments(tmp_path / "absent")) == []


def test_the_spool_is_journals_and_stream(tmp_path: Path) -> None:
    """Reserves count: the disk has given them away."""
    for directory in ("journal", "stream"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "x-1.jsonl").write_bytes(bytes(1000))

    assert spool_size(tmp_path) == 2000
    assert spool_size(tmp_path / "absent") == 0
