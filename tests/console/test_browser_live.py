"""What the console's script does, in Debian's Chromium; and what is there without it."""

from dataclasses import replace

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, expect

from proxy.console.live_records import AT_ONCE
from tests.console.test_browser import (
    PROBE,
    Site,
    entered,
    fixture_directory,  # noqa: F401 - the fixture "directory"
    fixture_site,  # noqa: F401 - the fixture "site"
    signed_in,
    tab,
    wider,
)
from tests.console.test_status_pages import NOW
from tests.records.kept import operation, record
from tests.records.support import until

pytestmark = pytest.mark.xdist_group("chromium")

HIDDEN = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_records_come_by_themselves_and_stay_text(site: Site) -> None:
    """Whatever is in them. Paused, they are skipped and counted; what was missed is said."""
    page = await entered(site, color_scheme="dark", viewport={"width": 320, "height": 800})
    await page.goto("/console/requests/tail")
    await expect(page.locator("#tail-state")).to_contain_text("Live: 0 new (")
    pause = page.get_by_role("button", name="Pause")
    rows = page.locator("#tail-rows tr")
    before = await rows.count()
    await pause.focus()

    site.stage.live.add([record(NOW + 9, caller=PROBE, path=f"/{PROBE}", cause=PROBE), operation(NOW + 9, what=PROBE)])
    await expect(rows).to_have_count(before + 2)
    assert PROBE in await rows.nth(1).inner_text()
    assert "owned" not in await page.title()
    assert await page.locator("#tail img, #tail script").count() == 0
    await page.keyboard.press("Enter")
    site.stage.live.add([record(NOW + 10), record(NOW + 10)])
    await expect(page.locator("#tail-state")).to_contain_text("Paused: 2 new, 2 skipped while paused")
    assert await rows.count() == before + 2
    await page.keyboard.press("Enter")
    await expect(rows.first).to_have_text("2 records were skipped while this page was paused.")
    site.stage.live.add([record(NOW + 11) for _ in range(AT_ONCE + 3)])
    await expect(page.locator("#tail-state")).to_contain_text(f"Live: {AT_ONCE + 2} new, 5 missed")
    assert (await Axe().run(page)).violations_count == 0
    assert await wider(page) == 0


async def test_a_browser_that_refuses_locks_has_a_tail(site: Site) -> None:
    """As where it has none: then each tail has a place."""
    page = await entered(site)
    await page.add_init_script(
        "navigator.locks.request = () => Promise.reject(new DOMException('no', 'SecurityError'))"
    )
    await page.goto("/console/requests/tail")
    await expect(page.locator("#tail-state")).to_contain_text("Live: 0 new (")


async def test_a_tail_whose_session_ends_says_so(site: Site) -> None:
    """And asks no more."""
    page = await entered(site)
    await page.goto("/console/requests/tail")
    await expect(page.locator("#tail-state")).to_contain_text("Live:")
    other = await page.context.new_page()
    await other.goto("/console/")
    await other.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#tail-state")).to_contain_text("Ended: sign in again.")


async def test_a_tab_that_nobody_sees_holds_no_connection(site: Site) -> None:
    """Browsers have six for a host; seen again, it goes on where it was."""
    page = await entered(site)
    await page.goto("/console/requests/tail")
    rows = page.locator("#tail-rows tr")
    before = await rows.count()
    await until(lambda: site.stage.live.followers)
    await page.evaluate(HIDDEN, True)  # noqa: FBT003 - an argument of the page's own function
    await until(lambda: not site.stage.live.followers)
    site.stage.live.add([record(NOW + 9), record(NOW + 10)])
    await page.evaluate(HIDDEN, False)  # noqa: FBT003 - as above
    await expect(rows).to_have_count(before + 2)
    await expect(page.locator("#tail-state")).to_contain_text("Live: 2 new (")


async def test_a_browser_has_connections_left_beside_its_tails(site: Site) -> None:
    """It has six for a host: the fifth tail says which it waits for, pages still open, and a closed one makes room."""
    first = await entered(site)
    tails = [first, *[await first.context.new_page() for _ in range(4)]]
    for page in tails[:4]:
        await page.goto("/console/requests/tail")
        await expect(page.locator("#tail-state")).to_contain_text("Live: 0 new (")
    fifth = tails[4]
    await fifth.goto("/console/requests/tail")
    await expect(fifth.locator("#tail-state")).to_contain_text("Waiting: 4 other windows of this browser show live")
    assert len(site.stage.live.followers) == 4
    other = await first.context.new_page()
    await other.goto("/console/history")
    await tails[1].close()
    await expect(fifth.locator("#tail-state")).to_contain_text("Live: 0 new (", timeout=30000)
    await tails[2].evaluate(HIDDEN, True)  # noqa: FBT003 - an argument of the page's own function
    await other.goto("/console/requests/tail")
    await expect(other.locator("#tail-state")).to_contain_text("Live: 0 new (", timeout=30000)


