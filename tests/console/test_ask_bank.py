import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from proxy.console import ask_bank
from proxy.console.answers import Refused
from proxy.errors import Sent
from tests.console.support import OPERATORS, Stage, csrf_of, sign_in
from tests.console.test_request_pages import write
from tests.records.kept import inquiry, record
from tests.records.support import NOW

UNKNOWN = {"status": 504, "origin": "proxy", "sent": Sent.UNKNOWN, "code": "upstream_timeout"}
ASK = "/console/requests/ask"


@dataclass
class Asking:
    """An operator before a request of unknown outcome."""

    stage: Stage
    browser: httpx.AsyncClient
    record_id: str

    @property
    def path(self) -> str:
        """Return the path of the request's page."""
        return f"/console/requests/{self.record_id}"

    async def ask(self, **fields: str) -> httpx.Response:
        """Press the button."""
        values = {"csrf": await csrf_of(self.browser), "id": self.record_id} | fields
        return await self.browser.post(ASK, data=values)


@pytest.fixture(name="asking")
async def fixture_asking(tmp_path: Path) -> AsyncIterator[Asking]:
    """Sign in before a request of unknown outcome."""
    [record_id] = await write(tmp_path, record(NOW, **UNKNOWN))
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    async with stage.browser() as browser:
        await sign_in(browser)
        yield Asking(stage, browser, record_id)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("found", "the bank has it. What to do: don&#39;t send it again"),
        ("not_found", "the bank has no request with these values. What to do: it may be sent again"),
        ("unclear", "does not say whether the bank has it. What to do: ask the bank"),
    ],
)
async def test_the_button_asks_and_says_what_came(asking: Asking, verdict: str, words: str) -> None:
    """In words, for who pressed it, and leads back to the request."""
    asking.stage.inquiries.verdict = verdict
    page = (await asking.browser.get(asking.path)).text
    answer = await asking.ask()

    assert "Ask the bank</button>" in page
    assert "It was not asked about this request." in page
    assert answer.status_code == 200
    assert words in answer.text
    assert f'href="{asking.path}"' in answer.text
    [(about, by)] = asking.stage.inquiries.asked
    assert (about, by.name, by.proof) == (asking.record_id, "alice", "console, password")


async def test_what_the_bank_was_asked_before_is_shown(asking: Asking, tmp_path: Path) -> None:
    """Who, what and when, and what follows; it settles the outcome: the lead says that, and it is not asked again."""
    [found] = await write(tmp_path, inquiry(asking.record_id, NOW + 600))
    page = (await asking.browser.get(asking.path)).text
    twin = (await asking.browser.get(f"{asking.path}.json")).json()

    assert '">The bank answered 200: the bank has it.</p>' in page
    assert "Ask the bank</button>" not in page
    assert (await asking.ask()).status_code == 409
    assert asking.stage.inquiries.asked == []
    assert f'href="/console/requests/{found}"' in page
    assert "What to do: don&#39;t send it again" in page
    assert [one["id"] for one in twin["inquiries"]] == [found]


async def test_where_the_bank_can_not_be_asked_the_page_says_why(asking: Asking) -> None:
    """Instead of a button; who presses an old one gets the same reason."""
    asking.stage.inquiries.why_not = "no rule payments with an inquiry is configured"
    page = (await asking.browser.get(asking.path)).text
    answer = await asking.ask()

    assert "Ask the bank</button>" not in page
    assert "can't be asked about this request: no rule payments with an inquiry" in page
    assert answer.status_code == 409
    assert "no rule payments with an inquiry" in answer.text


async def test_a_known_outcome_is_not_asked_about(asking: Asking, tmp_path: Path) -> None:
    """There is no button, and no form of another page asks either."""
    [known] = await write(tmp_path, record(NOW + 1))
    page = (await asking.browser.get(f"/console/requests/{known}")).text

    assert "Ask the bank" not in page
    assert (await asking.ask(id=known)).status_code == 409
    assert (await asking.ask(id="x")).status_code == 404
    assert asking.stage.inquiries.asked == []


async def test_a_viewer_gets_403_for_asking(asking: Asking) -> None:
    """And sees a command instead of the button."""
    await asking.browser.post("/console/sign-out", data={"csrf": await csrf_of(asking.browser)})
    await sign_in(asking.browser, view="1")
    page = (await asking.browser.get(asking.path)).text

    assert "Ask the bank</button>" not in page
    assert f"payproxy why {asking.record_id} --ask" in page
    assert (await asking.ask()).status_code == 403
    assert asking.stage.inquiries.asked == []


