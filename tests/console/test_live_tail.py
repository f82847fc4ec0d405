import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.console.live_records import AT_ONCE, NEWEST
from proxy.errors import Sent
from tests.console.following import EVENTS, PAGE, following, texts
from tests.console.support import Stage
from tests.console.test_request_pages import CARD, MARKUP, TOKEN
from tests.records.kept import operation, record
from tests.records.support import NOW


async def test_a_record_comes_as_it_is_written(tmp_path: Path) -> None:
    """With the cells of a search, as an event that no value can end."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser, following(browser) as events:
        await events.reached()
        stage.live.add([record(NOW, path="/a\n\ndata: x")])
        name, data = await events.next()

    assert events.answer.headers["content-type"] == "text/event-stream"
    assert events.answer.headers["cache-control"] == "no-store"
    assert name == "record"
    assert [cell["name"] for cell in data["cells"]] == ["time", "caller", "what", "status", "sent", "ms", "id"]
    assert data["cells"][1]["text"] == "erp"
    assert data["cells"][6]["href"] == f"/console/requests/{data['id']}"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["POST /1", "POST /2", "POST /3", "operation: rollback, anna, too slow"]),
        ({"caller": "shop"}, ["POST /1"]),
        ({"status": "5xx"}, ["POST /2"]),
        ({"sent": "unknown"}, ["POST /2"]),
        ({"kind": "operation"}, ["operation: rollback, anna, too slow"]),
        ({"request_id": "r-1"}, ["POST /3"]),
        ({"caller": "erp", "status": "2xx", "since": "2h", "until": "1h"}, ["POST /3"]),
    ],
)
async def test_the_filters_are_those_of_the_search(
    tmp_path: Path, filters: dict[str, str], expected: list[str]
) -> None:
    """But for times: what comes now is of no past time. The page shows the same of what was there."""
    stage = Stage(directory=tmp_path)
    lines = [
        record(NOW + 1, caller="shop", path="/1"),
        record(NOW + 2, status=504, origin="proxy", sent=Sent.UNKNOWN, path="/2"),
        record(NOW + 3, index=(("request-id", "r-1"),), path="/3"), operation(NOW + 4),
    ]  # fmt: skip
    async with stage.browser() as browser:
        async with following(browser, **filters) as events:
            await events.reached()
            stage.live.add(lines)
            assert await texts(events, len(expected)) == expected
        twin = (await browser.get(f"{PAGE}.json", params=filters)).json()
        page = (await browser.get(PAGE, params=filters)).text

    assert len(twin["records"]) == len(expected)
    assert all(one["id"] in page for one in twin["records"])


async def test_a_filter_that_can_not_match_is_no_tail(tmp_path: Path) -> None:
    """The page names it, the stream is refused."""
    async with Stage(directory=tmp_path).browser() as browser:
        answers = [await browser.get(path, params={"status": "abc"}) for path in (PAGE, EVENTS)]

    assert [one.status_code for one in answers] == [400, 400]
    assert all("Status: a status is written like" in one.text for one in answers)
    assert 'id="tail"' not in answers[0].text


async def test_what_is_masked_is_not_followed_by(tmp_path: Path) -> None:
    """As in the search: who may look must not find the number behind a mask; and it is not repeated."""
    async with Stage(directory=tmp_path).browser() as browser:
        answers = [await browser.get(path, params={"request_id": CARD}) for path in (PAGE, EVENTS)]

    assert [one.status_code for one in answers] == [400, 400]
    assert all("masked in records" in one.text and CARD not in one.text for one in answers)


async def test_the_stream_goes_on_where_the_page_ends(tmp_path: Path) -> None:
    """What came while the page was on its way is neither lost nor shown twice."""
    stage = Stage(directory=tmp_path)
    stage.live.add([record(NOW, path="/1")])
    async with stage.browser() as browser:
        position = (await browser.get(f"{PAGE}.json")).json()["position"]
        stage.live.add([record(NOW + 1, path="/2")])
        async with following(browser, after=position) as events:
            assert await texts(events) == ["POST /2"]
            stage.live.add([record(NOW + 2, path="/3")])
            assert await texts(events) == ["POST /3"]


async def test_who_comes_back_gets_what_was_missed_or_how_much(tmp_path: Path) -> None:
    """By the id that browsers send; too much for the memory is counted, and a restart can't be."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser:
        async with following(browser) as events:
            position = await events.reached()
        stage.live.add([record(NOW + 1, path="/1")])
        async with following(browser, position) as events:
            assert await texts(events) == ["POST /1"]
        stage.live.add([record(NOW + number) for number in range(NEWEST + 9)])
        async with following(browser, position) as events:
            away, more = await events.next(), await events.next()
        async with following(browser, "00000000.5") as events:
            restarted = await events.next()
        async with following(browser, "nonsense.x") as events:
            await events.reached()
            stage.live.add([record(NOW + 2, path="/now")])
            assert await texts(events) == ["POST /now"]

    assert (away[0], away[1]["records"]) == ("gap", 10)
    assert "came while this page was not connected" in away[1]["text"]
    assert (more[0], more[1]["records"]) == ("gap", NEWEST - AT_ONCE)
    assert restarted[1] == {
        "records": None,
        "text": "Records may be missing here: the proxy was started again meanwhile.",
    }


