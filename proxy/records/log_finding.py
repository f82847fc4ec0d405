"""What verifying a copy of the log finds, and the order in which it is reported."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Location(NamedTuple):
    """A location, a line of a file or a row, and its number among all lines checked."""

    order: int
    name: str

    def __str__(self) -> str:
        return self.name


class Severity(StrEnum):
    """ERROR: the log is not what the proxy wrote. WARNING: there may be a harmless reason."""

    ERROR = "error"
    WARNING = "warning"


class FaultKind(StrEnum):
    """Kinds of faults."""

    CHANGED = "changed"  # the bytes of a record don't match its hash
    REPLACED = "replaced"  # a record does not follow the previous one
    MISSING = "missing"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    FORKED = "forked"  # another record has the same number
    BEGUN_ANEW = "begun_anew"
    UNREADABLE = "unreadable"  # a line that is no record
    CUT = "cut"  # a last line without line feed
    FORGED = "forged"  # a checkpoint with an invalid signature or a false claim
    REWRITTEN = "rewritten"  # a record differs from the one that an anchor attests
    UNCLEAN = "unclean"  # no clean stop
    BEGINS_LATE = "begins_late"
    KEY = "key"  # a key other than the previous or the expected one
    SEARCHED = "searched"  # the search columns of a record differ from its content
    ANCHOR = "anchor"  # an anchor that can't be compared


# Warnings that an error elsewhere explains: where there is one, they come after all that can be its cause.
_CONSEQUENCES = frozenset({FaultKind.UNCLEAN, FaultKind.BEGINS_LATE, FaultKind.ANCHOR})


@dataclass(frozen=True, slots=True)
class LogFinding:
    """One finding at *place* (a line of a file, a row), about record *sequence* of *instance*."""

    kind: FaultKind
    severity: Severity
    place: Location
    instance: str
    sequence: int
    what: str

    def __str__(self) -> str:
        whose = f" ({self.instance})" if self.instance else ""
        return f"{self.place}: {self.severity}: {self.what}{whose}"

    def as_dict(self) -> dict[str, str | int]:
        """Return the finding as JSON values."""
        return {
            "fault": self.kind.value,
            "severity": self.severity.value,
            "place": self.place.name,
            "instance": self.instance,
            "sequence": self.sequence,
            "what": self.what,
        }


class Findings:
    """Collects what is found in one copy."""

    def __init__(self) -> None:
        self._found: list[LogFinding] = []

    def error(self, kind: FaultKind, place: Location, instance: str, sequence: int, what: str) -> None:
        """Add an error about record *sequence* of *instance* ("" and 0: about no record)."""
        self._found.append(LogFinding(kind, Severity.ERROR, place, instance, sequence, what))

    def warning(self, kind: FaultKind, place: Location, instance: str, sequence: int, what: str) -> None:
        """Add a warning."""
        self._found.append(LogFinding(kind, Severity.WARNING, place, instance, sequence, what))

    def causes_first(self) -> tuple[LogFinding, ...]:
        """Return all findings by place, but consequences after causes.

        Of a changed record, its search columns come after its bytes. What is wrong with a file as a whole, such as its
        tallies, comes after all faults of records.
        """
        errors = {one.kind for one in self._found if one.severity is Severity.ERROR}

        def order(one: LogFinding) -> tuple[int, int, bool]:
            searched = one.kind is FaultKind.SEARCHED
            rank = 2 if errors and one.kind in _CONSEQUENCES else 1 if searched and not one.sequence else 0
            return rank, one.place.order, searched

        return tuple(sorted(self._found, key=order))