@pytest.mark.parametrize("csrf", ["", "A" * 43])
async def test_a_form_of_another_session_asks_nothing(asking: Asking, csrf: str) -> None:
    """As with every action (CSRF)."""
    assert (await asking.ask(csrf=csrf)).status_code == 403
    assert (await asking.browser.get(ASK)).status_code == 404
    assert asking.stage.inquiries.asked == []


async def test_a_bank_that_takes_long_is_asked_to_the_end(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says that it has not answered yet, before the listener gives up."""
    monkeypatch.setattr(ask_bank, "_PATIENCE_SECONDS", 0.01)
    answered, done = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        await answered.wait()
        done.set()

    asking.stage.inquiries.wait = wait
    answer = await asking.ask()
    answered.set()

    assert "has not answered yet" in answer.text
    async with asyncio.timeout(60):
        await done.wait()


async def test_a_refusal_that_comes_late_is_no_defect(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked has left with "not answered yet"; no traceback follows."""
    monkeypatch.setattr(ask_bank, "_PATIENCE_SECONDS", 0.01)
    began, answered, tasks = asyncio.Event(), asyncio.Event(), set[asyncio.Task[object] | None]()

    async def wait() -> None:
        tasks.add(asyncio.current_task())
        began.set()
        await answered.wait()
        raise Refused(409, "the rule is gone")

    asking.stage.inquiries.wait = wait
    assert "has not answered yet" in (await asking.ask()).text
    async with asyncio.timeout(60):
        await began.wait()
    answered.set()
    await asyncio.wait({one for one in tasks if one is not None}, timeout=60)
    tasks.clear()
    await asyncio.sleep(0)
    gc.collect()

    assert "never retrieved" not in caplog.text


async def test_two_do_not_ask_about_one_request_at_once(asking: Asking) -> None:
    """The second is told that the first is under way; of other requests it may ask."""
    began, answered = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        await answered.wait()

    asking.stage.inquiries.wait = wait
    first = asyncio.create_task(asking.ask())
    async with asyncio.timeout(60):
        await began.wait()
    second = await asking.ask()
    answered.set()

    assert (second.status_code, "is being asked" in second.text) == (409, True)
    assert (await first).status_code == 200
    assert len(asking.stage.inquiries.asked) == 1
    assert (await asking.ask()).status_code == 200


async def unresolved(browser: httpx.AsyncClient) -> dict[str, object]:
    """Return what the overview counts, once it has."""
    async with asyncio.timeout(60):
        while True:
            found = (await browser.get("/console/overview.json")).json()["unresolved"]
            if found is not None:
                return dict(found)


async def test_the_overview_counts_what_nobody_has_resolved(tmp_path: Path) -> None:
    """Neither what a late "not found" or a "found" has settled, nor a GET; the link leads to the others."""
    await write(tmp_path, record(NOW + 9, **UNKNOWN, method="GET"))
    unknown = [record(NOW + number, **UNKNOWN) for number in range(4)]
    ids = await write(tmp_path, record(NOW), *unknown)
    await write(
        tmp_path,
        inquiry(ids[1], NOW + 600), inquiry(ids[2], NOW + 600, verdict="not_found"),
        inquiry(ids[3], NOW + 10, verdict="not_found"), inquiry(ids[4], NOW + 600, verdict="unclear"),
    )  # fmt: skip
    async with Stage(directory=tmp_path).browser() as browser:
        found = await unresolved(browser)
        overview = (await browser.get("/console/")).text
        listed = (await browser.get("/console/requests.json?sent=unknown&open=yes")).json()["records"]

    assert found == {"number": 2, "more": False, "problem": ""}
    assert '<a href="/console/requests?sent=unknown&amp;open=yes" class="bad">2</a>' in overview
    assert [one["id"] for one in listed] == [ids[4], ids[3]]


async def test_more_than_is_counted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cost is bounded by that."""
    monkeypatch.setattr("proxy.console.outcomes.MOST_COUNTED", 3)
    await write(tmp_path, *(record(NOW + number, **UNKNOWN) for number in range(5)))
    async with Stage(directory=tmp_path).browser() as browser:
        await unresolved(browser)
        assert ">3 or more</a>" in (await browser.get("/console/")).text


async def test_a_log_that_can_not_be_read_leaves_the_overview_as_it_is(tmp_path: Path) -> None:
    """It says why there is no number."""
    async with Stage(directory=tmp_path, archive=lambda: None).browser() as browser:
        await unresolved(browser)
        answer = await browser.get("/console/")

    assert answer.status_code == 200
    assert "not known: request_log.database is turned off" in answer.text


async def test_unresolved_only_goes_with_unknown(tmp_path: Path) -> None:
    """As `--open` with `--sent unknown`."""
    async with Stage(directory=tmp_path).browser() as browser:
        answer = await browser.get("/console/requests?open=yes")

    assert answer.status_code == 400
    assert "Unresolved only: goes with" in answer.text
