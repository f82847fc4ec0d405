import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from proxy.settings.schema import json_schema, sections, settings_tables

CONFIG = Path(__file__).parents[2] / "config"


def test_the_committed_schema_is_the_types() -> None:
    """config/payproxy.schema.json is generated: `payproxy config schema > config/payproxy.schema.json`."""
    assert json.loads((CONFIG / "payproxy.schema.json").read_text()) == json_schema()


def test_every_key_is_described() -> None:
    """An editor that knows the schema can say what each key is for."""
    schema = json_schema()
    for name, definition in {"": schema, **schema["$defs"]}.items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def test_the_schema_has_no_place_for_a_secret() -> None:
    """An editor must not offer to write a client secret into the file."""
    assert "client_secret" not in json_schema()["$defs"]["CredentialSection"]["properties"]


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Return whether *value* is allowed by the parts of JSON Schema that ours uses."""
    schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        known, extra = schema.get("properties", {}), schema.get("additionalProperties")
        patterns = list(schema.get("patternProperties", {}).values())
        places = {key: known.get(key) or next(iter(patterns), None) or extra for key in value}
        return set(schema.get("required", ())) <= set(value) and all(
            isinstance(place, dict) and fits(value[key], place, root) for key, place in places.items()
        )
    if isinstance(value, list):
        return schema["type"] == "array" and all(fits(one, schema["items"], root) for one in value)
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return bool(schema["type"] == kinds[type(value)] or (schema["type"] == "number" and type(value) is int))


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_fit_the_schema(path: Path) -> None:
    """What an editor accepts and what the proxy accepts are the same for every example."""
    schema = json_schema()
    values = tomllib.loads(path.read_text())

    assert fits(values, schema, schema)
    assert not fits({**values, "unknown": 1}, schema, schema)


def test_the_tables_have_every_key() -> None:
    """The page of settings names each key once, with an anchor of its own and its default."""
    tables = settings_tables()
    rows = [row for table in tables.values() for row in table.splitlines()[2:]]
    keys = [row.split("`")[1] for row in rows]
    anchors = [row.split('"')[1] for row in rows]

    assert len(keys) == len(set(keys)) == len(set(anchors))
    assert sum(len(model.model_fields) for _, model in sections()) - 10 == len(keys)
    assert {
        "environment",
        "server.listen",
        "upstreams.NAME.url",
        "credentials.NAME.client_secret",
        "routes[].path",
    } <= set(keys)
    assert '| <a id="server-exchange_timeout"></a>`server.exchange_timeout` | number | `200` |' in tables["server"]
    assert "`credentials.NAME.token_url` | string | by flavor |" in tables["credentials.NAME"]
    assert '<a id="routes-path"></a>' in tables["routes[]"]
