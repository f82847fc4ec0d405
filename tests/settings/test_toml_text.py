import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.toml_text import MAX_LEVELS, TomlUnusable, parse_toml, too_deep

PIECES = ["a", ".", "=", "[", "]", "{", "}", ",", "\n", '"', "'", '"""', "'''", "#", "1", " ", "\\", "[[", "a.b=1\n"]


def depth(value: Any) -> int:
    """Return how many tables and lists are in each other."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x = " + "9" * 5000, "too many digits"),
        ("a" + ".a" * 2000 + " = 1", "64 levels"),
        ("a" + ".a" * 30000 + " = 1", "64 levels"),
        ("[" + "a." * 40 + "a]\n" + "b." * 40 + "b = 1", "64 levels"),
        ("a = " + "[" * 5000 + "]" * 5000, "64 levels"),
        ("a = " + "{a.b.c = " * 30 + "1" + "}" * 30, "64 levels"),
        ("a = [1, 2", "array"),
        ("a = 0x", ""),
    ],
)
def test_whatever_the_parser_raises_is_said_with_its_line(line: str, words: str) -> None:
    """Also what tomllib raises without one, and what it would take minutes for; no value is quoted."""
    with pytest.raises(TomlUnusable, match="(?i)" + words) as caught:
        parse_toml(f"environment = 'mock'\n\n{line}\n")

    assert caught.value.line in {3, 4}
    assert "99" not in str(caught.value)


def brackets(number: int) -> str:
    """Return lists in each other."""
    return "[" * number + "]" * number


@pytest.mark.parametrize("levels", [MAX_LEVELS, MAX_LEVELS + 1])
def test_levels_are_counted_as_the_parser_makes_them(levels: int) -> None:
    """Of dots, of lists, of tables in each other, and of strings and comments none."""
    for text in (
        ".".join("a" * levels) + " = 1",
        "[" + ".".join("a" * (levels - 1)) + "]\nb = 1",
        "a = " + brackets(levels - 1),
        "a = " + "{a = " * (levels - 1) + "1" + "}" * (levels - 1),
        "[[a.b]]\nc.d = {e.f = [{g = 1.5}, {h = 2.5}]} # ..[[[[\n" + 'i = "...[[["\nj = ' + brackets(levels - 4),
    ):
        assert depth(tomllib.loads(text)) == levels
        assert bool(too_deep(text)) == (levels > MAX_LEVELS)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_all_else_is_what_tomllib_makes_of_it(text: str) -> None:
    """What is no TOML has a line in the text."""
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(TomlUnusable) as caught:
            parse_toml(text)
        assert 1 <= caught.value.line <= text.count("\n") + 1
    else:
        assert parse_toml(text) == expected
