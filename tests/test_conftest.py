import os
import subprocess
import sys
from pathlib import Path

from proxy.hot_path import LIBRARY
from tests.support.small_project import SMALL, binary, small_project


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
