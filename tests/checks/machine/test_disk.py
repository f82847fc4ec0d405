import os
from pathlib import Path

import pytest

from proxy.checks.machine.disk import directory_lines, file_system_line, latency_line, space_line, write_times
from proxy.checks.machine.line import Status
from proxy.clock import SystemClock

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
overlay /in-container overlay rw 0 0
tmpfs {path} tmpfs rw 0 0
host:/x {path}/remote nfs4 rw 0 0
/dev/sdb1 {path}/disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("", Status.ERROR, "gone after a restart"),
        ("remote", Status.WARNING, "network file system (nfs4)"),
        ("disk", Status.OK, "xfs on"),
        ("disk/not/there/yet", Status.OK, "xfs on"),
        ("remote2", Status.ERROR, "in memory"),
    ],
)
def test_the_file_system_keeps_what_is_written(tmp_path: Path, name: str, status: Status, words: str) -> None:
    """The innermost mount counts, and a name that begins alike is another directory."""
    for made in ("remote", "remote2", "disk"):
        (tmp_path / made).mkdir()
    line = file_system_line(tmp_path / name, MOUNTS.format(path=tmp_path))
    assert (line.status, words in line.what) == (status, True), line
    assert bool(line.fix) is (status is not Status.OK)


def test_a_disk_that_is_full_or_slow(tmp_path: Path) -> None:
    """Room is needed for the whole spool; the median counts, one slow write does not."""
    assert space_line(tmp_path, spool_bytes=1).status in {Status.OK, Status.WARNING}
    full = space_line(tmp_path / "data", spool_bytes=1 << 60)
    assert full.status is Status.WARNING
    assert f"df -h {tmp_path}" in full.fix
    assert latency_line([0.001] * 19 + [0.5]).status is Status.OK
    slow = latency_line([0.03] * 20)
    assert (slow.status, "30.0 ms" in slow.what) == (Status.WARNING, True)


def test_the_measurement_leaves_nothing(tmp_path: Path) -> None:
    """Also where the data directory is not made yet."""
    assert len(write_times(tmp_path / "data" / "x", SystemClock())) == 20
    assert not list(tmp_path.iterdir())


def test_who_may_write_in_the_data_directory(tmp_path: Path) -> None:
    """It is ours alone, or the command that makes it so is named."""
    us = os.geteuid()
    tmp_path.chmod(0o700)
    assert [line.status for line in directory_lines(tmp_path, us=us)] == [Status.OK]
    tmp_path.chmod(0o777)
    (line,) = directory_lines(tmp_path, us=us)
    assert (line.status, "chmod 700" in line.fix) == (Status.ERROR, True)
