"""The request log's pages over a PostgreSQL server: what they cost it, and what they say when it is away."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

import asyncpg
import pytest

from proxy.records.archives.postgres import PostgresArchive
from proxy.records.query import Query
from proxy.secret import Secret
from tests.console.support import Stage
from tests.console.test_large_log import SEARCHES, at_once
from tests.console.test_request_pages import shown
from tests.records.large_log import MILLION, fill_postgres, lines
from tests.records.postgres import Postgres, execute, fetch, run_now

RECORDS = 5000
# Of the server; that of a page in service is shorter.
SECONDS = 1.0
# Of a window of a thousand: index entries, rows, and both again for what matches.
MOST_ROWS = 10_000
READ = """
SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'payproxy')
  + (SELECT sum(idx_tup_read + idx_tup_fetch) FROM pg_stat_user_indexes WHERE schemaname = 'payproxy')
"""
RUNNING = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'payproxy' AND state = 'active' AND query LIKE '%payproxy.records%'
"""


@pytest.fixture(scope="module", name="url")
def fixture_url(postgres: Postgres) -> Secret:
    """Return the URL of a database with a log."""
    run_now(fill_postgres(postgres.url(), RECORDS))
    return postgres.url()


def stage_of(directory: Path, url: Secret, *, seconds: float = SECONDS) -> Stage:
    """Return a console over that log, whose searches end as soon as they may."""
    return Stage(directory=directory, archive=lambda: PostgresArchive(url, seconds=seconds), enough=at_once)


@pytest.mark.parametrize("filters", SEARCHES, ids=lambda one: " ".join(one) or "none")
async def test_each_search_is_answered(tmp_path: Path, url: Secret, filters: dict[str, str]) -> None:
    """By each filter that is offered."""
    async with stage_of(tmp_path, url, seconds=60.0).browser() as browser:
        answer = await browser.get("/console/requests", params=filters)

    assert answer.status_code == 200


async def test_a_search_ends_early_and_goes_on(tmp_path: Path, url: Secret) -> None:
    """After a thousand records, however many there are; the next page begins there."""
    async with stage_of(tmp_path, url, seconds=60.0).browser() as browser:
        said = 0
        page = (await browser.get("/console/requests", params={"sent": "unknown", "route": "payments"})).text
        late = shown(page)
        page = (await browser.get("/console/requests", params={"side": "legacy"})).text
        while following := re.search(r"<a href=\"([^\"]*)\">Continue further back", page):
            said += 1
            page = (await browser.get(unescape(following[1]))).text

    assert len(late) == 6
    assert said == RECORDS // 1000
    assert "There are no older ones." in page


async def test_one_window_is_looked_at(url: Secret) -> None:
    """Whichever index it goes by."""
    archive = PostgresArchive(url)
    page = await archive.page(Query(route="nothing"), before=None, size=50, enough=at_once)
    await archive.close()
    *_, thousandth = lines(RECORDS - 1000 + 1)

    assert page.records == []
    assert page.before is not None
    assert thousandth.startswith(b'{"kind":"exchange","id":"%s"' % _text(page.before))


async def test_a_request_is_shown(tmp_path: Path, url: Secret) -> None:
    """By its id, with its twin."""
    async with stage_of(tmp_path, url).browser() as browser:
        newest = shown((await browser.get("/console/requests")).text)[0]
        page = await browser.get(f"/console/requests/{newest}")
        twin = await browser.get(f"/console/requests/{newest}.json")

    assert page.status_code == 200
    assert twin.json()["id"] == newest


