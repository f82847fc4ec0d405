from pathlib import Path

import pytest

from proxy.cli.migration_finish import edits_for
from proxy.settings.load import load
from tests.cli.test_migration import CONFIGURATION


def edits(folder: Path, text: str, *, side: str) -> list[tuple[str, str]]:
    """Return place and text of the edits, the folder left out."""
    (folder / "secret").touch(mode=0o600)
    (folder / "secret").write_text("secret")
    path = folder / "payproxy.toml"
    path.write_text(text)
    loaded = load(path, environ={}, cwd=folder)
    assert loaded.settings is not None, loaded.findings
    found = edits_for(loaded.settings, loaded, "payments", side=side)
    return [(edit.place.removeprefix(f"{folder}/"), edit.text) for edit in found]


def test_the_modern_side_is_written_into_the_rule(tmp_path: Path) -> None:
    """With the line of each key, and of the table that goes."""
    assert edits(tmp_path, CONFIGURATION, side="modern") == [
        ("payproxy.toml:20", 'credential = "new"'),
        ("payproxy.toml:21", 'audience = "uri:1"'),
        ("payproxy.toml:22", ""),
    ]


def test_a_rule_that_has_its_values_keeps_them(tmp_path: Path) -> None:
    """At weight 0 of a rule that is legacy only the table goes."""
    assert edits(tmp_path, CONFIGURATION, side="legacy") == [("payproxy.toml:22", "")]


@pytest.mark.parametrize(
    ("mine", "modern", "text"),
    [
        ("", ', upstream = "other"', 'upstream = "other"'),
        ("", ', scope = "s"', 'scope = "s"'),
        ('scope = "s"\n', "", ""),
        ("", ', scope = "jpm:payments:sandbox"', None),
        ('scope = "jpm:payments:sandbox"\n', "", None),
    ],
    ids=str,
)
def test_scope_and_upstream_are_named_where_they_differ(
    tmp_path: Path, mine: str, modern: str, text: str | None
) -> None:
    """A scope that the flavor has anyway needs no line; a key that goes is named too."""
    changed = (
        CONFIGURATION.replace('audience = "RS-1"\n', f'audience = "RS-1"\n{mine}', 1)
        .replace('audience = "uri:1" }', f'audience = "uri:1"{modern} }}')
        .replace('audience = "RS-1" }', f'audience = "RS-1"{", " if mine else ""}{mine.strip()} }}')
    )

    found = [one[1] for one in edits(tmp_path, changed, side="modern")]

    assert found == ['credential = "new"', 'audience = "uri:1"', *([text] if text is not None else []), ""]
