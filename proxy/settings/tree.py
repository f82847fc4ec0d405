"""Nested values, as TOML and JSON have them, by key."""

from collections.abc import Iterator
from typing import Any

from proxy.settings.findings import Key


def leaves(values: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield each value with its key; rules are numbered, other lists and empty tables are values."""
    if isinstance(values, dict) and values:
        for name, value in values.items():
            yield from leaves(value, (*key, name))
    elif isinstance(values, list) and key == ("routes",) and values:
        for number, value in enumerate(values):
            yield from leaves(value, (*key, number))
    elif key:
        yield key, values


def copied(values: Any) -> Any:
    """Return *values* with tables and lists copied; their items are shared (a Secret can't be copied)."""
    if isinstance(values, dict):
        return {name: copied(value) for name, value in values.items()}
    if isinstance(values, list):
        return [copied(value) for value in values]
    return values