async def test_more_at_once_than_anybody_reads_is_counted(tmp_path: Path) -> None:
    """The newest are shown, and how many are not."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser, following(browser, caller="erp") as events:
        await events.reached()
        stage.live.add([record(NOW, path=f"/{number}", caller="erp") for number in range(AT_ONCE + 5)])
        name, data = await events.next()
        shown = await texts(events, AT_ONCE)

    assert (name, data["records"]) == ("gap", 5)
    assert shown == [f"POST /{number}" for number in range(5, AT_ONCE + 5)]


async def test_a_record_is_rendered_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many follow, with whatever filters; and not at all if nobody does."""
    stage = Stage(directory=tmp_path)
    rendered: list[str] = []
    render = stage.live._render

    def counting(found: dict[str, Any]) -> Any:
        rendered.append(found["path"])
        return render(found)

    monkeypatch.setattr(stage.live, "_render", counting)
    stage.live.add([record(NOW, path="/nobody")])
    async with stage.browser() as browser, contextlib.AsyncExitStack() as stack:
        asked: list[dict[str, str]] = [{}, {"caller": "erp"}] * 5
        tails = [await stack.enter_async_context(following(browser, **filters)) for filters in asked]
        for events in tails:
            await events.reached()
        stage.live.add([record(NOW + 1, path="/one")])
        assert [await texts(events) for events in tails] == [["POST /one"]] * 10

    assert rendered == ["/one"]


async def test_what_callers_sent_stays_text_and_masked_in_the_tail(tmp_path: Path) -> None:
    """The page escapes it; the stream has it as JSON, which the script puts into text only."""
    stage = Stage(directory=tmp_path)
    line = record(NOW, path=f"/{MARKUP}/{CARD}/{TOKEN}", caller=MARKUP, cause=f"{MARKUP} {TOKEN}")
    async with stage.browser() as browser, following(browser) as events:
        await events.reached()
        stage.live.add([line])
        _, data = await events.next()
        page = (await browser.get(PAGE)).text
        twin = (await browser.get(f"{PAGE}.json")).text

    assert MARKUP in data["cells"][1]["text"]
    assert "&lt;script&gt;" in page
    assert page.count("<script") == 1
    for text in (json.dumps(data), page, twin):
        assert CARD not in text
        assert not any(part in text for part in TOKEN.split("."))


async def test_a_damaged_line_is_said_and_stops_nothing(tmp_path: Path) -> None:
    """It comes in the thread that delivers the log."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser, following(browser) as events:
        await events.reached()
        stage.live.add([b'{"kind":"exchange","id":"', record(NOW, path="/next")])
        assert (await events.next())[0] == "gap"
        assert await texts(events) == ["POST /next"]
