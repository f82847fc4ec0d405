"""Figures for people: tables in Markdown, and how far each goal is reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal of performance.md and what was measured; *at_most* false: the figure shall be at least the limit."""

    name: str
    value: float
    limit: float
    unit: str
    at_most: bool = True

    @property
    def reached(self) -> bool:
        """Return whether the goal is reached."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a Markdown table."""
    rule = ["---", *("---:" for _ in head[1:])]
    return tuple(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return median(values)


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Return the median over the rounds of *to* / *of*, so that what slowed a whole round cancels out."""
    return median(base / value for value, base in zip(of, to, strict=True))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return smallest and largest."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def document(reports: Sequence[Report]) -> str:
    """Return *reports* as Markdown, the goals at the end."""
    lines: list[str] = []
    for report in reports:
        lines += [f"### {report.title}", "", *report.lines, ""]
    goals = [goal for report in reports for goal in report.goals]
    if goals:
        rows = [
            [
                goal.name,
                f"{goal.value:.2f} {goal.unit}".rstrip(),
                f"{'at most' if goal.at_most else 'at least'} {goal.limit:g} {goal.unit}".rstrip(),
                "yes" if goal.reached else "**no**",
            ]
            for goal in goals
        ]
        lines += [
            "### Goals",
            "",
            *table(("goal", "measured", "wanted", "reached"), rows),
            "",
        ]
    return "\n".join(lines)
