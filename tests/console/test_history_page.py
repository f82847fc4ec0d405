import re
from pathlib import Path

import pytest

from proxy.console.plots import WINDOWS
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
