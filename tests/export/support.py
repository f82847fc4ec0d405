"""Settings from the examples in config/, and Prometheus' own tool."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.settings.load import load
from proxy.settings.model import Settings, StateSection
from proxy.settings.signature import SignatureSection

ROOT = Path(__file__).parents[2]
# Has everything that an alert or a panel may be for, but a Redis and signed bodies.
MIGRATING = "adfs-migration"


def example(name: str, **changes: Any) -> Settings:
    """Return the settings of config/*name*.toml, placeholders included, with whole sections changed."""
    loaded = load(ROOT / "config" / f"{name}.toml", environ={}, cwd=ROOT)
    assert loaded.readable is not None
    return replace(loaded.readable, **changes)


def everything() -> Settings:
    """Return settings with all that an alert may be for."""
    settings = with_redis(MIGRATING)
    section = SignatureSection(private_key_file="sign.key", certificate_file="sign.crt")
    signed = replace(settings.routes[0], signature=section)
    return replace(settings, routes=(signed, *settings.routes[1:]))


def with_redis(name: str) -> Settings:
    """Return the settings of config/*name*.toml with a Redis that replicas share."""
    return example(name, state=StateSection(url_file="redis.url"))


def promtool(*arguments: str, text: str = "") -> str:
    """Run promtool and return what it says; it must find nothing wrong."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
