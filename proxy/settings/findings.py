"""Findings about a configuration: what is wrong, where, and how to fix it; positions and sources of its keys."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

# ("credentials", "login", "client_id"), ("routes", 0, "path"): tables by name, rules by position.
Key = tuple[str | int, ...]


class Severity(StrEnum):
    """Errors stop `serve`; warnings don't."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A finding without its position in the file."""

    key: Key
    what: str
    fix: str
    severity: Severity = Severity.ERROR

    def at(self, file: str, line: int = 0, *, key: str | None = None) -> "Finding":
        """Return the finding in *file*; *key* is the one to show, if it is not simply dotted."""
        shown = ".".join(map(str, self.key)) if key is None else key
        return Finding(severity=self.severity, file=file, line=line, key=shown, what=self.what, fix=self.fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A complaint with its position; *line* is 0 if there is none. No text of a finding contains a secret."""

    severity: Severity
    file: str
    line: int
    key: str
    what: str
    fix: str

    def as_dict(self) -> dict[str, str | int]:
        """Return the fields that `--json` prints."""
        return asdict(self)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        about = f"{self.key}: " if self.key else ""
        return f"{place}: {self.severity.value}: {about}{self.what}; {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """*file* is the name as requested, *lines* the keys' lines, *origins* the keys overridden by another source.

    *given* are the keys with a value from any source; some of them, in inline tables, have no line.
    """

    file: str
    lines: Mapping[Key, int] = field(default_factory=dict)
    origins: Mapping[Key, str] = field(default_factory=dict)
    given: frozenset[Key] = frozenset()
    route_names: Mapping[int, str] = field(default_factory=dict)

    def finding(self, complaint: Complaint) -> Finding:
        """Return *complaint* with its position."""
        file, line = self._position(complaint.key)
        return complaint.at(file, line, key=self.dotted(complaint.key))

    def where(self, key: Key) -> str:
        """Return FILE:LINE of *key*, or the source that overrides it."""
        file, line = self._position(key)
        return f"{file}:{line}" if line else file

    def source(self, key: Key) -> str | None:
        """Return the origin of the value of *key*, or None if no source set it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.origins:
                return self.origins[key[:end]]
        return f"{self.file}:{line_of(key, self.lines)}" if key in self.given else None

    def dotted(self, key: Key) -> str:
        """Return *key* in dotted form; a rule is shown by its name, else by its number in the file."""
        if len(key) > 1 and key[0] == "routes" and isinstance(key[1], int):
            key = ("routes", self.route_names.get(key[1], f"number-{key[1] + 1}"), *key[2:])
        text = ""
        for part in key:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def _position(self, key: Key) -> tuple[str, int]:
        for end in range(len(key), 0, -1):
            if key[:end] in self.origins:
                return self.origins[key[:end]], 0
            if key[:end] in self.lines:
                break
        return self.file, line_of(key, self.lines)


def positions_of(
    file: str, *, lines: Mapping[Key, int], origins: Mapping[Key, str], values: Mapping[str, Any], given: Iterable[Key]
) -> Positions:
    """Return the positions of the merged *values*; a rule's name is used only if it is a unique, non-empty text."""
    routes = values.get("routes")
    names = [rule.get("name") for rule in routes if isinstance(rule, dict)] if isinstance(routes, list) else []
    if not isinstance(routes, list) or len(names) != len(routes):
        names = []
    known = {at: name for at, name in enumerate(names) if isinstance(name, str) and name and names.count(name) == 1}
    return Positions(file=file, lines=lines, origins=origins, given=frozenset(given), route_names=known)


def line_of(key: Key, lines: Mapping[Key, int]) -> int:
    """Return the line of *key*, else of the nearest enclosing table, else 0."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return 0


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return *findings* without duplicates, sorted by file and line, errors before warnings on one line."""
    return tuple(sorted(set(findings), key=lambda one: (one.file, one.line, one.severity.value, one.key, one.what)))


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """Return the entry of *known* most similar to *name*; *likeness* 1.0 is equality."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=likeness)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of *known*, or all of them if they are few."""
    known = sorted(known)
    near = nearest(name, known)
    if near is not None:
        return f'did you mean "{near}"?'
    if not known:
        return "there is none"
    shown = ", ".join(f'"{one}"' for one in known[:12])
    return f"known are {shown}" + (" and more" if len(known) > 12 else "")
