"""Figures for people: tables in Markdown, and how far each goal is reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import median
from typing import Self

_MOST_DIGITS = 6
_GOALS_HEAD = ("case", "goal", "wanted", "measured", "reached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal and what was measured; *at_most* false: the figure shall be at least the limit."""

    name: str
    value: float
    limit: float
    unit: str
    at_most: bool = True

    @property
    def reached(self) -> bool:
        """Return whether the goal is reached."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def row(self, case: str) -> str:
        """Return the goal as a row of the table of goals."""
        wanted = f"{'at most' if self.at_most else 'at least'} {self.limit:g} {self.unit}".rstrip()
        measured = f"{self._figure} {self.unit}".rstrip()
        return _row((case, self.name, wanted, measured, "yes" if self.reached else "**no**"))

    @property
    def _figure(self) -> str:
        """Return what was measured with three significant digits, with more if it would look like the limit."""
        figures = (figure(self.value, digits) for digits in range(3, _MOST_DIGITS))
        return next((text for text in figures if float(text) != self.limit), figure(self.value, _MOST_DIGITS))


@dataclass(frozen=True, slots=True)
class Report:
    """What a case found: Markdown *lines*, and *goals*."""

    title: str
    lines: tuple[str, ...]
    goals: tuple[Goal, ...] = ()

    @classmethod
    def of(cls, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], goals: Sequence[Goal] = ()) -> Self:
        """Return a report with one table."""
        return cls(title, table(head, rows), tuple(goals))


def figure(value: float, digits: int = 3) -> str:
    """Return *value* rounded to so many significant *digits*, or to whole numbers, without zeros that say nothing."""
    places = max(digits - 1 - floor(log10(abs(value))), 0) if value else 0
    rounded = f"{value:.{places}f}"
    return f"{value:.15g}" if float(rounded) == value else rounded


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a Markdown table."""
    rule = ["---", *("---:" for _ in head[1:])]
    return tuple(_row(row) for row in (head, rule, *rows))


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return median(values)


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Return the median over the rounds of *to* / *of*, so that what slowed a whole round cancels out."""
    return median(base / value for value, base in zip(of, to, strict=True))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return smallest and largest."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def least(peer: str, *, subject: str, of: Sequence[float], to: Sequence[float], limit: float) -> Goal:
    """Return the goal that *peer*'s CPU, *to*, is at least *limit* times ours, *of*."""
    return Goal(name=f"{subject}: {peer}'s CPU by ours", value=ratio(of, to), limit=limit, unit="", at_most=False)


def tables(reports: Sequence[Report], *, note: str = "") -> str:
    """Return *reports* as Markdown without their goals, under each heading *note*: when and beside what."""
    lines: list[str] = []
    for report in reports:
        lines += [f"### {report.title}", "", *([note, ""] if note else ()), *report.lines, ""]
    return "\n".join(lines)


def goals(rows: Mapping[str, Sequence[str]]) -> str:
    """Return the table of goals from the rows of each case, and how many are reached."""
    every = [row for of_case in rows.values() for row in of_case]
    reached = sum(row.endswith("| yes |") for row in every)
    lines = ["### Goals", "", f"{reached} of {len(every)} reached.", "", *table(_GOALS_HEAD, ()), *every, ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