async def test_without_javascript_the_tail_shows_the_newest_and_says_how_to_see_more(site: Site) -> None:
    """By a link that loads it again with its filters."""
    page = await site.page(java_script_enabled=False)
    await signed_in(site, page)
    await page.goto("/console/requests/tail?status=5xx")
    assert await page.locator("#tail-rows tr").count() == 1
    site.stage.live.add([record(NOW + 9, status=500)])
    await page.get_by_role("link", name="reload it").click()
    assert await page.locator("#tail-rows tr").count() == 2
    assert not await page.get_by_role("button", name="Pause").is_visible()


async def test_a_page_of_the_present_keeps_itself_up_to_date(site: Site) -> None:
    """Only what differs changes: focus and scroll position stay. It can be paused, and says what changed when."""
    page = await entered(site, viewport={"width": 1030, "height": 500})
    await page.evaluate("window.same = document.querySelector('main')")
    link = page.locator("main td a").first
    await link.focus()
    place = await top(link)
    site.stage.status = replace(site.stage.status, draining=True)
    await expect(page.locator(".lead")).to_contain_text("Not ready")
    await expect(page.locator("#updates [role=status]")).to_contain_text("Not ready")
    assert await link.evaluate("node => node === document.activeElement")
    assert await top(link) == place
    assert await page.evaluate("scrollY") > 0
    assert await page.evaluate("window.same === document.querySelector('main')")

    await page.get_by_role("button", name="Pause updates").press("Enter")
    await expect(page.locator("#updates")).to_contain_text("Paused at")
    site.stage.status = replace(site.stage.status, draining=False)
    async with page.expect_request("**/console/") as later:  # nothing is asked for until it goes on
        await page.get_by_role("button", name="Continue updates").press("Enter")
    assert await later.value
    await expect(page.locator(".lead")).to_contain_text("Ready")
    assert (await Axe().run(page)).violations_count == 0


async def test_an_input_that_is_being_typed_into_stays(site: Site) -> None:
    """Also after the focus has left it; a form that nobody has touched is brought up to date."""
    page = await entered(site)
    await page.goto("/console/migrations")
    await page.locator("#rollback-1").fill("half a rea")
    await page.locator("#rollback-1").blur()
    await page.locator("#set-2").fill("x")
    await page.locator("#set-2").fill("")
    first, second = site.stage.status.migrations
    site.stage.status = replace(
        site.stage.status, migrations=(replace(first, weight=41, last_good=39), replace(second, last_good=7))
    )
    await page.get_by_role("button", name="Pause updates").click()
    await page.get_by_role("button", name="Continue updates").click()  # at once, not after 15 seconds
    await expect(page.get_by_role("heading", name="Roll back to 7 %")).to_be_visible()
    await expect(page.locator("td", has_text="41 % on modern")).to_be_visible()
    assert await page.locator("#rollback-1").input_value() == "half a rea"
    assert await page.get_by_role("heading", name="Roll back to 39 %").count() == 0
    assert await page.locator("#weight-1").input_value() == "41"


async def test_a_page_of_the_present_that_is_signed_out_says_so(site: Site) -> None:
    """What it shows is old from then on."""
    page = await entered(site)
    other = await page.context.new_page()
    await other.goto("/console/")
    await other.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#updates")).to_contain_text("Ended: sign in again.")


async def test_the_keyboard_alone_asks_the_bank_without_javascript(site: Site) -> None:
    """And the page that says what came has no fault."""
    page = await site.page(java_script_enabled=False, viewport={"width": 320, "height": 600})
    await signed_in(site, page)
    await page.goto(f"/console/requests/{site.record_id}")
    await tab(page, "button:focus:text-is('Ask the bank')")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/requests/ask")
    assert "the bank has it. What to do: don't send it again" in await page.inner_text("main")
    assert site.stage.inquiries.asked[0][0] == site.record_id
    assert await wider(page) == 0


async def top(place: Locator) -> float:
    """Return how far *place* is below the upper edge of the window."""
    box = await place.bounding_box()
    assert box is not None
    return box["y"]
