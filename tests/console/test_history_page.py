import re
from pathlib import Path

import pytest

from proxy.console.plots import WIDTH, WINDOWS, plots
from proxy.link.counts import Counts, OverheadCount, RequestCount
from proxy.telemetry.counters import DURATION_BOUNDS, OVERHEAD_BOUNDS
from proxy.telemetry.history import History
from tests.console.support import Stage, own
from tests.support.clock import ManualClock
from tests.telemetry.test_history import counts


@pytest.mark.parametrize("window", ["", *WINDOWS, "<script>"])
async def test_plots_have_a_sentence_dashes_and_a_table(tmp_path: Path, window: str) -> None:
    """In each window, which the address names."""
    clock = ManualClock()
    stage = Stage(directory=tmp_path, clock=clock)
    for code in (200, 200, 200, 503):
        stage.history.add(counts(code))
    async with stage.browser() as browser:
        page = (await browser.get("/console/history", params={"window": window})).text
        twin = (await browser.get("/console/history.json", params={"window": window})).json()

    name = WINDOWS.get(window, WINDOWS["1h"]).name
    assert f"4 requests in the last {name}" in page
    assert "25 % of them failed" in page
    assert len(set(re.findall(r'<polyline class="line line\d" stroke-dasharray="([^"]*)"', page))) == 5
    assert len(re.findall(r"<summary>", page)) == 2
    assert "<script" not in own(page)
    assert sum(sum(one["results"]) for one in twin["samples"]) == 4


async def test_without_a_request_the_plots_say_so(tmp_path: Path) -> None:
    """A flat line is no answer."""
    async with Stage(directory=tmp_path).browser() as browser:
        page = (await browser.get("/console/history")).text

    assert "No request in the last hour." in page
    assert "it begins with the first request" in page
    assert "nan" not in page.lower().replace("nance", "")


@pytest.mark.parametrize(
    ("bucket", "expected"), [(0, "about 5 ms"), (6, "about 242 ms"), (11, "about 4.9 s"), (17, "about 194.5 s")]
)
def test_durations_are_estimates_with_a_unit(bucket: int, expected: str) -> None:
    """Interpolated within a bucket: it may exceed the slowest request, so it is no bound; and no power of ten."""
    row, own = [0.0] * (len(DURATION_BOUNDS) + 2), [0.0] * (len(OVERHEAD_BOUNDS) + 2)
    row[bucket] = own[1] = 1e6
    history = History(clock=ManualClock())
    request = RequestCount(method="GET", route="r", status=200, sent="yes", code="", row=row)
    history.add(Counts(requests=(request,), overhead=(OverheadCount(route="r", row=own),)))
    rates, durations = plots(history.samples(1, number=60, together=6), WINDOWS["1h"])

    assert f"the highest p95 of 1 min was {expected}, that of the proxy's own share about 98 us." in durations.summary
    assert re.search(r"\de[+-]\d", f"{rates} {durations}") is None


async def test_time_without_a_request_is_a_gap() -> None:
    """It did not take 0 ms; that there were none is what the plot of the rates shows."""
    clock = ManualClock()
    history = History(clock=clock)
    for wait in (60.0, 180.0, 0.0):
        history.add(counts())
        await clock.advance(wait)
    rates, durations = plots(history.samples(1, number=60, together=6), WINDOWS["1h"])

    [first, second] = durations.lines[0].segments
    assert [len(first.split()), len(second.split())] == [2, 2]
    assert float(second.split()[-1].split(",")[0]) == pytest.approx(WIDTH, abs=1.1)
    assert [len(line.segments) for line in rates.lines] == [1] * 5
