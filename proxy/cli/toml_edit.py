"""Change one text value of a TOML file and leave every other byte as it is; pure."""

import re
import tomllib
from typing import Any

from proxy.cli.config_template import toml_string
from proxy.settings.findings import Key
from proxy.settings.toml_text import key_lines

_STRING = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'"


class NotEditable(ValueError):
    """The value stands in a form that is not changed here; the message says where, for a person to change it."""


def with_value(text: str, key: Key, value: str) -> str:
    """Return the TOML *text* with the string *value* at *key*, whose table must be there; raises NotEditable.

    A key that is not there yet comes right behind the header of its table.
    """
    lines, places = text.split("\n"), key_lines(text)
    name, new = str(key[-1]), toml_string(value)
    if key in places:
        at = places[key] - 1
        found = re.match(rf"(\s*{re.escape(name)}\s*=\s*)(?:{_STRING})(.*)$", lines[at])
        if found:
            lines[at] = f"{found[1]}{new}{found[2]}"
    elif not key[:-1] or key[:-1] in places:
        lines.insert(places[key[:-1]] if key[:-1] else 0, f"{name} = {new}")
    changed = "\n".join(lines)
    if not _only_changes(text, changed, key, value):
        where = f"line {places[key]}" if key in places else f"the table of {key[0]}"
        raise NotEditable(f"{where}: write {name} = {new}")
    return changed


def _only_changes(text: str, changed: str, key: Key, value: str) -> bool:
    """Return whether *changed* is TOML that differs from *text* in the *value* at *key* only."""
    try:
        wanted, found = tomllib.loads(text), tomllib.loads(changed)
        table: Any = wanted
        for part in key[:-1]:
            table = table[part]
        table[key[-1]] = value
    except (tomllib.TOMLDecodeError, LookupError, TypeError):
        return False
    return wanted == found
