import os
import signal
import subprocess
import sys
import time  # noqa: TID251  a real process is waited for
from pathlib import Path

import pytest

from proxy.hot_path import LIBRARY
from tests.support.small_project import SMALL, binary, small_project

_LEAVES_PROCESSES = """
import os, pathlib, subprocess, time

def test_small():
    started = pathlib.Path(os.environ["STARTED"])
    child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"], stdout=subprocess.PIPE)
    started.with_suffix(".new").write_text(f"{child.pid} {child.stdout.readline().decode()}")
    started.with_suffix(".new").rename(started)
    time.sleep(600)
"""


def test_machine_code_older_than_its_source_is_not_tested(tmp_path: Path) -> None:
    """A run by code that is gone would prove nothing: it is refused, with the way out."""
    project = _compiled(tmp_path, seconds_before_the_edit=60)

    run = _pytest(project)

    assert run.returncode == 4  # pytest's for wrong usage
    assert f"{SMALL}: run `pip install -e" in run.stderr
    assert "PAYPROXY_COMPILE=0" in run.stderr


def test_machine_code_younger_than_its_source_is_tested(tmp_path: Path) -> None:
    """What was compiled after the last edit is what the source says."""
    project = _compiled(tmp_path, seconds_before_the_edit=-60)

    assert _pytest(project).returncode == 0


def _compiled(place: Path, *, seconds_before_the_edit: int) -> Path:
    project = small_project(place / "small")
    edited = (project / SMALL).stat().st_mtime
    for path in (binary(project), binary(project, LIBRARY)):
        path.touch()  # nothing here imports it
        os.utime(path, (edited - seconds_before_the_edit,) * 2)
    return project


def _pytest(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("processes", ["0", pytest.param("2", marks=pytest.mark.thorough)])
def test_an_interrupted_run_leaves_no_process(number: signal.Signals, processes: str, tmp_path: Path) -> None:
    """Also those whose parent has ended, which with xdist is the process that ran the test."""
    project = small_project(tmp_path / "small")
    (project / "tests/test_small.py").write_text(_LEAVES_PROCESSES)
    started = tmp_path / "started"
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", processes],
        cwd=project,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(project), "STARTED": str(started)},
        stdout=subprocess.DEVNULL,
    ) as run:
        while not started.exists() and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(number)

    assert run.returncode == 2  # pytest's for an interrupt
    assert not [pid for pid in started.read_text().split() if Path("/proc", pid).exists()]
