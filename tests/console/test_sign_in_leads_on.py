"""Where a sign-in leads to, and who is offered one."""

from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe

from proxy.console.sessions import Role
from tests.console.support import OPERATORS, PASSWORD, Stage, csrf_of, sign_in
from tests.console.test_browser import (
    Site,
    fixture_directory,  # noqa: F401 - the fixture "directory"
    fixture_site,  # noqa: F401 - the fixture "site"
    wider,
)
from tests.console.test_status_pages import migration
from tests.telemetry.support import status

SEARCH = "/console/requests?status=5xx&path=%2Fa%25b"


@pytest.fixture(name="stage")
async def fixture_stage(tmp_path: Path) -> Stage:
    """Return a console with one operator."""
    return Stage(directory=tmp_path, operators=OPERATORS)


async def test_the_sign_in_leads_on_to_the_page_that_was_opened(stage: Stage) -> None:
    """With its search, also after a wrong password: somebody may have sent it in a ticket."""
    async with stage.browser() as browser:
        led = (await browser.get(SEARCH)).headers["location"]
        form = await browser.get(led)
        fields = {"name": "alice", "password": "wrong"}
        refused = await browser.post(led, data=fields)
        entered = await browser.post(led, data=fields | {"password": PASSWORD})

    # Forms without an action go to the address that the page has.
    assert all('<form class="card" method="post">' in one.text for one in (form, refused))
    assert (entered.status_code, entered.headers["location"]) == (303, SEARCH)


@pytest.mark.parametrize(
    "following",
    ["//evil.example/", "https://evil.example/console/", "/api/status", "/console/x y", "/console/\r\nA: b", "x"],
)
async def test_the_sign_in_leads_nowhere_else(stage: Stage, following: str) -> None:
    """A link to it can be made by anybody."""
    async with stage.browser() as browser:
        answer = await browser.post(
            "/console/sign-in", params={"next": following}, data={"name": "alice", "password": PASSWORD}
        )

    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")


async def test_a_link_opened_by_a_viewer_signs_in_as_operator(stage: Stage) -> None:
    """The page says whose session ends by it; who is an operator already is asked too, as the link may be another's."""
    async with stage.browser() as browser:
        await sign_in(browser, view="1")
        link = stage.sign_in.links.make("root", Role.OPERATOR)
        opened = await browser.get("/console/sign-in", params={"link": link})
        await browser.post("/console/sign-in", data={"link": link})
        page = await browser.get("/console/")
        again = await browser.get("/console/sign-in", params={"link": "x"})
        without = await browser.get("/console/sign-in", params={"next": SEARCH})

    assert opened.status_code == 200
    assert link in opened.text
    assert "signed in as alice (viewer)" in opened.text
    assert "root (operator)" in page.text
    assert "signed in as root (operator)" in again.text
    assert (without.status_code, without.headers["location"]) == (303, SEARCH)


async def test_a_viewer_is_led_to_the_sign_in_as_operator_and_back(tmp_path: Path) -> None:
    """From the page that has actions, and from an action that was refused."""
    stage = Stage(directory=tmp_path, operators=OPERATORS, status=status(migrations=(migration(),)))
    led = "/console/sign-in?next=%2Fconsole%2Fmigrations"
    async with stage.browser() as browser:
        await sign_in(browser, view="1")
        page = await browser.get("/console/migrations")
        csrf = await csrf_of(browser)
        refused = await browser.post("/console/migrations/rollback", data={"name": "payments", "csrf": csrf})
        form = await browser.get(led)
        entered = await browser.post(led, data={"name": "alice", "password": PASSWORD})
        after = await browser.get(entered.headers["location"])

    for one in (page, refused):
        assert f'<a href="{led}">Sign in as operator</a>' in one.text
    assert refused.status_code == 403
    assert 'name="password"' in form.text
    assert "signed in as alice (viewer)" in form.text
    assert entered.headers["location"] == "/console/migrations"
    assert 'action="/console/migrations/rollback"' in after.text


@pytest.mark.xdist_group("chromium")
async def test_the_sign_in_of_a_viewer_has_no_fault(site: Site) -> None:
    """Who has a session and needs another: from the page that has actions, and back to it."""
    page = await site.page(color_scheme="dark", viewport={"width": 320, "height": 600})
    await page.goto("/console/migrations")
    await page.fill("#name", "alice")
    await page.fill("#password", PASSWORD)
    await page.get_by_text("Only look").click()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/migrations")
    await page.get_by_role("link", name="Sign in as operator").click()
    await page.wait_for_url("**/console/sign-in?next=*")
    assert (await Axe().run(page)).violations_count == 0
    assert await wider(page) == 0
    assert "signed in as alice (viewer)" in await page.inner_text("main")
    await page.fill("#name", "alice")
    await page.fill("#password", PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/migrations")
    assert await page.get_by_role("button", name="Roll back payments").count() == 1
