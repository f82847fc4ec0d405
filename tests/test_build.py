import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.small_project import SMALL, binary, small_project

_NO_COMPILER = {"CC": "/bin/false"}

needs_compiler = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is missing: apt-get install gcc libc6-dev")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of one compiled module."""
    return small_project(tmp_path / "small")


@needs_compiler
def test_a_wheel_has_machine_code_and_its_source(project: Path) -> None:
    """The wheel is this platform's, tracebacks still have lines to show, and what an earlier build left stays out."""
    left = project / "build/lib/proxy/left.py"
    left.parent.mkdir(parents=True)
    left.touch()

    run = _hook(project, "build_wheel", PAYPROXY_COMPILE="1")

    assert run.returncode == 0, run.stderr
    wheel = _wheel(project)
    assert f"-cp3{sys.version_info.minor}-" in wheel.name
    assert {SMALL, str(binary(Path(), SMALL))} <= _files(wheel)
    assert "proxy/left.py" not in _files(wheel)


@pytest.mark.thorough
@needs_compiler
def test_a_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    """The same bytes, machine code included, from another folder, later, and in another order of Python's sets."""
    wheels = []
    for number, name in enumerate(["here", "there/and/deeper"]):
        project = small_project(tmp_path / name)
        for path in project.rglob("*"):
            os.utime(path, (number * 10**8, number * 10**8))
        run = _hook(
            project, "build_wheel", PAYPROXY_COMPILE="1", SOURCE_DATE_EPOCH="1764288000", PYTHONHASHSEED=str(number)
        )
        assert run.returncode == 0, run.stderr
        wheels.append(_wheel(project).read_bytes())

    assert wheels[0] == wheels[1]


@pytest.mark.thorough
@needs_compiler
def test_an_editable_installation_has_machine_code_beside_its_source_until_it_is_left_out(project: Path) -> None:
    """What is imported from the tree is the binary; installed again with PAYPROXY_COMPILE=0, the source."""
    small = "import proxy.small; print(proxy.small.__file__, proxy.small.double(21))"

    compiled = _hook(project, "build_editable", PAYPROXY_COMPILE="1")
    ran = _python(project, small)
    pure = _hook(project, "build_editable", PAYPROXY_COMPILE="0")

    assert compiled.returncode == pure.returncode == 0
    assert ran.stdout == f"{binary(project, SMALL)} 42\n"
    assert _python(project, small).stdout == f"{project / SMALL} 42\n"


def test_without_a_compiler_the_wheel_is_pure_and_the_build_says_so(project: Path) -> None:
    """An installation succeeds on a machine that can't compile, for every platform, and says why it will be slower."""
    binary(project).touch()  # of an editable installation; the wheel is none of its business

    run = _hook(project, "build_wheel", **_NO_COMPILER)

    assert run.returncode == 0, run.stderr
    assert _wheel(project).name == "small-1-py3-none-any.whl"
    assert str(binary(Path())) not in _files(_wheel(project))
    assert "WARNING: payproxy is installed as pure Python, which is correct and slower: no C compiler" in run.stderr


def test_without_a_compiler_no_binary_of_before_stays(project: Path) -> None:
    """Else the tree would go on running code that is gone."""
    binary(project).touch()

    assert _hook(project, "build_editable", **_NO_COMPILER).returncode == 0
    assert not binary(project).exists()


@pytest.mark.parametrize("hook", ["get_requires_for_build_wheel", "build_wheel"])
def test_where_compiling_is_demanded_its_lack_is_a_failure(project: Path, hook: str) -> None:
    """The image and CI are never slow unseen."""
    run = _hook(project, hook, PAYPROXY_COMPILE="1", **_NO_COMPILER)

    assert run.returncode == 1
    assert "payproxy's hot path can't be compiled: no C compiler that works" in run.stderr
    assert not list(project.glob("*.whl"))


@needs_compiler
def test_a_module_that_mypyc_does_not_take_is_no_end_of_the_installation(project: Path) -> None:
    """Whatever goes wrong in compiling, Python runs; the reasons are in the build's output."""
    (project / SMALL).write_text('def double(number: int) -> int:\n    return "twice"\n')

    run = _hook(project, "build_wheel")

    assert run.returncode == 0, run.stderr
    assert _wheel(project).name == "small-1-py3-none-any.whl"
    assert f"{SMALL}:2: error" in run.stdout
    assert "pure Python, which is correct and slower: mypyc is missing or does not take the hot path" in run.stderr


@needs_compiler
def test_the_compiler_is_asked_for_where_it_is_of_use(project: Path) -> None:
    """The compiler need not exist for a platform that can't compile, nor be fetched where nothing is to be compiled."""
    assert "mypy" in _hook(project, "get_requires_for_build_editable").stdout
    assert "mypy" not in _hook(project, "get_requires_for_build_editable", PAYPROXY_COMPILE="0").stdout
    assert "mypy" not in _hook(project, "get_requires_for_build_editable", **_NO_COMPILER).stdout


def test_a_switch_that_is_neither_on_nor_off_is_refused(project: Path) -> None:
    """`yes` must not be taken for whatever one hopes."""
    run = _hook(project, "build_wheel", PAYPROXY_COMPILE="yes")

    assert run.returncode == 1
    assert "PAYPROXY_COMPILE is 'yes'" in run.stderr


def _hook(project: Path, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = [str(project)] if name.startswith("build_") else []
    return _python(
        project,
        f"import sys; from setuptools import build_meta as build; print(build.{name}(*{arguments}))",
        **environment,
    )


def _python(project: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # What the tests were started with must not decide.
    kept = {name: value for name, value in os.environ.items() if name not in {"PAYPROXY_COMPILE", "CC"}}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _wheel(project: Path) -> Path:
    (wheel,) = project.glob("*.whl")
    return wheel


def _files(wheel: Path) -> set[str]:
    with ZipFile(wheel) as packed:
        return set(packed.namelist())
