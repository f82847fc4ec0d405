"""One line of `payproxy doctor`: a property of this machine that is right, or what is wrong and how to mend it."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """SKIPPED: it could not be tested; *what* says why."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """*check* is the subject, *fix* the command or setting that mends it, "" where nothing is to mend."""

    check: str
    status: Status = Status.OK
    what: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields that `--json` prints."""
        return asdict(self)


def warning(check: str, what: str, fix: str) -> Line:
    """Return a finding that does not keep `serve` from working."""
    return Line(check=check, status=Status.WARNING, what=what, fix=fix)


def error(check: str, what: str, fix: str) -> Line:
    """Return a finding with which `serve` can't work."""
    return Line(check=check, status=Status.ERROR, what=what, fix=fix)


def skipped(check: str, why: str) -> Line:
    """Return a line about something that could not be tested."""
    return Line(check=check, status=Status.SKIPPED, what=why)