@asynccontextmanager
async def locked(url: Secret) -> AsyncIterator[None]:
    """Keep all readers waiting."""
    connection = await asyncpg.connect(url.reveal())
    try:
        await connection.execute("BEGIN; LOCK TABLE payproxy.records IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        await connection.close()


async def running(url: Secret) -> int:
    """Return how many of our statements the server is at."""
    return len(await fetch(url, RUNNING))


@pytest.mark.parametrize("path", ["/console/requests", "/console/requests/01234567-89ab-7def-8123-456789abcdef"])
async def test_what_takes_too_long_is_ended_at_the_server(tmp_path: Path, url: Secret, path: str) -> None:
    """The page says so, the loop serves others meanwhile, and the server is left nothing to do."""
    stage = stage_of(tmp_path, url)
    async with locked(url), stage.browser() as browser:
        search = asyncio.ensure_future(browser.get(path))
        while not await running(url):
            assert not search.done()
        alive = await browser.get("/livez")
        waiting = not search.done()
        answer = await search
        left = await running(url)

    assert (alive.status_code, waiting) == (200, True)
    assert answer.status_code == 503
    assert "did not get done in time" in answer.text
    assert left == 0


async def test_a_browser_that_has_left_leaves_the_server_nothing_to_do(tmp_path: Path, url: Secret) -> None:
    """Its search ends by the server's own limit."""
    stage = stage_of(tmp_path, url)
    async with locked(url), stage.browser() as browser:
        search = asyncio.ensure_future(browser.get("/console/requests"))
        while not await running(url):
            assert not search.done()
        search.cancel()
        while await running(url):  # noqa: ASYNC110 - it is another program that is waited for
            await asyncio.sleep(0)


async def test_a_server_that_does_not_answer_is_said(tmp_path: Path, url: Secret, postgres: Postgres) -> None:
    """It can't cancel anything either; the limit of the page is what ends the wait."""
    postgres.freeze()
    try:
        async with stage_of(tmp_path, url).browser() as browser:
            answer = await browser.get("/console/requests")
    finally:
        postgres.thaw()

    assert answer.status_code == 503
    assert "does not answer in time" in answer.text


async def test_a_server_that_goes_away_in_mid_search_is_said(tmp_path: Path, url: Secret, postgres: Postgres) -> None:
    """And the next page works once it is back."""
    async with stage_of(tmp_path, url, seconds=60.0).browser() as browser:
        async with locked(url):
            search = asyncio.ensure_future(browser.get("/console/requests"))
            while not await running(url):
                assert not search.done()
            await execute(url, f"SELECT pg_terminate_backend(pid) FROM ({RUNNING}) AS found")  # noqa: S608 - its own words
            broken = await search
        postgres.kill()
        away = await browser.get("/console/requests")
        postgres.start()
        back = await browser.get("/console/requests")

    assert (broken.status_code, away.status_code, back.status_code) == (503, 503, 200)
    assert "The request log can&#39;t be read" in broken.text
    assert "can&#39;t be reached" in away.text


async def rows_read(url: Secret) -> int:
    """Return how many rows and index entries all backends that have ended have read."""
    while await fetch(url, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'payproxy'"):  # noqa: ASYNC110
        await asyncio.sleep(0)
    ((number,),) = await fetch(url, READ)
    return int(number)


@pytest.mark.thorough
@pytest.mark.timeout(600)
async def test_a_page_costs_the_same_among_a_million(tmp_path: Path, postgres: Postgres) -> None:
    """By each filter that is offered: a window and the page, counted by the server."""
    url = postgres.url()
    await execute(url, "DROP SCHEMA IF EXISTS payproxy CASCADE")
    await fill_postgres(url, MILLION)
    read: dict[str, int] = {}
    async with stage_of(tmp_path, url, seconds=60.0).browser() as browser:
        for filters in SEARCHES:
            before = await rows_read(url)
            answer = await browser.get("/console/requests", params=filters)
            read[str(filters)] = await rows_read(url) - before
            assert answer.status_code == 200

    assert max(read.values()) > 0
    assert {filters: rows for filters, rows in read.items() if rows > MOST_ROWS} == {}


def _text(record_id: bytes) -> bytes:
    digits = record_id.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])).encode()
