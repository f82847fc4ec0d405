import os
from importlib import import_module
from pathlib import Path

import pytest

from proxy import hot_path
from proxy.hot_path import HOT_PATH, LIBRARY, binaries, built, compiled, outdated

_NOW = 1_800_000_000


@pytest.mark.parametrize("module", HOT_PATH)
def test_what_is_listed_exists_and_runs_as_what_is_said(module: str) -> None:
    """Each module of the hot path can be imported, and is machine code if payproxy says it is."""
    loaded = import_module(module.removesuffix(".py").replace("/", "."))

    assert loaded.__file__
    assert (not loaded.__file__.endswith(".py")) is compiled()


def test_no_module_is_listed_twice() -> None:
    """The compiler would take it for two."""
    assert len(set(HOT_PATH)) == len(HOT_PATH)


def test_what_is_tested_is_what_was_asked_for() -> None:
    """Where compiling is demanded, as on CI, the tests run the machine code."""
    if os.environ.get("PAYPROXY_COMPILE") == "1":
        assert built() == "compiled"


def test_a_pure_installation_is_not_outdated(tree: Path) -> None:
    """Without binaries the sources run, whatever their age."""
    assert outdated(tree) == []
    assert not compiled(tree)
    assert binaries(tree) == set()


def test_binaries_of_their_sources_are_not_outdated(tree: Path) -> None:
    """Compiled after the last edit, they are what the sources say."""
    _compile(tree)

    assert outdated(tree) == []
    assert compiled(tree)


def test_a_source_edited_since_is_named(tree: Path) -> None:
    """An edit after the compilation has no effect, and is told."""
    _compile(tree)
    os.utime(tree / HOT_PATH[3], (_NOW + 1, _NOW + 1))

    assert outdated(tree) == [HOT_PATH[3]]


def test_a_module_without_its_binary_is_named(tree: Path) -> None:
    """Half compiled is not compiled: a module listed since would be another to its neighbours."""
    _compile(tree)
    _binary(tree, HOT_PATH[0]).unlink()

    assert outdated(tree) == [HOT_PATH[0]]
    assert not compiled(tree)


def test_a_binary_that_is_listed_no_more_is_named(tree: Path) -> None:
    """A module taken off the list would still run from its binary."""
    _compile(tree)
    left = _write(_binary(tree, "proxy/once.py"))

    assert outdated(tree) == [str(left.relative_to(tree))]


def test_another_interpreters_binaries_are_no_business_of_this_one(tree: Path) -> None:
    """One tree may serve two versions of Python."""
    _write(tree / "proxy/clock.cpython-399-x86_64-linux-gnu.so")

    assert outdated(tree) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with the hot path's sources, all of one age."""
    for module in HOT_PATH:
        _write(tmp_path / module)
    return tmp_path


def _compile(tree: Path) -> None:
    for module in (*HOT_PATH, LIBRARY):
        _write(_binary(tree, module))


def _binary(tree: Path, module: str) -> Path:
    return hot_path._binary(tree, module)


def _write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (_NOW, _NOW))
    return path
