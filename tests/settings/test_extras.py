import re
import sys
import tomllib
from pathlib import Path

import pytest

from proxy.settings.extras import installation

ROOT = Path(__file__).parents[2]
EXTRAS = {"postgres": "asyncpg", "redis": "redis", "otel": "opentelemetry-proto", "pkcs11": "python-pkcs11"}


@pytest.mark.parametrize(("extra", "package"), EXTRAS.items())
def test_the_advice_installs_what_the_extra_brings(extra: str, package: str) -> None:
    """Into the environment that runs, in the version that is asked for, and by names that have an owner."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    assert [re.split("[><=]", each)[0] for each in declared] == [package]

    assert installation(extra) == f"run `{sys.executable} -m pip install '{declared[0]}'`"


def test_what_is_not_declared_is_installed_from_the_sources() -> None:
    """As where payproxy runs without having been installed."""
    assert installation("none") == "install it from its source folder with the [none] extra: `pip install '.[none]'`"


def test_nothing_advises_to_install_payproxy_by_name() -> None:
    """Nobody holds the name on an index: whoever took it would get the keys."""
    places = [ROOT / "README.md", ROOT / "Dockerfile", ROOT / "pyproject.toml", *(ROOT / "config").iterdir()]
    places += [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "proxy").rglob("*.py"),
        *(ROOT / "bench").rglob("*.md"),
        *(ROOT / "bench").rglob("*.py"),
    ]
    by_name = re.compile(r"(pip|pipx|uv)\b.*\binstall\b[^`\n]*[\s'\"]payproxy\b|payproxy\[", re.IGNORECASE)

    found = [
        f"{place.name}: {line}" for place in places for line in place.read_text().splitlines() if by_name.search(line)
    ]

    assert found == []


def test_the_image_has_every_extra_that_a_configuration_can_ask_for() -> None:
    """What is missing in an image can't be installed into it."""
    [line] = re.findall(r"^image=\((.*)\)$", (ROOT / "deploy/requirements/lock").read_text(), re.MULTILINE)

    assert set(line.replace("--extra ", "").split()) == {"speed", *EXTRAS}
    assert "-r deploy/requirements/image.txt" in (ROOT / "Dockerfile").read_text()
