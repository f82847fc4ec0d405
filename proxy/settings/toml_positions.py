"""Finds the line of each key in a TOML text, which tomllib does not report."""

import re
from collections.abc import Mapping

from proxy.settings.findings import Key

# One part of a key: bare, basic-quoted or literal-quoted (TOML 1.0, Keys).
_PART = re.compile(r"""\s*(?:(?P<bare>[A-Za-z0-9_-]+)|"(?P<basic>(?:[^"\\]|\\.)*)"|'(?P<literal>[^']*)')\s*""")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
# Pieces of a value: strings (with any content), comments, other single characters such as brackets.
_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'" + r"|#[^\n]*|.",
    re.DOTALL,
)
_OPENING = "[{"
_CLOSING = "]}"


def key_lines(text: str) -> dict[Key, int]:
    """Return the line of each key and table of *text*, which tomllib has accepted; lines count from 1.

    Keys inside inline tables are left out: they are on the line of the key that contains them, or near it.
    """
    return _Lines(text).read()


def line_of(key: Key, lines: Mapping[Key, int]) -> int:
    """Return the line of *key*, else of the nearest enclosing table, else 0."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return 0


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
