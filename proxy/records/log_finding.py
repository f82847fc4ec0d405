"""What checking a chain finds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Place(NamedTuple):
    """Where something stands: a line of a file or a row, and its number among all that were looked at."""

    order: int
    name: str

    def __str__(self) -> str:
        return self.name


class Severity(StrEnum):
    """Whether a flaw shows that the log is not what the proxy wrote, or may have an innocent reason."""

    ERROR = "error"
    WARNING = "warning"


class Fault(StrEnum):
    """What is wrong."""

    CHANGED = "changed"  # the bytes of a record don't give its hash
    REPLACED = "replaced"  # a record does not follow the one before it
    MISSING = "missing"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    FORKED = "forked"  # another record has the same number
    BEGUN_ANEW = "begun_anew"
    UNREADABLE = "unreadable"  # a line that is no record
    CUT = "cut"  # a last line without its end
    FORGED = "forged"  # a checkpoint that the key did not sign, or that claims what is not so
    REWRITTEN = "rewritten"  # a record is not the one that an anchor saw
    UNCLEAN = "unclean"  # no clean stop
    BEGINS_LATE = "begins_late"
    KEY = "key"  # another key than before, or than expected
    SEARCHED = "searched"  # what a record is searched by is not what it says
    ANCHOR = "anchor"  # an anchor that can't be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing found at *place* (a line of a file, a row), about record *sequence* of *instance*."""

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
        """Return the flaw as JSON has it."""
        return {
            "fault": self.fault.value,
            "severity": self.severity.value,
            "place": self.place,
            "instance": self.instance,
            "sequence": self.sequence,
            "what": self.what,
        }
