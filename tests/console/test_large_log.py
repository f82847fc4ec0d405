"""What a page of a large request log costs, whichever filters are chosen: counted in work, not in seconds."""

import re
import time  # noqa: TID251 - processor time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from proxy.console.search_form import FIELDS
from proxy.keeper.console import PAGE_SECONDS
from proxy.records.archives import sqlite_month
from proxy.records.archives.sqlite import ROWS_BETWEEN
from proxy.records.query import Enough, all_of_it, for_seconds
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.sinks.sqlite_file import snapshot
from tests.console.support import Stage
from tests.console.test_request_pages import shown
from tests.records.kept import kept, record
from tests.records.large_log import BEGIN, MILLION, fill_sqlite
from tests.records.postgres import run_now

# The last 1000 are not sealed.
RECORDS = 21_000
# Of SQLite's virtual machine: a look at a record takes about ten, one that is read and compared twenty.
MOST_STEPS = 20_000
# For each field of the form one value that nothing has, and one that all of it or much has.
ABSENT = {
    "caller": "nobody", "route": "nothing", "status": "403", "since": "2026-10-27", "until": "2026-10-25",
    "sent": "no", "origin": "proxy", "request_id": "none", "idempotency_key": "none", "merchant": "none",
    "side": "legacy", "kind": "operation", "open": "yes",
}  # fmt: skip
TIMES = {name: ABSENT[name] for name in ("since", "until")}
COMMON = {
    "caller": "erp", "route": "payments", "status": "2xx", "since": "2026-10-26", "until": "2036-10-27",
    "sent": "yes", "origin": "bank", "request_id": "r0000001", "merchant": "m-1", "side": "modern", "kind": "exchange",
}  # fmt: skip
COMBINED = [
    {"merchant": "m-1", "route": "nothing"},
    {"merchant": "m-1", "request_id": "r0000001", "sent": "no"},
    {"caller": "erp", "status": "403"},
    {"status": "5xx", "route": "nothing"},
    {"since": "2026-10-26", "route": "nothing"},
]
# These go with another field only.
WITH = {"open": {"sent": "unknown"}}
SEARCHES = [
    {},
    *({name: value} | WITH.get(name, {}) for some in (ABSENT, COMMON) for name, value in some.items()),
    *COMBINED,
]


@pytest.fixture(scope="module", name="directory")
def fixture_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a log."""
    directory = tmp_path_factory.mktemp("large")
    run_now(fill_sqlite(directory / "requests.db", RECORDS, seal_rows=4096))
    return directory


def at_once() -> bool:
    """Return True: end as soon as it may."""
    return True


@pytest.fixture(name="steps")
def fixture_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return what tells how many steps SQLite has taken so far."""
    tens = 0

    def count() -> int:
        nonlocal tens
        tens += 1
        return 0

    @contextmanager
    def counted(*arguments: Any) -> Iterator[Any]:
        with snapshot(*arguments) as connection:
            connection.set_progress_handler(count, 10)
            yield connection

    monkeypatch.setattr(sqlite_month, "snapshot", counted)
    return lambda: 10 * tens


def test_each_field_of_the_form_is_searched_by() -> None:
    """Here, so that a new one is measured too."""
    assert ABSENT.keys() == {one.name for one in FIELDS}


@pytest.mark.parametrize("filters", SEARCHES, ids=lambda one: " ".join(one) or "none")
async def test_a_page_costs_the_same_in_a_large_log(
    directory: Path, steps: Callable[[], int], filters: dict[str, str]
) -> None:
    """By each filter, and whether it finds something or nothing."""
    async with Stage(directory=directory, enough=at_once).browser() as browser:
        answer = await browser.get("/console/requests", params=filters)

    assert answer.status_code == 200
    # A month in which nothing can be is not searched.
    assert (0 if ABSENT.items() & filters.items() & TIMES.items() else 1) <= steps() < MOST_STEPS


@pytest.mark.parametrize("status", ["403", "4xx", "504"])
async def test_a_rare_status_is_found_in_the_whole_log(directory: Path, steps: Callable[[], int], status: str) -> None:
    """By an index, whose records are few."""
    async with Stage(directory=directory, enough=all_of_it).browser() as browser:
        page = (await browser.get("/console/requests", params={"status": status})).text

    assert "Continue further back" not in page
    assert len(shown(page)) == {"403": 0, "4xx": 50, "504": RECORDS // 997 + 1}[status]
    assert 0 < steps() < MOST_STEPS


async def test_without_an_end_a_search_costs_more(directory: Path, steps: Callable[[], int]) -> None:
    """The measure can tell."""
    async with Stage(directory=directory, enough=all_of_it).browser() as browser:
        answer = await browser.get("/console/requests", params={"route": "nothing"})

    assert "Nothing was found. Take filters away" in answer.text
    assert steps() > 4 * MOST_STEPS


@pytest.mark.parametrize("filters", [{"side": "legacy"}, {"merchant": "m-1", "side": "legacy"}])
async def test_a_search_that_ends_early_says_so_and_goes_on(tmp_path: Path, filters: dict[str, str]) -> None:
    """From page to page, to what was found and to the end; nothing twice, nothing left out."""
    marked = [(at, record(BEGIN + at, side="legacy", index=(("merchant-id", "m-1"),))) for at in (0, 700, 701, 1999)]
    records = dict(enumerate(record(BEGIN + at, index=(("merchant-id", "m-1"),)) for at in range(2000))) | dict(marked)
    sink = SqliteSink(tmp_path / "requests.db", seal_rows=500)
    await sink.write(kept(records.values()))
    await sink.close()
    found: list[str] = []
    said: list[str] = []
    async with Stage(directory=tmp_path, enough=at_once).browser() as browser:
        page = (await browser.get("/console/requests", params=filters)).text
        found += shown(page)
        while following := re.search(r"<p>(.*) <a href=\"([^\"]*)\">Continue further back", page):
            said.append(following[1])
            page = (await browser.get(unescape(following[2]))).text
            found += shown(page)

    assert len(said) == 2000 // ROWS_BETWEEN
    assert said[0].startswith("Searched back to 2026-10-2")
    assert said[0].endswith(": 1 found.")
    assert len(found) == 4
    assert len(set(found)) == 4
    assert "Older requests" not in page


async def test_the_end_of_the_log_is_not_taken_for_an_empty_one(directory: Path) -> None:
    """Where the last page is full."""
    async with Stage(directory=directory).browser() as browser:
        page = (await browser.get("/console/requests", params={"before": "01" * 16})).text

    assert "There are no older ones." in page
    assert "has no record yet" not in page


@pytest.mark.thorough
@pytest.mark.timeout(600)
async def test_each_page_of_a_million_records_opens_soon(tmp_path: Path) -> None:
    """Within 300 ms of processor time, and the limit is what ends it."""
    await fill_sqlite(tmp_path / "requests.db", MILLION)
    stage = Stage(directory=tmp_path)
    took: dict[str, float] = {}
    async with stage.browser() as browser:
        await browser.get("/console/requests")
        for filters in SEARCHES:
            stage.enough = _limit()
            begun = time.process_time()
            answer = await browser.get("/console/requests", params=filters)
            took[str(filters)] = time.process_time() - begun
            assert answer.status_code == 200

    assert {filters: seconds for filters, seconds in took.items() if seconds > 0.3} == {}


def _limit() -> Enough:
    return for_seconds(PAGE_SECONDS, time.monotonic)
