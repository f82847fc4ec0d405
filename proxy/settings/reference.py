"""Settings reference, generated from the types: JSON Schema for editors and tables for docs/settings.md."""

import re
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.settings.credential import PRESETS
from proxy.settings.model import Settings
from proxy.settings.section import Section
from proxy.settings.shape import Kind, kind_of, sections

# Set by the environment or a secrets directory only; in the file it is a finding.
_NOT_IN_THE_FILE = {("CredentialSection", "client_secret")}

_PRESET_KEYS = frozenset(key for preset in PRESETS.values() for key in preset)

_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of payproxy.toml, for editors that complete and check TOML."""
    schema = Settings.model_json_schema()
    for name, definition in schema["$defs"].items():
        definition["properties"] = {
            key: _plain(value) for key, value in definition["properties"].items() if (name, key) not in _NOT_IN_THE_FILE
        }
    for key in _PRESET_KEYS:  # pydantic shows the type's default, not that of the flavor
        schema["$defs"]["CredentialSection"]["properties"][key].pop("default")
    schema["properties"] = {key: _plain(value) for key, value in schema["properties"].items()}
    schema.pop("description", None)
    return {"$schema": _SCHEMA_DIALECT, **schema, "title": "payproxy.toml"}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Drop titles that repeat the key and defaults that repeat a whole section, which pydantic adds."""
    drop = {"title"} | ({"default"} if isinstance(value.get("default"), dict) else set())
    return {name: part for name, part in value.items() if name not in drop}


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
        if kind is Kind.SECTION and not title:
            continue
        name = f"{prefix}.{key}" if prefix else key
        by_flavor = title == "[credentials.*]" and key in _PRESET_KEYS
        default = "by flavor" if by_flavor else _default(field)
        shown = kind.value if kind is not Kind.SECTION else _section_kind(field)
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
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
