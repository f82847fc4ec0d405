import asyncio
from pathlib import Path

import httpx

from proxy.console.outcomes import COUNTED_FOR_SECONDS
from proxy.records.archives.sqlite import SqliteArchive
from tests.console.support import Stage
from tests.console.test_request_pages import write
from tests.records.kept import record
from tests.records.support import until
from tests.support.clock import ManualClock


async def counted(browser: httpx.AsyncClient) -> None:
    """Open the overview until it has a count."""
    async with asyncio.timeout(60):
        while (await browser.get("/console/overview.json")).json()["unresolved"] is None:
            pass


async def test_the_unresolved_are_counted_once_for_a_while(tmp_path: Path) -> None:
    """However many look at the overview how often; and not while nobody does."""
    await write(tmp_path, record())
    opened: list[SqliteArchive] = []

    def archive() -> SqliteArchive:
        opened.append(SqliteArchive(tmp_path / "requests.db"))
        return opened[-1]

    clock = ManualClock()
    async with Stage(directory=tmp_path, archive=archive, clock=clock).browser() as browser:
        for _ in range(5):
            await counted(browser)
        assert len(opened) == 1
        await clock.advance(3 * COUNTED_FOR_SECONDS)
        assert len(opened) == 1
        await counted(browser)
        await until(lambda: len(opened) == 2)


async def test_pages_that_do_not_show_the_count_read_no_log(tmp_path: Path) -> None:
    """It is the overview's alone."""
    opened: list[int] = []

    def archive() -> None:
        opened.append(1)

    async with Stage(directory=tmp_path, archive=archive).browser() as browser:
        for path in ("/console/tokens", "/console/requests/tail", "/console/history"):
            assert (await browser.get(path)).status_code == 200

    assert opened == []
