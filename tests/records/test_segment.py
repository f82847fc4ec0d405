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
