"""What a page of the console shows, as plain values; templates make HTML of them, and `data` is the `.json` twin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# Of the pages of the status: a fault is seen within five seconds of its first error.
REFRESH_SECONDS = 3


class Tone(StrEnum):
    """How a text is coloured; it is never the only sign of its meaning."""

    PLAIN = ""
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Cell:
    """*text* in a table or list; *href* is a path of the console or ""; *number*: aligned to the right."""

    text: str
    tone: Tone = Tone.PLAIN
    href: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; *empty* is shown instead if there is no row, and says what to do next. *note* is shown below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names with their values."""

    title: str
    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A paragraph, or text to copy if *code*."""

    title: str
    text: str
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """One page: *path* is that of its entry in the navigation, *twin* that of its JSON; *lead* is its first sentence.

    *data* are the values of the JSON, or what returns them where that takes long; *status* is that of HTTP. *blocks*
    are Table, Facts, Words or Plot. *template* names the template; *more* are values for templates that show more.
    Pages that show the present are brought up to date by the script each *refresh* seconds.
    """

    path: str
    title: str
    twin: str
    data: Any
    lead: str = ""
    tone: Tone = Tone.PLAIN
    points: tuple[Cell, ...] = ()
    blocks: tuple[Any, ...] = ()
    status: int = 200
    template: str = "page.html"
    refresh: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> Any:
        """Return the values of the JSON."""
        return self.data() if callable(self.data) else self.data


def number(value: float) -> Cell:
    """Return the cell of a whole number."""
    return Cell(f"{value:.0f}", number=True)


def count(value: int, tone: Tone) -> Cell:
    """Return the cell of a number that has *tone* unless it is 0."""
    return Cell(str(value), tone if value else Tone.PLAIN, number=True)
