"""The configuration's keys and kinds of values, from its types; the JSON Schema and tables of them."""

import json
import re
from collections.abc import Iterator
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.secret import Secret
from proxy.settings.credential import PRESETS
from proxy.settings.fields import FilePath
from proxy.settings.findings import Key
from proxy.settings.model import Settings
from proxy.settings.models import model_of
from proxy.settings.section import Section

_SETTINGS = model_of(Settings)

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


# Set by the environment or a secrets directory only; in the file it is a finding.
_NOT_IN_THE_FILE = {("CredentialSection", "client_secret"), ("CredentialSection", "private_key_pin")}

_PRESET_KEYS = frozenset(key for preset in PRESETS.values() for key in preset)


class ValueKind(Enum):
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


def kind_of(field: FieldInfo) -> ValueKind:
    """Return the kind of value that *field* takes; SECTION if it has keys of its own."""
    annotation = field.annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _section_in(annotation) is not None:
        kind = ValueKind.SECTION
    elif origin is tuple:
        kind = ValueKind.LIST
    elif origin is dict:
        kind = ValueKind.TABLE
    elif NoneType in arguments or annotation is Secret:
        kind = ValueKind.SECRET
    elif annotation is bool:
        kind = ValueKind.BOOLEAN
    elif annotation is int:
        kind = ValueKind.INTEGER
    elif annotation is float:
        kind = ValueKind.NUMBER
    else:
        kind = ValueKind.PATH if any(isinstance(mark, FilePath) for mark in field.metadata) else ValueKind.TEXT
    return kind


def field_at(key: Key) -> FieldInfo | None:
    """Return the field of *key*; None for tables with chosen names and entries of plain tables."""
    model = _SETTINGS
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


def text_kind(key: Key) -> ValueKind | None:
    """Return the kind of *key* if a single text can set it, also for an entry of a plain table, else None."""
    field = field_at(key)
    if field is None:
        parent = field_at(key[:-1])
        if parent is None or kind_of(parent) is not ValueKind.TABLE:
            return None
        return ValueKind.SECRET if Secret in _types_in(parent.annotation) else ValueKind.TEXT
    kind = kind_of(field)
    return None if kind is ValueKind.SECTION else kind


def value_of(text: str, kind: ValueKind) -> Any:
    """Convert *text*, from variables, secret files or flags, to a value of *kind*.

    Lists are JSON or separated by commas, tables are JSON. A text that does not fit *kind* is returned unchanged, so
    that the types reject it like any wrong value; raises ValueError for invalid JSON.
    """
    bare = text.strip()
    match kind:
        case ValueKind.BOOLEAN:
            return {"true": True, "false": False}.get(bare, text)
        case ValueKind.INTEGER:
            return int(bare) if _INTEGER.fullmatch(bare) else text
        case ValueKind.NUMBER:
            return float(bare) if _NUMBER.fullmatch(bare) else text
        case ValueKind.LIST if not bare.startswith("["):
            return [part for part in (part.strip() for part in bare.split(",")) if part]
        case ValueKind.LIST | ValueKind.TABLE:
            return json.loads(bare)
    return text


def names_in(key: Key) -> tuple[str, ...]:
    """Return the keys that the section *key* can have; () if it is no section or its keys are chosen freely."""
    if not key:
        return tuple(_SETTINGS.model_fields)
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
    yield "", _SETTINGS
    for name, field in _SETTINGS.model_fields.items():
        section = _section_in(field.annotation)
        if section is not None:
            model, place = section
            title = f"[[{name}]]" if place is int else f"[{name}.*]" if place is str else f"[{name}]"
            yield title, model


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of payproxy.toml, for editors that complete and check TOML."""
    schema = _SETTINGS.model_json_schema()
    for name, definition in schema["$defs"].items():
        definition["properties"] = {
            key: _plain(value) for key, value in definition["properties"].items() if (name, key) not in _NOT_IN_THE_FILE
        }
    for key in _PRESET_KEYS:  # pydantic shows the type's default, not that of the flavor
        schema["$defs"]["CredentialSection"]["properties"][key].pop("default")
    schema["properties"] = {key: _plain(value) for key, value in schema["properties"].items()}
    schema.pop("description", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "payproxy.toml"}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Drop titles that repeat the key and defaults that repeat a whole section, which pydantic adds."""
    drop = {"title"} | ({"default"} if isinstance(value.get("default"), dict) else set())
    return {name: _whole(part) for name, part in value.items() if name not in drop}


def _whole(value: Any) -> Any:
    """Return *value*, seconds as people write them: 5 for 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def settings_tables() -> dict[str, str]:
    """Return a Markdown table of keys by section name; "" has the keys outside all sections."""
    return {_section_name(title): _table(title, model) for title, model in sections()}


def _section_name(title: str) -> str:
    name = title.replace("[[", "").replace("]]", "[]").strip("[]").replace("*", "NAME")
    return f"{name}[]" if title.startswith("[[") else name


def _table(title: str, model: type[BaseModel]) -> str:
    rows = ["| Key | Kind | Default | What it is |", "|---|---|---|---|"]
    prefix = _section_name(title)
    for key, field in model.model_fields.items():
        kind = kind_of(field)
        if kind is ValueKind.SECTION and not title:
            continue
        name = f"{prefix}.{key}" if prefix else key
        by_flavor = title == "[credentials.*]" and key in _PRESET_KEYS
        default = "by flavor" if by_flavor else _default(field)
        shown = kind.value if kind is not ValueKind.SECTION else _section_kind(field)
        anchor = f'<a id="{_anchor(name)}"></a>'
        rows.append(f"| {anchor}`{name}` | {shown} | {default} | {_cell(field.description or '')} |")
    return "\n".join(rows) + "\n"


def _anchor(name: str) -> str:
    """Return the anchor of the key *name*: server-listen for server.listen."""
    return re.sub("[^a-z0-9_]+", "-", name.lower())


def _section_kind(field: FieldInfo) -> str:
    return "list of tables" if isinstance(field.default, tuple) else "table"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{_literal(field.default)}`" if field.default is not None else "none"


def _literal(value: object) -> str:
    """Return *value* in TOML syntax."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Section):
        return "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(one) for one in value) + "]"
    return str(_whole(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


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
