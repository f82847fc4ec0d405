"""Operators that are added, changed or removed while somebody is signed in."""

import signal
from pathlib import Path

import httpx
import pytest

from proxy.console.sessions import Role
from proxy.secret import Secret
from proxy.settings.scrypt import make
from tests.cli.serving import Site, serving, site
from tests.console.support import OPERATORS, PASSWORD, Stage, csrf_of, sign_in
from tests.support.ports import lasting_port

OTHER = "another battery staple"
ALICE = Secret(OPERATORS["alice"])
BOB = Secret(make(OTHER, b"pepp" * 4))


@pytest.mark.parametrize(
    ("operators", "status"),
    [
        ({"alice": ALICE, "bob": BOB}, 200),
        ({"alice": Secret(OPERATORS["alice"])}, 200),
        ({"bob": BOB}, 303),
        ({"alice": BOB}, 303),
        ({}, 303),
    ],
)
async def test_a_session_ends_with_its_operator(tmp_path: Path, operators: dict[str, Secret], status: int) -> None:
    """Removed, or with another password; others change nothing for it. Without any operator nothing is shown."""
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    async with stage.browser() as browser:
        await sign_in(browser)
        csrf = await csrf_of(browser)
        await stage.sign_in.follow(operators)
        page = await browser.get("/console/requests")
        act = await browser.post("/console/migrations/rollback", data={"csrf": csrf, "name": "x", "reason": "y"})

    assert page.status_code == status
    assert (act.status_code == 403) == (status == 303)


async def test_without_its_last_operator_the_console_says_that_it_is_closed(tmp_path: Path) -> None:
    """Instead of a form that nobody could fill, also to who has the form still open; a new operator opens it again."""
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    async with stage.browser() as browser:
        await stage.sign_in.follow({})
        shown = [
            await browser.get("/console/sign-in"),
            await browser.get("/console/sign-in?link=x"),
            await sign_in(browser),
        ]
        await stage.sign_in.follow({"alice": ALICE})
        again = await browser.get("/console/sign-in")

    assert [one.status_code for one in shown] == [200, 200, 403]
    assert all("The console is closed" in one.text and "<button" not in one.text for one in shown)
    assert "closed" not in again.text
    assert 'name="password"' in again.text


async def test_only_the_new_password_signs_in(tmp_path: Path) -> None:
    """From the moment of the change on."""
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    async with stage.browser() as browser:
        await stage.sign_in.follow({"alice": BOB})
        old = await sign_in(browser)
        new = await sign_in(browser, password=OTHER)

    assert (old.status_code, new.status_code) == (403, 303)


async def test_a_link_ends_with_its_operator(tmp_path: Path) -> None:
    """That of another user of the machine does not, as long as there are operators."""
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    links = {name: stage.sign_in.links.make(name, Role.OPERATOR) for name in ("alice", "root")}
    late = stage.sign_in.links.make("root", Role.OPERATOR)
    async with stage.browser() as browser:
        await stage.sign_in.follow({"bob": BOB})
        answers = {name: await browser.post("/console/sign-in", data={"link": link}) for name, link in links.items()}
        await stage.sign_in.follow({})
        closed = await browser.post("/console/sign-in", data={"link": late})
        page = await browser.get("/console/")

    assert {name: answer.status_code for name, answer in answers.items()} == {"alice": 403, "root": 303}
    assert (closed.status_code, page.status_code) == (403, 303)


async def test_the_first_operator_closes_the_console(tmp_path: Path) -> None:
    """To everybody who has not signed in; an unknown name is still compared with a hash."""
    stage = Stage(directory=tmp_path)
    async with stage.browser() as browser:
        before = await browser.get("/console/requests")
        await stage.sign_in.follow({"bob": BOB})
        after = await browser.get("/console/requests")
        unknown = await sign_in(browser)
        entered = await sign_in(browser, name="bob", password=OTHER)

    assert (before.status_code, after.status_code) == (200, 303)
    assert (unknown.status_code, entered.status_code) == (403, 303)


async def test_who_is_removed_while_signing_in_gets_no_session(tmp_path: Path) -> None:
    """The password was right when it was compared."""
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    stage.recorded = lambda: stage.sign_in.follow({"bob": BOB})
    async with stage.browser() as browser:
        answer = await sign_in(browser)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def operators_in(place: Site, port: int, lines: str) -> None:
    """Write the configuration with these operators."""
    place.write()
    admin = f'[admin]\nlisten = "127.0.0.1:{port}"\n'
    place.config.write_text(place.config.read_text().replace('[admin]\nlisten = ""\n', f"{admin}{lines}\n"))


async def test_a_reload_ends_the_sessions_of_removed_operators(tmp_path: Path) -> None:
    """Over SIGHUP, without a restart, and /api/status is closed with the first operator."""
    port = lasting_port()
    async with site(tmp_path) as place:
        operators_in(place, port, "")
        async with serving(place), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
            await place.ready()
            open_status = await browser.get("/api/status")
            operators_in(place, port, f'operators = {{ alice = "{OPERATORS["alice"]}" }}')
            await reloaded(place)
            closed_status = await browser.get("/api/status")
            entered = await sign_in(browser)
            seen = await browser.get("/console/requests")
            operators_in(place, port, f'operators = {{ bob = "{BOB.reveal()}" }}')
            await reloaded(place)
            after = await browser.get("/console/requests")
            again = await browser.post("/console/sign-in", data={"name": "alice", "password": PASSWORD})

    assert [one.status_code for one in (open_status, closed_status)] == [200, 404]
    assert [one.status_code for one in (entered, seen, after, again)] == [303, 200, 303, 403]


async def reloaded(place: Site) -> None:
    """Send SIGHUP and return once what it reads is in force."""
    assert place.process is not None
    place.log.clear()
    place.process.send_signal(signal.SIGHUP)
    line = await place.logged("is in force")
    assert "changed only by a restart" not in line
