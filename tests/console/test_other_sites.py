"""What pages of other sites can make a browser ask of the console."""

from pathlib import Path

import pytest

from proxy.records.archives.sqlite import SqliteArchive
from tests.console.support import OPERATORS, Stage
from tests.console.test_browser import (
    Site,
    entered,
    fixture_directory,  # noqa: F401 - the fixture "directory"
    fixture_site,  # noqa: F401 - the fixture "site"
)

MARK = "order-4711"
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("path", ["/console/requests", "/console/requests.json", "/console/"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
async def test_another_sites_page_can_not_search(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    """Without operators it needs no cookie, and how long a search takes tells whether something was found."""
    opened: list[SqliteArchive] = []

    def archive() -> SqliteArchive:
        opened.append(SqliteArchive(tmp_path / "requests.db"))
        return opened[-1]

    async with Stage(directory=tmp_path, archive=archive).browser() as browser:
        answer = await browser.get(path, headers=headers)

    assert (answer.status_code, opened) == (403, [])


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("operators", [{}, OPERATORS])
async def test_a_link_of_another_site_opens_a_search_after_a_click(
    tmp_path: Path, site: str, operators: dict[str, str]
) -> None:
    """A search can be sent to somebody in a ticket or a chat, but a page that opens a window measures nothing."""
    opened: list[SqliteArchive] = []

    def archive() -> SqliteArchive:
        opened.append(SqliteArchive(tmp_path / "requests.db"))
        return opened[-1]

    async with Stage(directory=tmp_path, archive=archive, operators=operators).browser() as browser:
        asked = [
            await browser.get(path, params={"merchant": MARK}, headers=LINK | {"Sec-Fetch-Site": site})
            for path in ("/console/requests", "/console/routes", "/console/requests.json")
        ]
        bare = await browser.get("/console/requests", headers=LINK | {"Sec-Fetch-Site": "same-origin"})
        before = len(opened)

    assert [one.status_code for one in asked] == [200, 200, 403]
    assert all('<a href="">Open this page</a>' in one.text for one in asked[:2])
    assert all(MARK not in one.text for one in asked)
    assert (bare.status_code, before) == ((303, 0) if operators else (200, 1))


@pytest.mark.parametrize("headers", [{}, LINK | {"Sec-Fetch-Site": "none"}, LINK | {"Sec-Fetch-Site": "same-origin"}])
async def test_a_bookmark_or_an_old_browser_needs_no_click(tmp_path: Path, headers: dict[str, str]) -> None:
    """Nor the console's own links."""
    async with Stage(directory=tmp_path).browser() as browser:
        answer = await browser.get("/console/requests", params={"merchant": MARK}, headers=headers)

    assert answer.status_code == 200
    assert f'value="{MARK}"' in answer.text


async def test_a_link_of_another_site_without_a_search_is_followed(tmp_path: Path) -> None:
    """As one on a wiki."""
    async with Stage(directory=tmp_path).browser() as browser:
        answer = await browser.get("/console/", headers=LINK | {"Sec-Fetch-Site": "cross-site"})

    assert "Ready" in answer.text


@pytest.mark.xdist_group("chromium")
async def test_a_link_of_another_site_keeps_search_and_session(site: Site) -> None:
    """After one click, without which the browser would not send the session's cookie."""
    page = await entered(site)
    link = f'<a href="{site.url}/console/requests?status=5xx">ticket 4711</a>'
    await page.route("http://tickets.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    await page.goto("http://tickets.example/")
    await page.get_by_role("link", name="ticket 4711").click()
    await page.get_by_role("link", name="Open this page").click()
    await page.wait_for_selector("nav")

    assert page.url.endswith("/console/requests?status=5xx")
    assert await page.input_value("#status") == "5xx"
    assert await page.locator("main tbody tr").count() == 2
    assert "root (operator)" in await page.inner_text("header")
