"""What a run found, case by case; and the page of results, in which cases that were not measured stay as they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.machine import Unfit
from bench.report import Report, goals, tables

_GOALS = "goals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What *case* found; *note* says when and beside what, *machine* on what and with which versions."""

    case: str
    note: str
    machine: str
    reports: tuple[Report, ...]

    def block(self) -> str:
        """Return the tables of the case."""
        return f"{self.machine}\n\n{tables(self.reports, note=self.note)}"

    def goal_rows(self) -> tuple[str, ...]:
        """Return the rows that the case adds to the table of goals."""
        return tuple(goal.row(self.case) for report in self.reports for goal in report.goals)


def document(found: Sequence[Found]) -> str:
    """Return a run on one machine as Markdown, its goals at the end."""
    return "\n".join(
        [
            found[0].machine,
            "",
            *(tables(one.reports, note=one.note) for one in found),
            goals({one.case: one.goal_rows() for one in found}),
        ]
    )


def renewed(page: str, found: Sequence[Found], *, cases: Sequence[str]) -> str:
    """Return *page* with the tables and goals of the cases *found*; raises Unfit if it has no place for one.

    *cases* are all there are, in their order: goals of those not found are kept, goals of cases that are gone go.
    """
    rows: Mapping[str, Sequence[str]] = {
        case: re.findall(rf"^\| {re.escape(case)} \|.*$", _place(page, _GOALS)[0], re.MULTILINE) for case in cases
    }
    rows = {**rows, **{one.case: one.goal_rows() for one in found}}
    for one in found:
        page = _with(page, one.case, one.block())
    return _with(page, _GOALS, goals(rows))


def demand_places(page: str, cases: Sequence[str]) -> None:
    """Raise Unfit unless *page* has a place for each of *cases* and for the goals: better before than after the run."""
    for name in (*cases, _GOALS):
        _place(page, name)


def _place(page: str, name: str) -> re.Match[str]:
    place = re.search(
        rf"(?<=<!-- results of {re.escape(name)} -->\n).*?(?=<!-- end of {re.escape(name)} -->)", page, re.DOTALL
    )
    if place is None:
        raise Unfit(
            f"the page has no place for the case {name}: add the lines <!-- results of {name} --> and "
            f"<!-- end of {name} -->"
        )
    return place


def _with(page: str, name: str, text: str) -> str:
    place = _place(page, name)
    return f"{page[: place.start()]}\n{text}\n{page[place.end() :]}"
