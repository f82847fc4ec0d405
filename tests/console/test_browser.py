"""The console in Debian's Chromium, against a console whose status has something of everything.

PAYPROXY_SCREENSHOTS=docs/console makes the pictures of docs/console.md anew.
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from proxy.console.sessions import Role
from proxy.errors import Sent
from proxy.telemetry.status import CertificateStatus, SinkStatus, Status, TokenState
from tests.cli.migration_log import changed
from tests.console.support import CONFIGURATION, OPERATORS, PASSWORD, Stage
from tests.console.test_request_pages import write
from tests.console.test_status_pages import NOW, migration
from tests.records.kept import operation, record
from tests.records.support import an_attempt
from tests.support.clock import ManualClock
from tests.telemetry.support import caller_status, error_status, no_token, status, token
from tests.telemetry.test_history import counts

pytestmark = pytest.mark.xdist_group("chromium")

CHROMIUM = shutil.which("chromium")
PAGES = {
    "overview": "/console/", "history": "/console/history", "requests": "/console/requests",
    "request": "/console/requests/{id}", "tail": "/console/requests/tail",
    "errors": "/console/errors", "callers": "/console/callers", "tokens": "/console/tokens",
    "certificates": "/console/certificates", "sinks": "/console/sinks", "migrations": "/console/migrations",
    "routes": "/console/routes?method=POST&target=/payment/v2/payments%3Fx%3D1&caller=erp",
    "configuration": "/console/configuration?show=changed",
}  # fmt: skip
# Just above 64rem tables are still tables, below they are lists.
LOOKS = [("light", 1280), ("dark", 1030), ("light", 420), ("dark", 320)]
THOROUGH_LOOKS = LOOKS[1:3]
SCREENSHOTS = os.environ.get("PAYPROXY_SCREENSHOTS", "")
SHOWN = {"overview", "requests", "request", "tail", "migrations", "routes", "configuration"}
PROBE = (
    "web-shop"
    if SCREENSHOTS
    else "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
)
LONG = "/payment/v2/" + "very-long-segment-without-a-break-" * 6


@dataclass
class Site:
    """A console that listens, and contexts of a browser; *noise* is what pages said on the browser's console."""

    stage: Stage
    url: str
    browser: Browser
    record_id: str
    noise: list[str] = field(default_factory=list)

    async def page(self, **options: object) -> Page:
        """Return a page of a new visitor."""
        context: BrowserContext = await self.browser.new_context(base_url=self.url, **options)  # type: ignore[arg-type]
        page = await context.new_page()
        page.on("console", lambda message: self.noise.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: self.noise.append(f"{page.url}: {error}"))
        page.on("requestfailed", lambda request: self.failed(request.url, str(request.failure)))
        return page

    def failed(self, url: str, failure: str) -> None:
        """Note that a request has failed, but not that a stream or an update has ended with its page."""
        if "ERR_ABORTED" not in failure:
            self.noise.append(f"{url}: {failure}")


def everything() -> Status:
    """Return a status with something of each kind, good and bad, long and hostile."""
    callers = tuple(caller_status(f"system-{n}", requests=900 - n, fine=890 - n, failed=n, last=NOW) for n in range(4))
    return status(
        time=NOW,
        callers=(*callers, caller_status(PROBE, requests=1, held_back=1, sent_unknown=1, last=NOW)),
        errors=(error_status(last=NOW), error_status(code="", status=500, cause=PROBE, caller=PROBE, last=NOW - 60)),
        tokens=(
            token(), token(audience="jpm:uri:prod:" + "validations" * 5, state=TokenState.STALE),
            no_token(credential="adfs", error_code="token_refused", error=f"invalid_client {PROBE}", retry_in=7.0),
        ),
        certificates=(
            CertificateStatus(name="login", use="credential", subject="CN=payproxy,O=Example", expires=NOW + 5 * 86400),
            CertificateStatus(name="bank", use="upstream", subject=f"CN={PROBE}", expires=NOW - 1),
        ),
        sinks=(
            SinkStatus(name="stdout", backlog=0, dropped=0, failing=""),
            SinkStatus(name="database", backlog=1234, dropped=1, failing="No space left on device"),
        ),
        migrations=(migration(guard_pinned=("erp", "shop")), migration(name="validations", who="", weight=0)),
    )  # fmt: skip


