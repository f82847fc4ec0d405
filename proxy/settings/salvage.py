"""Reads what it can from a configuration that is not valid TOML, so that commands still find the running instance.

Used only to find that instance and its log, never to run with. Imports the standard library only: `health` uses it.
"""

import re
import tomllib
from difflib import SequenceMatcher
from typing import Any

_DATA_DIRECTORY = "data_directory"
_LIKENESS = 0.8

# Also matches a header without its closing bracket, or with a string that is not closed.
_HEADER = re.compile(r"\s*(\[{1,2})\s*([A-Za-z0-9_.\-\"' ]+?)\s*\]{0,2}\s*(?:#.*)?$")
_SETTING = re.compile(r"\s*([A-Za-z0-9_-]+)\s*[=:]\s*(.*?)\s*$")


def salvaged(text: str) -> dict[str, Any]:
    """Return the values of those lines of *text* that are valid TOML, each in the table of its header."""
    values: dict[str, Any] = {}
    table = values
    for line in text.split("\n"):
        header = _HEADER.match(line)
        if header is not None:
            table = _table(values, header[2], listed=header[1] == "[[")
            continue
        try:
            found = tomllib.loads(line)
        except (ValueError, RecursionError):  # tomllib's error is a ValueError
            continue
        for name, value in found.items():
            table.setdefault(name, value)
    return values


def data_directories(text: str) -> list[str]:
    """Return apparent data_directory values in *text*: misspelt, in a wrong table or without quotes."""
    found: list[str] = []
    for line in text.split("\n"):
        setting = _SETTING.match(line)
        if setting is None or SequenceMatcher(None, setting[1].lower(), _DATA_DIRECTORY).ratio() < _LIKENESS:
            continue
        value = setting[2]
        quote = value[:1]
        value = value[1:].partition(quote)[0] if quote in {'"', "'"} else value.partition("#")[0].strip("\"' \t\r")
        if value and value.isprintable():
            found.append(value)
    return found


def _table(values: dict[str, Any], name: str, *, listed: bool) -> dict[str, Any]:
    """Return the table *name*, a new last entry if *listed*; a detached one if the name holds another value."""
    *parents, last = [part.strip().strip("\"'") for part in name.split(".")]
    table = values
    for part in parents:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return {}
        table = inner
    if listed:
        entries = table.setdefault(last, [])
        if not isinstance(entries, list):
            return {}
        entries.append({})
        return entries[-1]  # type: ignore[no-any-return]  # the table just appended
    inner = table.setdefault(last, {})
    return inner if isinstance(inner, dict) else {}
