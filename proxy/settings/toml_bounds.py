"""TOML from a file, whatever it holds: bounded before it is parsed; what the parser raises is said with its line."""

import re
import tomllib
from collections.abc import Callable
from typing import Any

# Thousands of rules fit; a larger file is something else, like a log.
MAX_FILE_BYTES = 1024 * 1024
# Ours has 4. Beyond some hundred the parser, and all who walk through what it returns, run out of stack.
MAX_LEVELS = 64

_LOCATION = re.compile(r"\s*\(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
# What may hold anything, what ends a line, and what makes levels; all else is skipped.
_PIECES = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*|[\n.=,{}\[\]]",
    re.DOTALL,
)


class TomlUnusable(ValueError):
    """A text is not TOML that can be used; `str` says why without quoting a value, *line* counts from 1."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


def parse_toml(text: str) -> dict[str, Any]:
    """Return what *text* holds; raises TomlUnusable."""
    if line := too_deep(text):
        raise TomlUnusable(f"tables, lists and dotted keys are nested more than {MAX_LEVELS} levels deep", line)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        # CPython bug 103636 and its like: an integer of more than 4,300 digits is a plain ValueError, without a place.
        kind = type(error)
        raise TomlUnusable(_words(kind), _first_line(text, lambda part: _raises(kind, part))) from None
    location = _LOCATION.search(message)
    line = text.count("\n") + 1
    if location is not None:
        message = message[: location.start()]
        line = int(location["line"]) if location["line"] else line
    # tomllib quotes single characters and names of keys, never values.
    raise TomlUnusable(f"{message[:1].lower()}{message[1:]}", line)


def too_deep(text: str) -> int:  # noqa: C901 - a branch a character
    """Return the line on which *text* first has more than MAX_LEVELS levels, 0 if it has not.

    Tables, lists and the dots of keys count together, as they do in what the parser makes of them.
    """
    line, table, level = 1, 0, 0
    header, key = False, True  # in a key, and nowhere else, dots count
    opened: list[tuple[int, int]] = []  # of each bracket: the level around it, and that of what is in it
    for match in _PIECES.finditer(text):
        piece = match.group()
        if piece == "\n" and (header or not opened):
            table = level if header else table
            header, key, level = False, True, table
        elif header:
            level += piece in {".", "["}
        elif piece == "[" and not opened and _begins_line(text, match.start()):
            header, level = True, 1
        elif piece in {"[", "{"}:
            opened.append((level, level + (piece == "[")))
            level, key = opened[-1][1], piece == "{"
        elif piece in {"]", "}"} and opened:
            level = opened.pop()[0]
        elif piece == "," and opened:
            level, key = opened[-1][1], True
        elif piece == "=":
            level, key = level + 1, False
        elif piece == "." and key:
            level += 1
        line += piece.count("\n")
        if level > MAX_LEVELS:
            return line
    return 0


def _begins_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


def _raises(kind: type[Exception], text: str) -> bool:
    try:
        tomllib.loads(text)
    except kind as error:
        return not isinstance(error, tomllib.TOMLDecodeError)
    except ValueError:
        return False
    return False


def _first_line(text: str, holds: Callable[[str], bool]) -> int:
    """Return how many lines of *text* it takes that *holds* of them: the parser goes from the first to the last."""
    lines = text.splitlines(keepends=True)
    fewest, most = 1, max(1, len(lines))
    while fewest < most:
        middle = (fewest + most) // 2
        if holds("".join(lines[:middle])):
            most = middle
        else:
            fewest = middle + 1
    return fewest


def _words(kind: type[Exception]) -> str:
    return "a number has too many digits" if issubclass(kind, ValueError) else "more than can be read"
