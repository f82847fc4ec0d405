import pytest

from proxy.cli.output import terminal_width, wrapped


def test_lines_fit_and_commands_stay_whole() -> None:
    """What stands in backticks is copied by people; a word that is too long is not divided."""
    text = "run `payproxy check --online` and then look at what it says about the credential; x" + "y" * 50
    lines = wrapped(text, width=40, indent="  ").split("\n")

    assert " ".join(line.strip() for line in lines) == text
    assert any("`payproxy check --online`" in line for line in lines)
    assert all(len(line) <= 40 for line in lines[:-1])
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("width", [0, 10])
def test_without_a_width_nothing_is_broken(width: int) -> None:
    """Where nobody reads it on a terminal, a message is one line."""
    assert wrapped("a " * 100, width=width, first="- ") == "- " + "a " * 100


@pytest.mark.parametrize(("columns", "width"), [("72", 72), ("0", None), ("x", None), ("", None)])
def test_columns_go_before_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, width: int | None) -> None:
    """As everywhere; what is no number is not heeded."""
    monkeypatch.setenv("COLUMNS", columns)
    found = terminal_width()
    assert found == width if width is not None else found >= 0
