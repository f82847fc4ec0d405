import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.console.support import OPERATORS, Stage, csrf_of, sign_in
from tests.console.test_status_pages import migration
from tests.telemetry.support import status

SET = "/console/migrations/set"
ROLLBACK = "/console/migrations/rollback"
FORMS = {
    SET: {"name": "payments", "weight": "60", "reason": "week three"},
    ROLLBACK: {"name": "payments", "to": "20"},
}


@dataclass
class Acting:
    """A signed-in operator before a migration at weight 40."""

    stage: Stage
    browser: httpx.AsyncClient

    @property
    def weight(self) -> int:
        """Return the weight that workers have."""
        return self.stage.migrating.weight

    async def post(self, path: str, **fields: str) -> httpx.Response:
        """Send the form at *path* with the session's CSRF token."""
        version = str(self.stage.migrating.payments.version)
        values = FORMS[path] | {"csrf": await csrf_of(self.browser), "version": version, "reason": "why"} | fields
        return await self.browser.post(path, data=values)


@pytest.fixture(name="acting")
async def fixture_acting(tmp_path: Path) -> AsyncIterator[Acting]:
    """Sign in before a migration that is at 40 %."""
    stage = Stage(directory=tmp_path, operators=OPERATORS, status=status(migrations=(migration(),)))
    migrations = await stage.migrating.open()
    await migrations.set("payments", 20, who="x", proof="unix socket", reason="y", force=True)
    await migrations.set("payments", 40, who="x", proof="unix socket", reason="y", force=True)
    stage.migrating.operations.clear()
    async with stage.browser() as browser:
        await sign_in(browser)
        yield Acting(stage, browser)


async def test_a_rollback_is_recorded_with_who_and_why(acting: Acting) -> None:
    """As by the command, and it says how it was proven who it was."""
    answer = await acting.post(ROLLBACK, reason="errors at the bank")

    assert answer.status_code == 200
    assert "payments has the weight" in answer.text
    assert acting.weight == 20
    [operation] = acting.stage.migrating.operations
    assert (operation.who, operation.proof, operation.reason) == (
        "alice",
        "console, password",
        "errors at the bank",
    )


async def test_a_weight_is_set(acting: Acting) -> None:
    """With the version that the page has shown."""
    answer = await acting.post(SET, weight="60")

    assert (answer.status_code, acting.weight) == (200, 60)


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        (SET, {"version": "1"}, 409),
        (SET, {"weight": "101"}, 400),
        (SET, {"weight": "-1"}, 400),
        (SET, {"weight": "\N{ARABIC-INDIC DIGIT FIVE}"}, 400),
        (SET, {"name": "nobody"}, 409),
        (SET, {"reason": ""}, 409),
        (ROLLBACK, {"reason": ""}, 409),
        (ROLLBACK, {"version": "1"}, 409),
        (ROLLBACK, {"version": ""}, 400),
        (ROLLBACK, {"to": ""}, 400),
        (ROLLBACK, {"to": "40"}, 409),
        (ROLLBACK, {"to": "-1"}, 400),
        (SET, {"reason": "x" * 501}, 400),
        (ROLLBACK, {"reason": "x" * 501}, 400),
        (ROLLBACK, {"reason": "fine\nby: mallory"}, 400),
        (ROLLBACK, {"reason": "\x1b[2J"}, 400),
        (ROLLBACK, {"csrf": ""}, 403),
        (ROLLBACK, {"csrf": "A" * 43}, 403),
    ],
)
async def test_what_does_not_fit_changes_nothing(
    acting: Acting, path: str, fields: dict[str, str], expected: int
) -> None:
    """Somebody else changed it meanwhile, no reason, no such migration, a form of another page."""
    answer = await acting.post(path, **fields)

    assert (answer.status_code, acting.weight) == (expected, 40)
    assert acting.stage.migrating.operations == []


@pytest.mark.parametrize(("meanwhile", "now", "target"), [("rollback", 20, 0), ("set", 60, 40)])
async def test_the_rollback_button_does_what_its_page_says_or_nothing(
    acting: Acting, meanwhile: str, now: int, target: int
) -> None:
    """It says 20 %; somebody else has changed the weight since: 409, with what is there now and the way to it."""
    stage, migrations = acting.stage, acting.stage.migrating.migrations
    stage.status = status(migrations=migrations.states())
    page = (await acting.browser.get("/console/migrations")).text
    form = page.partition(f'action="{ROLLBACK}"')[2].partition("</form>")[0]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    assert "Roll back to 20 %" in form
    if meanwhile == "set":
        await migrations.set("payments", 60, who="bob", proof="unix socket", reason="by command", force=True)
    else:
        await migrations.rollback("payments", who="bob", proof="unix socket", reason="by command")
    stage.migrating.operations.clear()

    answer = await acting.browser.post(ROLLBACK, data=fields | {"reason": "errors"})

    assert (answer.status_code, acting.weight, stage.migrating.operations) == (409, now, [])
    said = f"changed meanwhile: weight {now}, version 3, by bob: by command; a rollback goes to {target} now"
    assert said in answer.text
    assert '<a href="/console/migrations">Back</a>' in answer.text


async def test_what_can_not_be_recorded_is_not_done_from_the_console(acting: Acting) -> None:
    """503, and the weight stays."""
    acting.stage.migrating.log_works = False

    assert ((await acting.post(ROLLBACK)).status_code, acting.weight) == (503, 40)


@pytest.mark.parametrize("path", [SET, ROLLBACK])
async def test_a_viewer_gets_403_on_every_action(acting: Acting, path: str) -> None:
    """Also with its own CSRF token; the page has no form for it and says why."""
    await acting.browser.post("/console/sign-out", data={"csrf": await csrf_of(acting.browser)})
    await sign_in(acting.browser, view="1")
    page = (await acting.browser.get("/console/migrations")).text

    assert 'action="/console/migrations/' not in page
    assert "can only look" in page
    assert ((await acting.post(path)).status_code, acting.weight) == (403, 40)


@pytest.mark.parametrize("path", [SET, ROLLBACK])
async def test_an_action_is_no_get(acting: Acting, path: str) -> None:
    """A link or an image can't act."""
    assert (await acting.browser.get(path, params=FORMS[path])).status_code == 405


@pytest.mark.parametrize("path", [SET, ROLLBACK])
async def test_without_operators_nobody_acts(tmp_path: Path, path: str) -> None:
    """The console is read-only, and says how to change a migration all the same."""
    stage = Stage(directory=tmp_path, status=status(migrations=(migration(),)))
    async with stage.browser() as browser:
        page = (await browser.get("/console/migrations")).text
        answer = await browser.post(path, data=FORMS[path])

    assert "read-only" in page
    assert "<form" not in page
    assert answer.status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_another_sites_page_can_not_act(acting: Acting, headers: dict[str, str]) -> None:
    """Even if it had the cookie and the token."""
    values = FORMS[ROLLBACK] | {"csrf": await csrf_of(acting.browser), "reason": "x"}
    answer = await acting.browser.post(ROLLBACK, data=values, headers=headers)

    assert (answer.status_code, acting.weight) == (403, 40)
