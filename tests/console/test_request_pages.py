import asyncio
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from proxy.console.log_reader import MOST_AT_ONCE
from proxy.errors import Sent
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.query import Enough, Page, Query, all_of_it
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.stores import DATABASE
from tests.console.support import Stage, own
from tests.records.kept import kept, operation, record
from tests.records.support import NOW, an_attempt

MARKUP = "<script>alert(1)</script>\"'"
CARD = "4111111111111111"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


async def write(directory: Path, *records: bytes) -> list[str]:
    """Put *records* into the log of *directory* and return their ids."""
    sink = SqliteSink(directory / "requests.db")
    await sink.write(kept(records))
    await sink.close()
    return [json.loads(one)["id"] for one in records]


def shown(page: str) -> list[str]:
    """Return the ids of the records on *page*, in order."""
    return re.findall(r'<a href="/console/requests/([0-9a-f-]{36})"', page)


async def test_the_newest_are_first_and_older_ones_follow(tmp_path: Path) -> None:
    """Page by page, each record once; JSON has the same."""
    ids = await write(tmp_path, *(record(NOW + number) for number in range(120)))
    found: list[str] = []
    twins: list[str] = []
    async with Stage(directory=tmp_path).browser() as browser:
        path: str | None = "/console/requests"
        while path:
            page = (await browser.get(path)).text
            found += shown(page)
            twins += [
                one["id"] for one in (await browser.get(path.replace("requests", "requests.json"))).json()["records"]
            ]
            older = re.search(r'<a href="([^"]*)">Older requests', page)
            path = older[1] if older else None

    assert found == twins == ids[::-1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"caller": "shop"}, [1]),
        ({"status": "5xx"}, [2]),
        ({"sent": "unknown"}, [2]),
        ({"kind": "operation"}, [3]),
        ({"request_id": "r-1"}, [1]),
        ({"caller": "shop", "status": "5xx"}, []),
        ({"until": "2027-01-15T08:00:00Z"}, []),
        ({"since": "2027-01-15T08:00:02Z"}, [3, 2]),
    ],
)
async def test_filters_are_in_the_address(tmp_path: Path, filters: dict[str, str], expected: list[int]) -> None:
    """As in `logs search`; the form shows them again, and the page names its JSON with them."""
    records = (
        record(NOW),
        record(NOW + 1, caller="shop", index=(("request-id", "r-1"),)),
        record(NOW + 2, status=504, origin="proxy", sent=Sent.UNKNOWN),
        operation(NOW + 3),
    )
    ids = await write(tmp_path, *records)
    async with Stage(directory=tmp_path).browser() as browser:
        page = (await browser.get("/console/requests", params=filters)).text

    assert shown(page) == [ids[number] for number in expected]
    for value in filters.values():
        assert f'value="{value}"' in page or f"<option selected>{value}</option>" in page
    if not expected:
        assert "Take filters away" in page


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"status": "abc"}, "Status: a status is written like"),
        ({"since": "yesterday"}, "Since: a time is written like"),
        ({"since": "1h", "until": "2h"}, "Until: the window is empty"),
        ({"sent": "perhaps"}, "is one of no, yes, unknown"),
        ({"caller": "x" * 2000}, "is longer than"),
        ({"before": "x"}, "before: is the id of a record"),
        ({"before": "01a2"}, "before: is the id of a record"),
        ({"caller": ["erp", "batch"]}, "caller: is in the address more than once"),
    ],
)
async def test_a_filter_that_can_not_match_is_an_error(
    tmp_path: Path, filters: dict[str, str | list[str]], words: str
) -> None:
    """It is named, nothing is searched, and what was typed can be corrected."""
    async with Stage(directory=tmp_path).browser() as browser:
        answer = await browser.get("/console/requests", params=filters)

    assert answer.status_code == 400
    assert words in answer.text
    assert 'name="caller"' in answer.text


async def test_a_request_is_told_in_words_and_as_a_timeline(tmp_path: Path) -> None:
    """With each attempt, and what to do; a payment is not offered for repetition."""
    attempts = [an_attempt(1, status=401), an_attempt(2, status=0, sent=Sent.UNKNOWN)]
    [unknown, read] = await write(
        tmp_path, record(NOW, status=504, origin="proxy", attempts=attempts), record(NOW + 1, method="GET")
    )
    async with Stage(directory=tmp_path).browser() as browser:
        page = (await browser.get(f"/console/requests/{unknown}")).text
        twin = (await browser.get(f"/console/requests/{unknown}.json")).json()
        other = (await browser.get(f"/console/requests/{read}")).text

    assert twin["id"] == unknown
    assert "It is not known whether the bank has it" in page
    assert "What to do:" in page
    assert "attempt 2" in page
    assert "curl" not in page
    assert "curl -i -X GET" in other


async def test_an_operation_has_a_page_too(tmp_path: Path) -> None:
    """Who, what and why."""
    [record_id] = await write(tmp_path, operation())
    async with Stage(directory=tmp_path).browser() as browser:
        page = (await browser.get(f"/console/requests/{record_id}")).text

    assert "rollback, anna, too slow" in page


@pytest.mark.parametrize(
    "record_id", ["00000000-0000-7000-8000-000000000000", "x", "%2e%2e", "..%2f..%2fetc", "a.json"]
)
async def test_an_id_that_the_log_does_not_have(tmp_path: Path, record_id: str) -> None:
    """404, in a page that repeats nothing."""
    await write(tmp_path, record())
    async with Stage(directory=tmp_path).browser() as browser:
        assert (await browser.get(f"/console/requests/{record_id}")).status_code == 404


