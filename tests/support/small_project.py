"""A project with one compiled module: building payproxy itself takes a minute."""

import re
import shutil
from pathlib import Path

from proxy import hot_path

SMALL = "proxy/small.py"
_ROOT = Path(__file__).parent.parent.parent
_SUPPORT = ("tests/support/extent.py", "tests/support/leftovers.py")
_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "small"
version = "1"
dependencies = ["aiohttp"]

[project.optional-dependencies]
dev = ["mypy[mypyc]"]

[tool.setuptools.packages.find]
include = ["proxy*"]
"""


def small_project(place: Path) -> Path:
    """Make a project under *place* with payproxy's setup.py and conftest.py, whose hot path is `proxy.small`."""
    (place / "proxy").mkdir(parents=True)
    (place / "tests/support").mkdir(parents=True)
    (place / "pyproject.toml").write_text(_PYPROJECT)
    for name in ("proxy/__init__.py", "setup.py", "tests/conftest.py", *_SUPPORT):
        shutil.copy(_ROOT / name, place / name)
    listed = re.compile(r"(?<=^HOT_PATH = \().*?(?=^\))", re.DOTALL | re.MULTILINE)
    source, found = listed.subn(f'"{SMALL}",\n', (_ROOT / "proxy/hot_path.py").read_text())
    assert found == 1
    (place / "proxy/hot_path.py").write_text(source)
    (place / SMALL).write_text("def double(number: int) -> int:\n    return number * 2\n")
    (place / "tests/test_small.py").write_text("def test_nothing() -> None:\n    pass\n")
    return place


def binary(project: Path, module: str = SMALL) -> Path:
    """Return where the binary of *module* stands."""
    return hot_path._binary(project, module)
