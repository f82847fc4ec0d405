"""Findings about a configuration: what is wrong, where, and how to fix it."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

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
        return {
            "severity": self.severity.value,
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "what": self.what,
            "fix": self.fix,
        }

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        about = f"{self.key}: " if self.key else ""
        return f"{place}: {self.severity.value}: {about}{self.what}; {self.fix}"


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
