"""Positions, origins and readable names of a configuration's keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.settings.findings import Complaint, Finding, Key
from proxy.settings.sources import leaves
from proxy.settings.toml_positions import line_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
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
        file, line = self._place(complaint.key)
        return Finding(
            severity=complaint.severity,
            file=file,
            line=line,
            key=self.dotted(complaint.key),
            what=complaint.what,
            fix=complaint.fix,
        )

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

    def _place(self, key: Key) -> tuple[str, int]:
        for end in range(len(key), 0, -1):
            if key[:end] in self.origins:
                return self.origins[key[:end]], 0
            if key[:end] in self.lines:
                break
        return self.file, line_of(key, self.lines)


def places(file: str, *, lines: Mapping[Key, int], origins: Mapping[Key, str], values: Mapping[str, Any]) -> Places:
    """Return the places of the merged *values*; a rule's name is used only if it is a unique, non-empty text."""
    routes = values.get("routes")
    names = [rule.get("name") for rule in routes if isinstance(rule, dict)] if isinstance(routes, list) else []
    if not isinstance(routes, list) or len(names) != len(routes):
        names = []
    known = {at: name for at, name in enumerate(names) if isinstance(name, str) and name and names.count(name) == 1}
    given = frozenset(key for key, _ in leaves(values))
    return Places(file=file, lines=lines, origins=origins, given=given, route_names=known)
