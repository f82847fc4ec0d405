import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.hot_path import HOT_PATH

ROOT = Path(__file__).parent.parent
_WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith)
_OWN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def waits_within(statements: list[ast.stmt]) -> Iterator[int]:
    """Yield the lines in which *statements* wait, but for those of functions that they define."""
    left: list[ast.AST] = list(statements)
    while left:
        node = left.pop()
        if isinstance(node, _WAITS):
            yield node.lineno
        if not isinstance(node, _OWN):
            left += ast.iter_child_nodes(node)


def waits_with_an_exception(source: str) -> list[int]:
    """Return the lines of *source* that wait within an `except` or a `finally`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Try | ast.TryStar):
            found += [line for handler in node.handlers for line in waits_within(handler.body)]
            found += waits_within(node.finalbody)
    return sorted(found)


@pytest.mark.parametrize("module", HOT_PATH)
def test_nothing_compiled_waits_while_it_handles_an_exception(module: str) -> None:
    """In mypyc's code the exception would be every other task's too, and a `finally` that waits would raise it there.

    What waits has to stand behind the handler: see
    test_retry_pins.py::test_one_that_waits_for_its_pin_leaves_the_others_alone.
    """
    assert waits_with_an_exception((ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("try:\n await a\nexcept B:\n pass\nfinally:\n c()", []),
        ("try:\n a()\nexcept B:\n await c", [4]),
        ("try:\n a()\nfinally:\n if b:\n  await c", [5]),
        ("try:\n a()\nexcept B:\n async with c:\n  d()", [4]),
        ("try:\n a()\nexcept B:\n async def c():\n  await d", []),
    ],
)
def test_the_search_finds_them(source: str, lines: list[int]) -> None:
    """Only what waits itself counts, and only there."""
    assert waits_with_an_exception(source) == lines