def ramp() -> list[bytes]:
    """Return the records of a migration's changes, and of requests on both sides."""
    steps = ((0, 5, "anna", "the smallest first"), (5, 20, "bob", "no failure"), (20, 60, "anna", "week two"))
    back = (60, 40, "guard", f"3 of the last 50 requests failed {PROBE}")
    changes = [
        changed(
            after, before=before, who=who, reason=reason, what="set" if after > before else "rollback",
            clock=ManualClock(NOW - (9 - 2 * day) * 86400),
        )
        for day, (before, after, who, reason) in enumerate((*steps, back))
    ]  # fmt: skip
    sides = [
        record(NOW - 60 - n, caller=f"system-{n}", side="modern" if n % 3 else "legacy", status=503 if n == 7 else 200)
        for n in range(12)
    ]
    return [*changes, *sides]


@pytest.fixture(name="directory")
def fixture_directory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory; pictures show one that has no name of a user or of a test."""
    if not SCREENSHOTS:
        yield tmp_path
        return
    path = Path("/tmp/payproxy")  # noqa: S108 - made anew, and only for pictures
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(name="site")
async def fixture_site(directory: Path) -> AsyncIterator[Site]:
    """Open a console with two operators, a log and a migration at weight 40; nothing may be said on the console."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium")
    clock = ManualClock()
    more = "".join(f'[callers.system-{n}]\nnetworks = ["10.50.{n}.0/24"]\n' for n in range(40))
    stage = Stage(
        directory=directory,
        operators=OPERATORS,
        status=everything(),
        clock=clock,
        configuration=CONFIGURATION + more,
    )
    attempts = [
        an_attempt(1, status=401, started_wall=NOW + 3.001),
        an_attempt(2, status=0, sent=Sent.UNKNOWN, started_wall=NOW + 3.043, wait_ms=0.0),
    ]
    payment = record(NOW + 3, status=504, origin="proxy", code="upstream_timeout", attempts=attempts, finished=130.0)
    others = [
        record(NOW, method="GET", path="/payment/v2/payments" if SCREENSHOTS else LONG),
        record(NOW + 1, caller=PROBE, path=f"/{PROBE}"),
        operation(NOW + 2),
    ]
    record_id = (await write(directory, *ramp(), *others, payment))[-1]
    stage.live.add([*others, payment])
    for minute in range(60):
        stage.history.add(counts(number=60.0 + minute % 7 * 20, bucket=6 + minute % 3))
        stage.history.add(counts(503 if minute % 20 == 3 else 404, number=9.0))
        await clock.advance(60.0)
    migrations = await stage.migrating.open()
    for weight in (20, 40):
        await migrations.set("payments", weight, who="x", proof="unix socket", reason="y", force=True)
    first, second = stage.status.migrations
    shown = replace(first, version=stage.migrating.payments.version)
    stage.status = replace(stage.status, migrations=(shown, second))
    async with stage.server() as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        site = Site(stage, f"http://127.0.0.1:{server.addresses[0][1]}", browser, record_id)
        yield site
        await browser.close()
    assert site.noise == []


async def entered(site: Site, **options: object) -> Page:
    """Return the page of a visitor who has come by a login link."""
    page = await site.page(**options)
    await signed_in(site, page)
    return page


async def signed_in(site: Site, page: Page) -> None:
    """Let the visitor of *page* come by a login link."""
    await page.goto(f"/console/sign-in?link={site.stage.sign_in.links.make('root', Role.OPERATOR)}")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/console/")


