import os
from pathlib import Path

import pytest

from proxy.records.sinks.file import FileSink
from proxy.records.sinks.sink import SinkUnavailable
from tests.records.faults import SlowDisk

LINE = b'{"kind":"exchange"}'


async def test_records_are_appended(tmp_path: Path) -> None:
    """To what is there, in a file that only its owner reads."""
    sink = FileSink(tmp_path / "requests.jsonl")
    await sink.write([LINE])
    await sink.write([LINE, LINE])
    await sink.close()

    assert (tmp_path / "requests.jsonl").read_bytes() == (LINE + b"\n") * 3
    assert (tmp_path / "requests.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
async def test_a_file_that_was_moved_away_is_opened_again(tmp_path: Path, how: str) -> None:
    """The next batch goes into a new file of the name."""
    path = tmp_path / "requests.jsonl"
    sink = FileSink(path)
    await sink.write([LINE])
    if how == "deleted":
        path.unlink()
    else:
        path.rename(tmp_path / "requests.jsonl.1")
    if how == "replaced":
        path.touch()

    await sink.write([LINE, LINE])
    await sink.close()

    assert path.read_bytes() == (LINE + b"\n") * 2


async def test_a_missing_directory_makes_it_unavailable_until_it_is_there(tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "logs" / "requests.jsonl"
    sink = FileSink(path)
    with pytest.raises(SinkUnavailable, match=r"requests\.jsonl"):
        await sink.write([LINE])

    path.parent.mkdir()
    await sink.write([LINE])
    await sink.close()

    assert path.read_bytes() == LINE + b"\n"


async def test_a_full_disk_leaves_no_half_batch(small_disk: Path) -> None:
    """What comes again after that stands on lines of its own."""
    path = small_disk / "requests.jsonl"
    sink = FileSink(path)
    await sink.write([LINE])
    (small_disk / "filler").write_bytes(bytes(1_900_000))
    batch = [LINE] * 20_000
    with pytest.raises(SinkUnavailable, match="No space"):
        await sink.write(batch)
    assert path.read_bytes() == LINE + b"\n"

    (small_disk / "filler").unlink()
    await sink.write(batch)
    await sink.close()

    assert os.stat(path).st_size == 20_001 * (len(LINE) + 1)  # noqa: PTH116 - one stat of a closed file


async def test_what_was_written_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream is thrown away once every sink has it; what can't be synced comes again, and stands there once."""
    path = tmp_path / "requests.jsonl"
    sink = FileSink(path)
    await sink.write([LINE])
    disk = SlowDisk(monkeypatch)
    disk.error = OSError(5, "Input/output error")
    with pytest.raises(SinkUnavailable, match="Input/output error"):
        await sink.write([LINE])
    assert path.read_bytes() == LINE + b"\n"

    disk.error = None
    await sink.write([LINE])
    await sink.close()

    assert path.read_bytes() == (LINE + b"\n") * 2
    assert disk.syncs == 2


async def test_a_device_is_only_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be synced there."""
    disk = SlowDisk(monkeypatch)
    sink = FileSink(Path("/dev/null"))
    await sink.write([LINE])
    await sink.close()

    assert disk.syncs == 0


async def test_a_pipe_takes_records_as_long_as_somebody_reads_it(tmp_path: Path) -> None:
    """Nothing can be cut there; what nobody reads is kept, and comes again."""
    path = tmp_path / "requests.pipe"
    os.mkfifo(path)
    sink = FileSink(path)
    with pytest.raises(SinkUnavailable, match=r"requests\.pipe"):
        await sink.write([LINE])

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    await sink.write([LINE, LINE])
    assert os.read(reader, 1000) == (LINE + b"\n") * 2
    os.close(reader)
    with pytest.raises(SinkUnavailable, match=r"requests\.pipe"):
        await sink.write([LINE])

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    await sink.write([LINE])
    assert os.read(reader, 1000) == LINE + b"\n"
    os.close(reader)
    await sink.close()


async def test_half_a_line_of_a_killed_keeper_is_cut(tmp_path: Path) -> None:
    """The record that a kill cut in two is written whole when it comes again, and no line holds two."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b'{"id":"1"}\n{"id":"2')
    sink = FileSink(path)
    await sink.write([b'{"id":"2"}'])
    await sink.close()

    assert path.read_bytes() == b'{"id":"1"}\n{"id":"2"}\n'
