from pathlib import Path
from typing import Any

import pytest

from proxy.console.sessions import IDLE_SECONDS, LINK_SECONDS, SESSION_SECONDS, Role
from proxy.console.sign_in import TRIES
from proxy.records.audit_records import Operation
from tests.console.support import OPERATORS, PASSWORD, Stage, csrf_of, sign_in
from tests.support.clock import ManualClock


@pytest.fixture(name="clock")
def fixture_clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock()


@pytest.fixture(name="stage")
async def fixture_stage(tmp_path: Path, clock: ManualClock) -> Stage:
    """Return a console with one operator."""
    return Stage(directory=tmp_path, operators=OPERATORS, clock=clock)


async def test_with_operators_nothing_is_shown_without_a_sign_in(stage: Stage) -> None:
    """Pages lead to the form, JSON is refused, and neither names instance or environment."""
    async with stage.browser() as browser:
        page = await browser.get("/console/requests")
        twin = await browser.get("/console/overview.json")
        form = await browser.get("/console/sign-in")

    assert (page.status_code, page.headers["location"]) == (303, "/console/sign-in?next=%2Fconsole%2Frequests")
    assert twin.status_code == 403
    assert form.status_code == 200
    assert "host-1" not in form.text + twin.text
    assert "production" not in form.text + twin.text


async def test_a_password_opens_a_session(stage: Stage) -> None:
    """It is recorded, and its cookie is for this site's own requests and no script."""
    async with stage.browser() as browser:
        answer = await sign_in(browser)
        page = await browser.get("/console/")

    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert page.status_code == 200
    assert "alice (operator)" in page.text
    assert stage.operations == [
        Operation(who="alice", proof="password", what="console sign-in", values=(("role", "operator"),))
    ]


async def test_under_tls_the_cookie_is_bound_to_tls_and_host(tmp_path: Path) -> None:
    """Browsers keep a cookie with that prefix from other hosts and from plain HTTP."""
    stage = Stage(directory=tmp_path, operators=OPERATORS, secure=True)
    async with stage.browser() as browser:
        cookie = (await sign_in(browser)).headers["set-cookie"]

    assert cookie.startswith("__Host-payproxy=")
    assert "; Secure" in cookie
    assert "; Path=/;" in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize(
    ("fields", "who"),
    [
        ({"password": "wrong"}, "alice"),
        ({"name": "mallory"}, ""),
        ({"name": PASSWORD}, ""),
        ({"password": ""}, "alice"),
    ],
)
async def test_a_wrong_name_and_a_wrong_password_look_alike(stage: Stage, fields: dict[str, str], who: str) -> None:
    """And what was typed is neither shown nor recorded: it may be a password in the wrong field."""
    async with stage.browser() as browser:
        answer = await sign_in(browser, **fields)

    assert answer.status_code == 403
    assert "The name or the password is wrong." in answer.text
    assert "set-cookie" not in answer.headers
    assert PASSWORD not in answer.text
    assert stage.operations == [Operation(who=who, proof="none", what="console sign-in refused")]


async def test_passwords_can_not_be_tried_without_end(stage: Stage, clock: ManualClock) -> None:
    """After some there is one more every few seconds; the right one has to wait too."""
    async with stage.browser() as browser:
        tried = [(await sign_in(browser, password="wrong")).status_code for _ in range(TRIES)]
        limited = await sign_in(browser)
        await clock.advance(float(limited.headers["retry-after"]))
        later = await sign_in(browser)

    assert tried == [403] * TRIES
    assert limited.status_code == 429
    assert later.status_code == 303


async def test_a_link_signs_in_once(stage: Stage) -> None:
    """Opening it is not enough, as programs that look at links do that; its button is."""
    link = stage.sign_in.links.make("root", Role.OPERATOR)
    async with stage.browser() as browser:
        opened = [(await browser.get("/console/sign-in", params={"link": link})).text for _ in range(2)]
        first = await browser.post("/console/sign-in", data={"link": link})
        page = await browser.get("/console/")
        again = await browser.post("/console/sign-in", data={"link": link})

    assert all(link in text for text in opened)
    assert first.status_code == 303
    assert "root (operator)" in page.text
    assert again.status_code == 403
    assert [(one.who, one.proof) for one in stage.operations] == [("root", "login link")]


