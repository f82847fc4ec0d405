"""Parses TOML from any file: size and depth are limited first, and every parser error gets its line."""

import re
import tomllib
from collections.abc import Callable
from typing import Any

# Room for thousands of rules; a larger file is something else, like a log.
MAX_FILE_BYTES = 1024 * 1024
# Ours has 4. Beyond some hundred the parser, and code that walks its result, exceed the recursion limit.
MAX_LEVELS = 64

_LOCATION = re.compile(r"\s*\(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
# Strings and comments (with any content), line ends, and characters that change the level; the rest is skipped.
_PIECES = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*|[\n.=,{}\[\]]",
    re.DOTALL,
)


class TomlUnusable(ValueError):
    """A text is not usable TOML; `str` gives the reason without quoting a value, *line* counts from 1."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


def parse_toml(text: str) -> dict[str, Any]:
    """Parse *text*; raise TomlUnusable."""
    if line := too_deep(text):
        raise TomlUnusable(f"tables, lists and dotted keys are nested more than {MAX_LEVELS} levels deep", line)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        # E.g. CPython bug 103636: an integer of more than 4,300 digits is a plain ValueError, without a position.
        kind = type(error)
        raise TomlUnusable(_words(kind), _first_line(text, lambda part: _raises(kind, part))) from None
    location = _LOCATION.search(message)
    line = text.count("\n") + 1
    if location is not None:
        message = message[: location.start()]
        line = int(location["line"]) if location["line"] else line
    # tomllib quotes single characters and key names, never values.
    raise TomlUnusable(f"{message[:1].lower()}{message[1:]}", line)


def too_deep(text: str) -> int:  # noqa: C901 - one branch per character
    """Return the first line of *text* with more than MAX_LEVELS levels, 0 if there is none.

    Tables, lists and the dots of keys all count as levels, as in the parser's result.
    """
    line, table, level = 1, 0, 0
    header, key = False, True  # dots count only inside a key
    opened: list[tuple[int, int]] = []  # per open bracket: the level around it and the level inside it
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
    """Return the fewest first lines of *text* for which *holds* is true, by bisection; the parser reads in order."""
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
