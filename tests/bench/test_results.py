from pathlib import Path

import pytest

from bench.__main__ import _CASES
from bench.machine import Unfit
from bench.report import Goal, Report, figure
from bench.results import Found, demand_places, document, renewed

CASES = ("cpu", "latency")
PAGE = """\
before
<!-- results of cpu -->

### CPU of yesterday

<!-- end of cpu -->
<!-- results of latency -->

### Latency of yesterday

<!-- end of latency -->
<!-- results of goals -->

1 of 3 reached.

| case | goal | wanted | measured | reached |
| --- | ---: | ---: | ---: | ---: |
| cpu | a GET: nginx's CPU by ours | at least 0.75 | 0.50 | **no** |
| latency | added p50 | at most 1.2 | 1.10 | yes |
| gone | what is measured no longer | at most 1 | 2.00 | **no** |

<!-- end of goals -->
after
"""


def found(case: str, value: float) -> Found:
    """Return what *case* found: one table and one goal, reached up to 0.9."""
    goal = Goal(name="a GET", value=value, limit=0.9, unit="us")
    report = Report.of(f"{case} of today", ("candidate", "us"), [["payproxy", "1"]], [goal])
    return Found(case=case, note="today, load average 0.1", machine="2 cores", reports=(report,))


def test_a_case_measured_alone_leaves_the_tables_of_the_others() -> None:
    """Date and load of the new table stand under its heading; what is around the results stays."""
    page = renewed(PAGE, [found("cpu", 0.5)], cases=CASES)

    assert "### cpu of today\n\ntoday, load average 0.1\n\n| candidate | us |" in page
    assert "CPU of yesterday" not in page
    assert "### Latency of yesterday" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")


def test_goals_of_cases_that_were_not_measured_are_kept_and_counted() -> None:
    """Goals of the measured case are replaced, and those of a case that there is no longer are left out."""
    page = renewed(PAGE, [found("cpu", 0.5)], cases=CASES)

    rows = [line for line in page.splitlines() if line.endswith(("| yes |", "| **no** |"))]
    assert rows == [
        "| cpu | a GET | at most 0.9 us | 0.5 us | yes |",
        "| latency | added p50 | at most 1.2 | 1.10 | yes |",
    ]
    assert "2 of 2 reached." in page


def test_results_written_twice_are_as_if_written_once() -> None:
    """Nothing piles up between the marks."""
    once = renewed(PAGE, [found("cpu", 0.5)], cases=CASES)

    assert renewed(once, [found("cpu", 0.5)], cases=CASES) == once


def test_a_page_without_a_place_for_a_case_is_refused() -> None:
    """The message says which lines to add."""
    with pytest.raises(Unfit, match="<!-- results of streaming -->"):
        renewed(PAGE, [found("streaming", 0.5)], cases=(*CASES, "streaming"))


def test_the_page_of_results_has_a_place_for_every_case() -> None:
    """Else a run of a quarter of an hour could not be kept."""
    demand_places((Path(__file__).parents[2] / "bench" / "README.md").read_text(), tuple(_CASES))


def test_a_run_is_printed_with_its_goals_at_the_end() -> None:
    """The machine stands there once."""
    text = document([found("cpu", 0.5), found("latency", 1.5)])

    assert text.count("2 cores") == 1
    assert text.index("### cpu of today") < text.index("### latency of today") < text.index("### Goals")
    assert "1 of 2 reached." in text
    assert "| latency | a GET | at most 0.9 us | 1.5 us | **no** |" in text


@pytest.mark.parametrize(
    ("value", "at_most", "row"),
    [
        (0.499, False, "| cpu | a GET | at least 0.5 | 0.499 | **no** |"),
        (0.5, False, "| cpu | a GET | at least 0.5 | 0.5 | yes |"),
        (0.5, True, "| cpu | a GET | at most 0.5 | 0.5 | yes |"),
        (0.50004, True, "| cpu | a GET | at most 0.5 | 0.50004 | **no** |"),
        (0.51, True, "| cpu | a GET | at most 0.5 | 0.51 | **no** |"),
    ],
)
def test_a_goal_shows_as_many_digits_as_tell_on_which_side_it_is(value: float, *, at_most: bool, row: str) -> None:
    """A goal missed by little is not printed as if it were reached exactly."""
    assert Goal(name="a GET", value=value, limit=0.5, unit="", at_most=at_most).row("cpu") == row


@pytest.mark.parametrize(
    ("value", "text"),
    [(28.0, "28"), (28.04, "28.0"), (0.4567, "0.457"), (0.012345, "0.0123"), (257.06, "257"), (1234.5, "1234"),
     (0, "0"),
     (59.8, "59.8"), (-1.2345, "-1.23"), (102400.0, "102400")],
)  # fmt: skip
def test_a_figure_has_three_significant_digits(value: float, text: str) -> None:
    """What was measured is not more exact; whole numbers stay whole."""
    assert figure(value) == text
