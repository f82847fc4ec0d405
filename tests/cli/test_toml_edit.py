import tomllib

import pytest

from proxy.cli.toml_edit import NotEditable, with_value

TEXT = '''top = "a"  # first
[one]
name = 'old'   # kept "as it is"
[[rules]]
name = "x"
[[rules]]
other = """
name = 1
"""
'''


def test_only_the_value_changes() -> None:
    """Comments, spelling and everything else stay."""
    changed = with_value(TEXT, ("one", "name"), 'n"ew')
    assert changed == TEXT.replace("'old'", '"n\\"ew"')
    assert with_value(TEXT, ("top",), "b") == TEXT.replace('"a"', '"b"')
    assert with_value(TEXT, ("rules", 0, "name"), "y") == TEXT.replace('"x"', '"y"')


@pytest.mark.parametrize("key", [("one", "more"), ("rules", 1, "name"), ("more",)])
def test_a_new_key_comes_behind_its_header(key: tuple[str | int, ...]) -> None:
    """It belongs to its table, and nothing else has changed."""
    changed = tomllib.loads(with_value(TEXT, key, "v"))
    table = changed
    for part in key[:-1]:
        table = table[part]  # type: ignore[index]
    assert table.pop(str(key[-1])) == "v"
    assert changed == tomllib.loads(TEXT)


@pytest.mark.parametrize(
    ("text", "key", "where"),
    [
        (TEXT, ("two", "name"), "table of two"),
        ("[one]\nname = 3\n", ("one", "name"), "line 2"),
        ('one = { name = "x" }\n', ("one", "name"), "table of one"),
        ('[one]\nname = """x"""\n', ("one", "name"), "line 2"),
    ],
)
def test_what_is_not_edited_is_named(text: str, key: tuple[str, ...], where: str) -> None:
    """Another form of value is left to a person, with the line to write."""
    with pytest.raises(NotEditable, match=where) as refused:
        with_value(text, key, "v")
    assert f'{key[-1]} = "v"' in str(refused.value)
