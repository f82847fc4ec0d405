"""`payproxy config`: the effective values, their sources, and the JSON Schema."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from proxy.cli.config_template import toml_string
from proxy.cli.configuration import valid_configuration
from proxy.cli.options import file_option
from proxy.cli.output import emit, json_option, printable
from proxy.settings.schema import json_schema
from proxy.settings.values import masked

# The column where the comments of --sources start, if the values are not longer.
SOURCE_COLUMN = 56


@click.group()
def config() -> None:
    """Show the effective configuration and its schema."""


@config.command()
@click.option("--sources", is_flag=True, help="Show where each value comes from.")
@file_option
@json_option
def show(config_path: Path | None, *, sources: bool, as_json: bool) -> None:
    """Show all effective values, defaults and presets included, as TOML; secrets are masked."""
    configuration = valid_configuration(config_path)
    values = masked(configuration.settings)
    value = {"file": str(configuration.loaded.path), "settings": values}
    origins = configuration.loaded.sources if sources else {}
    if sources:
        value["sources"] = dict(origins)
    emit(value, as_json=as_json, human="\n".join(toml_lines(values, origins)))


@config.command()
def schema() -> None:
    """Print the JSON Schema of payproxy.toml, for editors."""
    emit(json_schema(), as_json=True, human="")


def toml_lines(
    values: Mapping[str, Any], sources: Mapping[str, str], *, key: str = "", table: str = ""
) -> Iterator[str]:
    """Yield *values* as lines of TOML, each with a comment that names its source, if it has one.

    *key* is the place of the values in *sources* (routes.0), *table* the same in TOML (routes).
    """
    tables: list[tuple[str, str, str, Mapping[str, Any]]] = []
    for name, value in values.items():
        below, header = (f"{place}.{name}" if place else name for place in (key, table))
        if value is None:  # TOML has no null
            continue
        if isinstance(value, dict) and value and not _is_plain(value):
            # [upstreams] adds nothing to [upstreams.payments].
            empty = all(isinstance(each, dict) and not _is_plain(each) for each in value.values())
            tables.append((below, header, "" if empty else f"[{header}]", value))
        elif isinstance(value, list) and value and not table and all(isinstance(each, dict) for each in value):
            tables += [(f"{below}.{number}", header, f"[[{header}]]", each) for number, each in enumerate(value)]
        else:
            line = f"{_toml_key(name)} = {_toml(value)}"
            source = sources.get(below) or next((sources[leaf] for leaf in sources if leaf.startswith(f"{below}.")), "")
            yield f"{line:<{SOURCE_COLUMN}}  # {printable(source)}" if source else line
    for below, header, heading, inner in tables:
        if heading:
            yield from ("", heading)
        yield from toml_lines(inner, sources, key=below, table=header)


def _is_plain(value: Mapping[str, Any]) -> bool:
    """Return whether a table holds only strings under the user's own keys (extra_parameters): it is written inline."""
    return all(isinstance(each, str) for each in value.values())


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml_key(name)} = {_toml(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def _toml_key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else toml_string(name)
