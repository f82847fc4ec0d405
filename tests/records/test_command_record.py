import os
from pathlib import Path

import pytest

from proxy.entropy import SystemEntropy
from proxy.records.command_record import write_command_record
from tests.records.faults import largest_file
from tests.records.support import MemorySink, running_shipper, until

RECORD = b'{"kind":"token","id":"018f0000-0000-7000-8000-000000000001"}\n'


async def test_a_running_keeper_takes_it(tmp_path: Path) -> None:
    """It comes once, and its file goes."""
    sink = MemorySink()
    async with running_shipper(tmp_path, sink):
        write_command_record(tmp_path, RECORD, entropy=SystemEntropy())
        await until(lambda: sink.records)
        await until(lambda: not list((tmp_path / "journal").iterdir()))

    assert [record["kind"] for record in sink.records] == ["token"]


async def test_a_keeper_that_starts_later_takes_all(tmp_path: Path) -> None:
    """Records wait as long as they have to."""
    for _ in range(3):
        write_command_record(tmp_path, RECORD, entropy=SystemEntropy())
    sink = MemorySink()
    async with running_shipper(tmp_path, sink):
        await until(lambda: len(sink.records) == 3)

    assert not list((tmp_path / "journal").iterdir())


def test_without_a_data_directory_nothing_is_made(tmp_path: Path) -> None:
    """Where no instance ever was there is no log."""
    with pytest.raises(FileNotFoundError):
        write_command_record(tmp_path / "none", RECORD, entropy=SystemEntropy())
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_a_part_of_it_is_an_error(tmp_path: Path) -> None:
    """Nothing is left then: what the command was about to do must not be done unrecorded."""
    record = RECORD[:-2] + b',"reason":"' + b"x" * 12_000 + b'"}\n'
    with largest_file(8192), pytest.raises(OSError, match=r"\[Errno"):
        write_command_record(tmp_path, record, entropy=SystemEntropy())

    assert not list((tmp_path / "journal").iterdir())


def test_it_belongs_to_the_keeper_also_if_root_has_left_it(tmp_path: Path) -> None:
    """Else the keeper, another user, could not read it."""
    if os.geteuid() != 0:
        pytest.skip("only root can leave files to others")
    os.chown(tmp_path, 65534, 65533)
    write_command_record(tmp_path, RECORD, entropy=SystemEntropy())

    [path] = (tmp_path / "journal").iterdir()
    for one in (path, path.parent):
        assert (one.stat().st_uid, one.stat().st_gid) == (65534, 65533)
