"""Shell completion of names in the configuration: whatever can be read of the file is used, and nothing can fail.

It imports neither pydantic nor the settings, since a shell waits for it at each press of the key.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from proxy.private_file import open_regular
from proxy.settings.salvage import salvaged
from proxy.settings.toml_text import MAX_FILE_BYTES, parse_toml

# Copies of names in proxy.settings.sources: that import would take longer than all the rest. A test compares them.
FILE_NAME = "payproxy.toml"
SYSTEM_FILE = Path("/etc/payproxy/payproxy.toml")

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def found_file(path: Path | None, *, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the configuration file by the same rules as `serve`, None if there is none."""
    found = path or (Path(environ["PAYPROXY_CONFIG"]) if environ.get("PAYPROXY_CONFIG") else None)
    return found or next((each for each in (cwd / FILE_NAME, SYSTEM_FILE) if each.exists()), None)


def values_in(file: Path) -> tuple[dict[str, Any], bool]:
    """Return the values in *file*, and whether they are incomplete because of errors."""
    try:
        with open_regular(file) as opened:
            text = opened.read(MAX_FILE_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return {}, True
    try:
        return parse_toml(text), False
    except ValueError:
        return salvaged(text), True


def names_of(section: str) -> Complete:
    """Return a completion of the names in *section*: of rules for "routes", else of its tables."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        file = found_file(_given(context), environ=os.environ, cwd=Path.cwd())
        return [name for name in _names(file, section) if name.startswith(incomplete)]

    return complete


def _given(context: click.Context) -> Path | None:
    """Return the value of --config, if it stands before the word that is completed."""
    given = context.params.get("config_path")
    return given if isinstance(given, Path) else None


def _names(file: Path | None, section: str) -> list[str]:
    found = values_in(file)[0].get(section) if file is not None else None
    if isinstance(found, list):
        names = [rule.get("name") for rule in found if isinstance(rule, dict)]
    else:
        names = list(found) if isinstance(found, dict) else []
    return sorted({name for name in names if isinstance(name, str) and name.isprintable()})