async def test_a_link_ends(stage: Stage, clock: ManualClock) -> None:
    """Whoever finds it later in a history gets nothing."""
    link = stage.sign_in.links.make("root", Role.OPERATOR)
    await clock.advance(LINK_SECONDS)
    async with stage.browser() as browser:
        answer = await browser.post("/console/sign-in", data={"link": link})

    assert answer.status_code == 403


@pytest.mark.parametrize(("between", "seconds"), [(IDLE_SECONDS, IDLE_SECONDS), (600.0, SESSION_SECONDS)])
async def test_a_session_ends_when_idle_and_after_a_day(
    stage: Stage, clock: ManualClock, between: float, seconds: float
) -> None:
    """However often it was used."""
    async with stage.browser() as browser:
        await sign_in(browser)
        seen = []
        for _ in range(int(seconds / between)):
            seen.append((await browser.get("/console/")).status_code)
            await clock.advance(between)
        after = await browser.get("/console/")

    assert set(seen) == {200}
    assert after.status_code == 303


async def test_signing_out_ends_the_session_itself(stage: Stage) -> None:
    """A copy of the cookie is worth nothing then."""
    async with stage.browser() as browser:
        await sign_in(browser)
        kept = dict(browser.cookies)
        csrf = await csrf_of(browser, "/console/")
        forged = await browser.post("/console/sign-out", data={"csrf": "x"})
        answer = await browser.post("/console/sign-out", data={"csrf": csrf})
        browser.cookies.update(kept)
        page = await browser.get("/console/")

    assert forged.status_code == 403
    assert answer.headers["location"] == "/console/sign-in"
    assert page.status_code == 303


async def test_nobody_signs_in_that_can_not_be_recorded(stage: Stage) -> None:
    """Who acts later must be in the log."""
    stage.log_works = False
    async with stage.browser() as browser:
        answer = await sign_in(browser)

    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"name=alice", {"Content-Type": "text/plain"}, 415),
        (b"name=alice", {"Origin": "http://evil.example"}, 403),
        (b"name=alice", {"Sec-Fetch-Site": "cross-site"}, 403),
        (b"name=alice", {"Sec-Fetch-Site": "same-site"}, 403),
        (b"name=alice&name=bob", {}, 400),
        (b"name", {}, 400),
        (b"\xff", {}, 400),
        (b"a=1" * 20000, {}, 413),
        (b"&".join(b"a%d=1" % number for number in range(50)), {}, 400),
    ],
)
async def test_other_sites_and_strange_forms_are_refused(
    stage: Stage, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Also another port of this machine, which is the same site for a browser."""
    form: dict[str, Any] = {"Content-Type": "application/x-www-form-urlencoded"}
    async with stage.browser() as browser:
        answer = await browser.post("/console/sign-in", content=body, headers=form | headers)

    assert answer.status_code == status
    assert "alice" not in answer.text
    assert stage.operations == []


async def test_without_operators_no_password_is_tried(tmp_path: Path) -> None:
    """Nobody could sign in; anybody could write refusals into the request log, each on disk at once."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser:
        answer = await sign_in(browser)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert stage.operations == []


async def test_a_new_sign_in_ends_the_session_before_it(stage: Stage) -> None:
    """Who signs in again only to look has no operator's session left, which nothing could sign out any more."""
    async with stage.browser() as browser:
        await sign_in(browser)
        before = dict(browser.cookies)
        await sign_in(browser, view="1")
        now = (await browser.get("/console/")).text
        browser.cookies.clear()
        browser.cookies.update(before)
        answer = await browser.get("/console/")

    assert "alice (viewer)" in now
    assert answer.status_code == 303
