"""Findings of a chain check."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Place(NamedTuple):
    """A location, a line of a file or a row, and its number among all lines checked."""

    order: int
    name: str

    def __str__(self) -> str:
        return self.name


class Severity(StrEnum):
    """ERROR: the log is not what the proxy wrote. WARNING: there may be a harmless reason."""

    ERROR = "error"
    WARNING = "warning"


class Fault(StrEnum):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One finding at *place* (a line of a file, a row), about record *sequence* of *instance*."""

    fault: Fault
    severity: Severity
    place: str
    instance: str
    sequence: int
    what: str

    def __str__(self) -> str:
        whose = f" ({self.instance})" if self.instance else ""
        return f"{self.place}: {self.severity}: {self.what}{whose}"

    def as_dict(self) -> dict[str, str | int]:
        """Return the flaw as JSON values."""
        return {
            "fault": self.fault.value,
            "severity": self.severity.value,
            "place": self.place,
            "instance": self.instance,
            "sequence": self.sequence,
            "what": self.what,
        }
