"""Parses TOML from any file, with limits of size and depth, and finds the line of each key, as tomllib does not."""

import re
import tomllib
from collections.abc import Callable
from typing import Any

from proxy.settings.findings import Key

# Room for thousands of rules; a larger file is something else, like a log.
MAX_FILE_BYTES = 1024 * 1024
# Ours has 4. Beyond some hundred the parser, and code that walks its result, exceed the recursion limit.
MAX_LEVELS = 64

_LOCATION = re.compile(r"\s*\(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
# Strings and comments, with any content.
_OPAQUE = r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'" + r"|#[^\n]*"
# With line ends and characters that change the level; the rest is skipped.
_PIECES = re.compile(_OPAQUE + r"|[\n.=,{}\[\]]", re.DOTALL)
# With any other single character, such as a bracket.
_PIECE = re.compile(_OPAQUE + r"|.", re.DOTALL)
# One part of a key: bare, basic-quoted or literal-quoted (TOML 1.0, Keys).
_PART = re.compile(r"""\s*(?:(?P<bare>[A-Za-z0-9_-]+)|"(?P<basic>(?:[^"\\]|\\.)*)"|'(?P<literal>[^']*)')\s*""")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_OPENING = "[{"
_CLOSING = "]}"


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


def key_lines(text: str) -> dict[Key, int]:
    """Return the line of each key and table of *text*, which tomllib has accepted; lines count from 1.

    Keys inside inline tables are left out: they are on the line of the key that contains them, or near it.
    """
    return _Lines(text).read()


class _Lines:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._position = 0
        self._lines: dict[Key, int] = {}
        self._arrays: dict[Key, int] = {}
        self._table: Key = ()

    def read(self) -> dict[Key, int]:
        self._skip(_BLANK)
        line, counted = 1, 0
        while self._position < len(self._text):
            before = self._position
            line += self._text.count("\n", counted, before)
            counted = before
            if self._text.startswith("[", before):
                self._header(line)
            else:
                self._assignment(line)
            self._skip(_BLANK)
            if self._position == before:  # not TOML: stop instead of looping forever
                break
        return self._lines

    def _header(self, line: int) -> None:
        double = self._text.startswith("[[", self._position)
        self._position += 2 if double else 1
        parts = self._key()
        self._position += 2 if double else 1
        parent = self._resolve(parts[:-1], line)
        table: Key = (*parent, *parts[-1:])
        if double:
            self._lines.setdefault(table, line)
            number = self._arrays[table] = self._arrays.get(table, -1) + 1
            table = (*table, number)
        elif table in self._arrays:
            table = (*table, self._arrays[table])
        self._lines.setdefault(table, line)
        self._table = table

    def _resolve(self, parts: Key, line: int) -> Key:
        """Return *parts* with the number of the last element wherever they lead through an array of tables."""
        resolved: Key = ()
        for part in parts:
            resolved = (*resolved, part)
            self._lines.setdefault(resolved, line)
            if resolved in self._arrays:
                resolved = (*resolved, self._arrays[resolved])
        return resolved

    def _assignment(self, line: int) -> None:
        parts = self._key()
        self._position += 1  # the equals sign
        for end in range(1, len(parts) + 1):
            self._lines.setdefault((*self._table, *parts[:end]), line)
        depth = 0
        while (piece := _PIECE.match(self._text, self._position)) is not None:
            if piece[0] == "\n" and depth == 0:
                return
            depth += (piece[0] in _OPENING) - (piece[0] in _CLOSING)
            self._position = piece.end()

    def _key(self) -> Key:
        parts: list[str] = []
        while (part := _PART.match(self._text, self._position)) is not None:
            parts.append(next(name for name in part.groups() if name is not None))
            self._position = part.end()
            if not self._text.startswith(".", self._position):
                break
            self._position += 1
        return tuple(parts)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._position)
        if found is not None:
            self._position = found.end()
