"""The configuration's shape, derived from its types: which keys exist, and the kind of each value."""

import json
import re
from collections.abc import Iterator
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.secret import Secret
from proxy.settings.fields import FilePath
from proxy.settings.findings import Key
from proxy.settings.model import Settings

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


class Kind(Enum):
    """The kind of a key's value."""

    TEXT = "string"
    PATH = "path"
    SECRET = "secret"  # noqa: S105 - name of a kind
    BOOLEAN = "true or false"
    INTEGER = "integer"
    NUMBER = "number"
    LIST = "list"
    TABLE = "table"
    SECTION = "section"


def kind_of(field: FieldInfo) -> Kind:
    """Return the kind of value that *field* takes; SECTION if it has keys of its own."""
    annotation = field.annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _section_in(annotation) is not None:
        kind = Kind.SECTION
    elif origin is tuple:
        kind = Kind.LIST
    elif origin is dict:
        kind = Kind.TABLE
    elif NoneType in arguments or annotation is Secret:
        kind = Kind.SECRET
    elif annotation is bool:
        kind = Kind.BOOLEAN
    elif annotation is int:
        kind = Kind.INTEGER
    elif annotation is float:
        kind = Kind.NUMBER
    else:
        kind = Kind.PATH if any(isinstance(mark, FilePath) for mark in field.metadata) else Kind.TEXT
    return kind


def field_at(key: Key) -> FieldInfo | None:
    """Return the field of *key*; None for tables with chosen names and entries of plain tables."""
    model: type[BaseModel] = Settings
    rest = list(key)
    while rest:
        field = model.model_fields.get(str(rest.pop(0)))
        if field is None or not rest:
            return field
        section = _section_in(field.annotation)
        if section is None:
            return None
        model, place = section
        if place is not None and not isinstance(rest.pop(0), place):
            return None
    return None


def text_kind(key: Key) -> Kind | None:
    """Return the kind of *key* if a single text can set it, also for an entry of a plain table, else None."""
    field = field_at(key)
    if field is None:
        parent = field_at(key[:-1])
        if parent is None or kind_of(parent) is not Kind.TABLE:
            return None
        return Kind.SECRET if Secret in _types_in(parent.annotation) else Kind.TEXT
    kind = kind_of(field)
    return None if kind is Kind.SECTION else kind


def holds_paths(field: FieldInfo) -> bool:
    """Return whether *field* is a list of paths."""
    inner = get_args(field.annotation)
    return kind_of(field) is Kind.LIST and any(isinstance(mark, FilePath) for mark in get_args(inner[0]))


def value_of(text: str, kind: Kind) -> Any:
    """Convert *text*, from variables, secret files or flags, to a value of *kind*.

    Lists are JSON or separated by commas, tables are JSON. A text that does not fit *kind* is returned unchanged, so
    that the types reject it like any wrong value; raises ValueError for invalid JSON.
    """
    bare = text.strip()
    match kind:
        case Kind.BOOLEAN:
            return {"true": True, "false": False}.get(bare, text)
        case Kind.INTEGER:
            return int(bare) if _INTEGER.fullmatch(bare) else text
        case Kind.NUMBER:
            return float(bare) if _NUMBER.fullmatch(bare) else text
        case Kind.LIST if not bare.startswith("["):
            return [part for part in (part.strip() for part in bare.split(",")) if part]
        case Kind.LIST | Kind.TABLE:
            return json.loads(bare)
    return text


def names_in(key: Key) -> tuple[str, ...]:
    """Return the keys that the section *key* can have; () if it is no section or its keys are chosen freely."""
    if not key:
        return tuple(Settings.model_fields)
    for field_key, place in ((key, None), (key[:-1], type(key[-1]))):
        field = field_at(field_key)
        section = _section_in(field.annotation) if field is not None else None
        if section is not None and section[1] is place:
            return tuple(section[0].model_fields)
    return ()


def homes_of(name: str) -> list[str]:
    """Return the titles of the sections that have a key *name*."""
    return [title for title, model in sections() if name in model.model_fields]


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Return each section with its title, "" for the top level."""
    yield "", Settings
    for name, field in Settings.model_fields.items():
        section = _section_in(field.annotation)
        if section is not None:
            model, place = section
            title = f"[[{name}]]" if place is int else f"[{name}.*]" if place is str else f"[{name}]"
            yield title, model


def _section_in(annotation: Any) -> tuple[type[BaseModel], type | None] | None:
    """Return the model in *annotation* and how it is indexed: not at all, by name (str) or by position (int)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, None
    place = {dict: str, tuple: int}.get(get_origin(annotation))
    if place is not None:
        for inner in get_args(annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                return inner, place
    return None


def _types_in(annotation: Any) -> set[Any]:
    return {annotation}.union(*(_types_in(inner) for inner in get_args(annotation) if not isinstance(inner, str)))
