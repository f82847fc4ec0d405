"""Validates the merged values once, section by section: a section with a fault hides no fault of another."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.settings.fields import NAME_PATTERN
from proxy.settings.findings import Complaint, Key, nearest
from proxy.settings.model import Settings
from proxy.settings.models import validated
from proxy.settings.schema import ValueKind, field_at, homes_of, kind_of, names_in
from proxy.settings.section import default_of
from proxy.settings.tree import copied, leaves
from proxy.settings.valid import Valid

# What a complaint says of a key or table that no setting has.
UNKNOWN_KEY = "unknown key"

# A search for a similar name takes 3 ms.
_MOST_SUGGESTIONS = 200

_NAMES = frozenset(field.name for field in fields(Settings))

# pydantic's mark for an invalid name of an entry, not its value.
_NAME_MARK = "[key]"

# The sections of which there may be several, by name or by position.
_TABLES = frozenset(field.name for field in fields(Settings) if isinstance(default_of(field), dict | tuple))

_WRONG_TYPE = {
    "string_type": ("is not a string", "write it in quotes"),
    "bool_type": ("is neither true nor false", "write true or false, without quotes"),
    "int_type": ("is not an integer", "write digits, without quotes"),
    "float_type": ("is not a number", "write digits, without quotes"),
    "finite_number": ("is not a finite number", "write digits"),
    "tuple_type": ("is not a list", 'write it like ["a", "b"]'),
    "dict_type": ("is not a table", "write it as [section], or like {name = value}"),
    "model_type": ("is not a table", "write it as [section], or like {name = value}"),
    "model_attributes_type": ("is not a table", "write it as [section], or like {name = value}"),
}
_OUT_OF_BOUNDS = {
    "greater_than": ("is too small", "write more than", "gt"),
    "greater_than_equal": ("is too small", "write at least", "ge"),
    "less_than": ("is too large", "write less than", "lt"),
    "less_than_equal": ("is too large", "write at most", "le"),
}


def validate(values: Mapping[str, Any]) -> tuple[Valid, Settings, list[Complaint]]:
    """Return the valid sections of *values*, all keys that can be read, and the complaints, which quote no value.

    What can be read also has the valid keys of sections with a fault: to find files and a running instance, never to
    run with.
    """
    unknown = [name for name in values if name not in _NAMES]
    complaints = [_unknown_section(name, suggest=at < _MOST_SUGGESTIONS) for at, name in enumerate(unknown)]
    # Unknown ones are taken out also because BaseSettings has own parameters, like _secrets_dir.
    values = {name: value for name, value in values.items() if name in _NAMES}
    faulty: set[Key] = set()
    try:
        readable = settings = validated(Settings, values)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        complaints += [_complaint(fault) for fault in faults[:_MOST_SUGGESTIONS]]
        faulty = {_section_of(fault["loc"]) for fault in faults}
        settings = validated(Settings, _without(values, faulty))
        unreadable = {_unreadable(fault["loc"]) for fault in faults}
        readable = validated(Settings, _without(values, unreadable))
    routes = values.get("routes")
    rules = dict(enumerate(routes)) if isinstance(routes, list) else {}
    names = (rule.get("name") for rule in rules.values() if isinstance(rule, dict))
    valid = Valid(
        settings=settings,
        routes=dict(zip([at for at in rules if ("routes", at) not in faulty], settings.routes, strict=True)),
        route_names=frozenset(name for name in names if isinstance(name, str)),
        faulty=frozenset(faulty),
        given=frozenset(key for key, _ in leaves(values)),
    )
    return valid, readable, complaints


def _section_of(key: Key) -> Key:
    return key[: 2 if key[0] in _TABLES else 1]


def _unreadable(key: Key) -> Key:
    """Return what a fault at *key* makes unreadable: one key of a section, or all of it if it needs that key."""
    section = _section_of(key)
    name = key[len(section) : len(section) + 1]
    field = field_at((*section, *name)) if name else None
    required = not name or name == (_NAME_MARK,) or (field is not None and field.is_required())
    return section if required else (*section, *name)


def _without(values: Mapping[str, Any], keys: Collection[Key]) -> dict[str, Any]:
    """Return *values* without *keys*; the environment becomes mock, which has the fewest rules."""
    left: dict[str, Any] = copied(values)
    for key in sorted(keys, key=len, reverse=True):
        table: Any = left
        for part in key[:-1]:
            table = table[part]
        if isinstance(table, list):
            table[int(key[-1])] = None
        else:
            table.pop(key[-1], None)
    if isinstance(left.get("routes"), list):
        left["routes"] = [rule for rule in left["routes"] if rule is not None]
    return {"environment": "mock", **left}


def _unknown_section(name: str, *, suggest: bool) -> Complaint:
    fix = _suggestion(name, ()) if suggest else "correct it or remove it"
    return Complaint(key=(name,), what=UNKNOWN_KEY, fix=fix)


def _complaint(fault: ErrorDetails) -> Complaint:
    key, kind, context = fault["loc"], fault["type"], fault.get("ctx", {})
    if _NAME_MARK in key:
        key = key[: key.index(_NAME_MARK)]
    field = field_at(tuple(part for part in key if not isinstance(part, int) or key[0] == "routes"))
    description = (field.description if field is not None else None) or "see docs/settings.md"
    what, fix = "is not acceptable", description
    if kind == "missing":
        what, fix = "is missing", f"add it: {description}"
    elif kind == "extra_forbidden":
        what, fix = UNKNOWN_KEY, _suggestion(str(key[-1]), key[:-1])
    elif kind == "literal_error":
        what, fix = "is not one of the allowed values", f"write {context['expected']}".replace("'", '"')
    elif kind == "unacceptable":
        what, fix = str(context["what"]), str(context["fix"])
    elif kind == "string_pattern_mismatch":
        what = "the name does not begin with a-z, or has other characters than a-z, 0-9, _ and -"
        fix = f"choose a name that matches {NAME_PATTERN}"
    elif kind in _OUT_OF_BOUNDS:
        what, words, bound = _OUT_OF_BOUNDS[kind]
        fix = f"{words} {context[bound]}"
    elif kind in _WRONG_TYPE:
        what, fix = _wrong_type(key, kind)
    return Complaint(key=key, what=what, fix=fix)


def _wrong_type(key: Key, kind: str) -> tuple[str, str]:
    if kind == "tuple_type" and key == ("routes",):
        return (
            "is one table, and rules are a list of them",
            "write [[routes]], in two brackets, above each rule, and what it is called as its `name`",
        )
    if kind == "tuple_type" and key[-1] == "remint_on":
        return "is not a list", 'write it like [{status = 403, body = "GCA-001"}]'
    return _WRONG_TYPE[kind]


def _suggestion(name: str, section: Key) -> str:
    """Return a hint for the unknown key *name* in *section*."""
    near = nearest(name, names_in(section))
    homes = [home or "the top of the file" for home in homes_of(name)]
    meant = [f'did you mean "{near}"?'] if near is not None else []
    meant += [f"{name} belongs into {' or '.join(homes)}"] if homes else []
    if meant:
        return " ".join(meant)
    field = field_at(section) if section else None
    known = ", ".join(names_in(section)) if field is None or kind_of(field) is ValueKind.SECTION else ""
    return f"remove it; known are {known}" if known else "remove it"