async def wider(page: Page) -> int:
    """Return by how many pixels *page* is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize(
    ("scheme", "width"),
    [pytest.param(*one, marks=pytest.mark.thorough) if one in THOROUGH_LOOKS else one for one in LOOKS],
)
async def test_each_page_in_a_browser(site: Site, scheme: str, width: int) -> None:
    """Without a message, a horizontal scroll bar or a fault that axe-core finds; nothing of a caller's runs."""
    page = await entered(site, color_scheme=scheme, viewport={"width": width, "height": 800})
    for name, path in PAGES.items():
        await page.goto(path.format(id=site.record_id))
        assert "owned" not in await page.title()
        assert await wider(page) == 0, f"{name} is too wide"
        found = await Axe().run(page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        if SCREENSHOTS and (scheme, width) == LOOKS[0] and name in SHOWN:
            await page.screenshot(path=Path(SCREENSHOTS, f"{name}.png"), full_page=True)


async def test_the_sign_in_has_no_fault(site: Site) -> None:
    """As form and as link, also after a wrong password."""
    for link in ("", "?link=x"):
        page = await site.page(color_scheme="dark", viewport={"width": 320, "height": 600})
        await page.goto(f"/console/sign-in{link}")
        assert (await Axe().run(page)).violations_count == 0


async def test_the_keyboard_alone_gets_from_sign_in_to_a_rollback_without_javascript(site: Site) -> None:
    """By Tab and Enter, with JavaScript off."""
    page = await site.page(java_script_enabled=False)
    await page.goto("/console/")
    await tab_to(page, "name")
    await page.keyboard.type("alice")
    await tab_to(page, "password")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/")
    await tab_to_text(page, "Migrations")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/migrations")
    await tab_to(page, "rollback-1")
    await page.keyboard.type("errors at the bank")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/migrations/rollback")

    assert "payments has the weight" in await page.inner_text("main")
    assert site.stage.migrating.weight < 40
    assert site.stage.migrating.operations[-1].reason == "errors at the bank"


async def test_the_keyboard_alone_asks_which_rule_gets_a_request_without_javascript(site: Site) -> None:
    """And the address has the request, so that it can be sent to somebody."""
    page = await entered(site, java_script_enabled=False)
    await tab_to_text(page, "Routes")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/routes")
    await tab_to(page, "target")
    await page.keyboard.type("/closed/x?<b>")
    await tab_to(page, "caller")
    await page.keyboard.type("erp")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/routes?method=GET&target=*")

    assert "403 caller_not_allowed" in await page.inner_text("main")
    assert await page.input_value("#target") == "/closed/x?<b>"
    again = await entered(site)
    await again.goto(page.url)
    assert await again.inner_text("main") == await page.inner_text("main")


async def test_a_tile_changes_with_the_weight_and_not_by_colour_alone(site: Site) -> None:
    """Sides differ in text and in pattern; a set weight moves tiles."""
    page = await entered(site)
    looks: dict[int, dict[str, str]] = {}
    for weight in (40, 100):
        status = site.stage.status
        site.stage.status = replace(status, migrations=(replace(status.migrations[0], weight=weight),))
        await page.goto("/console/migrations")
        found = await page.eval_on_selector_all(
            ".tile", "all => all.map(one => [one.lastElementChild.innerText, getComputedStyle(one).backgroundImage])"
        )
        looks[weight] = dict(found)

    assert set(looks[40]) == {"legacy", "modern"}
    assert looks[40]["legacy"] != looks[40]["modern"]
    # The guard holds two.
    assert await page.locator(".tile.legacy").count() == 2


async def tab_to(page: Page, element_id: str) -> None:
    """Press Tab until the element with that id has the focus."""
    await tab(page, f"#{element_id}:focus")


async def tab_to_text(page: Page, text: str) -> None:
    """Press Tab until the link with that text has the focus."""
    await tab(page, f"nav a:focus:text-is('{text}')")


async def tab(page: Page, focused: str) -> None:
    """Press Tab until an element has the focus that the selector *focused* finds."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.locator(focused).count():
            return
    raise AssertionError(f"Tab never comes to {focused}")
