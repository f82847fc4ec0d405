import re
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import get_args

import pytest

from proxy.settings.fields import FilePath
from proxy.settings.model import Settings
from proxy.settings.schema import ValueKind, kind_of, sections


def test_every_section_is_a_noun_of_the_contract() -> None:
    """The tables are those of the contract."""
    assert [title for title, _ in sections()] == [
        "",
        "[server]",
        "[admin]",
        "[upstreams.*]",
        "[credentials.*]",
        "[[routes]]",
        "[callers.*]",
        "[request_log]",
        "[state]",
        "[migrations.*]",
        "[facade]",
    ]


def test_settings_never_change() -> None:
    """A section can be shared: nobody can write to it."""
    settings = Settings(environment="mock")

    with pytest.raises(FrozenInstanceError):
        settings.server.listen = "x"  # type: ignore[misc]


def test_every_file_key_is_read_as_a_path() -> None:
    """A key that names a file is relative to the configuration file, so none may be a plain text."""
    for title, model in sections():
        for key, field in model.model_fields.items():
            if re.search(r"(_|^)(file|directory)$", key):
                assert kind_of(field) is ValueKind.PATH, f"{title} {key}"
            if key.endswith("_files"):
                assert FilePath() in get_args(get_args(field.annotation)[0]), f"{title} {key}"


def test_examples_exist() -> None:
    """The repository has one example per environment and flavor."""
    names = {path.stem for path in (Path(__file__).parents[2] / "config").glob("*.toml")}

    assert names == {"demo", "mock", "client-testing", "production", "adfs-migration"}