async def test_what_callers_sent_stays_text_and_masked(tmp_path: Path) -> None:
    """Markup in path, caller, cause and headers; a card number and a token in them are in no page and no JSON."""
    values = {
        "path": f"/payment/{quote(MARKUP)}/{MARKUP}/{CARD}/{TOKEN}", "caller": MARKUP, "cause": f"{MARKUP} {TOKEN}",
        "index": (("request-id", f"{MARKUP} {CARD}"),), "status": 502, "code": "upstream_reset", "origin": "proxy",
    }  # fmt: skip
    [record_id] = await write(tmp_path, record(NOW, **values))
    paths = ["/console/requests", f"/console/requests/{record_id}"]
    async with Stage(directory=tmp_path).browser() as browser:
        pages = [own((await browser.get(path)).text) for path in paths]
        twins = [(await browser.get(f"{path}.json")).text for path in paths]

    for page in pages:
        assert "&lt;script&gt;" in page
        assert "<script" not in page
    for text in pages + twins:
        assert CARD not in text
        assert not any(part in text for part in TOKEN.split("."))


async def test_a_request_log_without_database_says_so(tmp_path: Path) -> None:
    """503 and what is missing, not an empty page."""
    stage = Stage(directory=tmp_path, archive=lambda: None)
    async with stage.browser() as browser:
        answer = await browser.get("/console/requests")

    assert answer.status_code == 503
    assert "request_log.database is turned off" in answer.text


class HeldArchive(SqliteArchive):
    """An archive whose searches take until *released* is set."""

    def __init__(self, database: Path, released: asyncio.Event) -> None:
        super().__init__(database)
        self._released = released

    async def page(self, query: Query, *, before: bytes | None, size: int, enough: Enough = all_of_it) -> Page:
        """Wait, then search."""
        await self._released.wait()
        return await super().page(query, before=before, size=size, enough=enough)


async def test_searches_do_not_queue_up_without_end(tmp_path: Path) -> None:
    """Each that waits would keep memory and later read the whole log, though its visitor has long gone."""
    released = asyncio.Event()
    stage = Stage(directory=tmp_path, archive=lambda: HeldArchive(tmp_path / "requests.db", released))
    async with stage.browser() as browser, asyncio.TaskGroup() as tasks:
        searches = [tasks.create_task(browser.get("/console/requests")) for _ in range(MOST_AT_ONCE + 1)]
        done, _ = await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
        refused = [one.result() for one in done]
        released.set()

    assert [one.status_code for one in refused] == [503]
    assert "try again" in refused[0].text
    assert sorted(one.result().status_code for one in searches) == [200] * MOST_AT_ONCE + [503]


async def test_an_empty_log_says_what_to_do(tmp_path: Path) -> None:
    """The first page that a new user sees."""
    async with Stage(directory=tmp_path).browser() as browser:
        assert "payproxy request GET" in (await browser.get("/console/requests")).text


@pytest.mark.parametrize("path", ["/console/requests", "/console/requests/01234567-89ab-7def-8123-456789abcdef"])
async def test_a_database_that_is_not_known_any_more_is_said(tmp_path: Path, path: str) -> None:
    """The file with its URL may be gone since the start."""
    file = tmp_path / "url"

    stage = Stage(directory=tmp_path, archive=lambda: SqliteArchive(Path(DATABASE.read(file).reveal())))
    async with stage.browser() as browser:
        answer = await browser.get(path)

    assert answer.status_code == 503
    assert "database_file: no such file" in answer.text


@pytest.mark.parametrize("field", ["request_id", "idempotency_key", "merchant"])
@pytest.mark.parametrize("value", [CARD, "4111 1111 1111 1111", f"order-{CARD}", TOKEN, "DE89370400440532013000"])
async def test_what_is_masked_is_no_search(tmp_path: Path, field: str, value: str) -> None:
    """Who may only look would find the number behind a mask by trying; nor does the page repeat it."""
    opened: list[SqliteArchive] = []

    def archive() -> SqliteArchive:
        opened.append(SqliteArchive(tmp_path / "requests.db"))
        return opened[-1]

    async with Stage(directory=tmp_path, archive=archive).browser() as browser:
        page = await browser.get("/console/requests", params={field: value, "caller": "erp"})
        twin = await browser.get("/console/requests.json", params={field: value})

    assert (page.status_code, twin.status_code) == (400, 400)
    assert "are masked in records" in page.text
    assert "are masked in records" in twin.json()["problem"]
    assert 'value="erp"' in page.text
    assert value not in page.text + twin.text
    assert opened == []


async def test_a_mask_is_searched_by(tmp_path: Path) -> None:
    """As a record shows it: other requests with the same value have the same mask."""
    ids = await write(
        tmp_path, *(record(NOW + number, index=(("Idempotency-Key", CARD),)) for number in range(2)), record(NOW + 2)
    )
    async with Stage(directory=tmp_path).browser() as browser:
        shown_in = (await browser.get(f"/console/requests/{ids[0]}.json")).json()
        mask = shown_in["index"]["Idempotency-Key"]
        page = await browser.get("/console/requests", params={"idempotency_key": mask})

    assert CARD not in mask
    assert shown(page.text) == ids[1::-1]


async def test_an_unknown_filter_is_named(tmp_path: Path) -> None:
    """A slip in an address must not show all requests as if they were those that were asked for."""
    async with Stage(directory=tmp_path).browser() as browser:
        page = (await browser.get("/console/requests", params={"statsu": "5xx"})).text
        twin = (await browser.get("/console/requests.json", params={"statsu": "5xx"})).json()
        card = (await browser.get("/console/requests", params={CARD: "x"})).text

    assert "There is no filter &#34;statsu&#34;; there are caller, route, status" in page
    assert twin["records"] == []
    assert "statsu" in twin["problem"]
    assert CARD not in card
