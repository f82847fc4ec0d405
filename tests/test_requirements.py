"""The locks: what image and CI install is what pyproject.toml asks for, and nothing without a hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from proxy import __version__

ROOT = Path(__file__).parents[1]
_PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_EXTRAS = _PYPROJECT["project"]["optional-dependencies"]
_IMAGE = [
    *_PYPROJECT["project"]["dependencies"],
    *(one for name in _EXTRAS if name not in {"test", "dev"} for one in _EXTRAS[name]),
]
_BUILD = _PYPROJECT["dependency-groups"]["build"]
_WANTED = {
    "image": _IMAGE,
    "build": _BUILD,
    "ci": [*_IMAGE, *_EXTRAS["test"], *_EXTRAS["dev"], *_BUILD, *_PYPROJECT["dependency-groups"]["ci"]],
}


def locked(name: str) -> dict[str, str]:
    """Return the version of each package in the lock *name*."""
    pins = re.findall(r"^([^\s=#]+)==([^\s;]+)", (ROOT / f"deploy/requirements/{name}.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


@pytest.mark.parametrize("name", _WANTED)
def test_a_lock_has_what_is_asked_for(name: str) -> None:
    """In an accepted version; pip alone would find out when CI or the image is built, and take long to say it."""
    versions = locked(name)
    asked = [Requirement(one) for one in _WANTED[name]]

    missing = [str(one) for one in asked if not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))]
    assert missing == [], "run deploy/requirements/lock"


@pytest.mark.parametrize("name", _WANTED)
def test_nothing_is_installed_without_a_hash(name: str) -> None:
    """Each package is one version and at least one SHA-256, and nothing is a path, a URL or an option."""
    text = (ROOT / f"deploy/requirements/{name}.txt").read_text().replace("\\\n", " ")
    line = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( *;[^-]+)?( +--hash=sha256:[0-9a-f]{64})+")

    assert [one for one in text.splitlines() if not line.fullmatch(one.strip())] == []


def test_what_ci_has_tested_is_what_the_image_gets() -> None:
    """The same version of each package, also of those that build the wheel."""
    assert {**locked("image"), **locked("build")}.items() <= locked("ci").items()


def test_the_two_ways_to_the_compiler_agree() -> None:
    """Without isolation, as the image is built, and with it, as pip builds elsewhere (setup.py)."""
    compilers = [one for one in _EXTRAS["dev"] if one.startswith("mypy[")]

    assert {*compilers, *_PYPROJECT["build-system"]["requires"]} <= {*_BUILD}


def test_the_version_is_the_same_in_both_places() -> None:
    """A running proxy does not read the distribution's metadata."""
    assert _PYPROJECT["project"]["version"] == __version__
