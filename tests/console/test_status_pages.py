import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.console.answers import POLICY
from proxy.telemetry.status import CertificateStatus, MigrationStatus, SinkStatus
from tests.console.support import Stage, own
from tests.keeper.support import get
from tests.telemetry.support import caller_status, error_status, no_token, status, token

NOW = 1_800_000_000.0
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00"
PAGES = [
    *("/console/", "/console/tokens", "/console/certificates", "/console/callers", "/console/errors", "/console/sinks"),
    *("/console/migrations", "/console/requests", "/console/requests/tail", "/console/history", "/console/routes"),
    "/console/configuration",
]
TWINS = ["/console/overview.json", *(f"{path}.json" for path in PAGES[1:])]


def migration(**changes: object) -> MigrationStatus:
    """Return a migration at weight 40, with *changes*."""
    values: dict[str, object] = {
        "name": "payments", "weight": 40, "version": 3, "who": "anna", "when": NOW, "reason": "week two",
        "phase": "ramp", "last_good": 20,
    }  # fmt: skip
    return MigrationStatus(**(values | changes))  # type: ignore[arg-type]  # mypy does not follow the values


@pytest.mark.parametrize("path", PAGES)
async def test_each_page_has_the_policy_and_no_script_or_style_of_its_own(tmp_path: Path, path: str) -> None:
    """CSP without exceptions: nothing inline, nothing from elsewhere, no frame."""
    async with Stage(directory=tmp_path).browser() as browser:
        page = await browser.get(path)

    assert page.status_code == 200
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "same-origin"
    assert re.search(r"<script|<style|style=|\son\w+=|(?:href|src|action)=.?https?:", own(page.text)) is None


@pytest.mark.parametrize("path", TWINS)
async def test_each_page_has_its_json(tmp_path: Path, path: str) -> None:
    """The page names it, and it parses."""
    html = "/console/" if path == TWINS[0] else path.removesuffix(".json")
    async with Stage(directory=tmp_path).browser() as browser:
        assert f'href="{path}' in (await browser.get(html)).text
        twin = await browser.get(path)

    assert twin.status_code == 200
    assert isinstance(twin.json(), dict)


async def test_the_overviews_json_is_the_status(tmp_path: Path) -> None:
    """Console and commands show the same; what the log has to be read for is more."""
    async with Stage(directory=tmp_path).browser() as browser:
        twin, served = await browser.get("/console/overview.json"), await browser.get("/api/status")

    assert {name: value for name, value in twin.json().items() if name != "unresolved"} == served.json()


@pytest.mark.parametrize(
    ("changes", "lead", "reason"),
    [
        ({}, "Ready: requests are served.", ""),
        ({"draining": True}, "Not ready", "draining failed: the instance is stopping"),
        (
            {"tokens": (no_token(error_code="token_refused", error="invalid_client"),)},
            "Ready, degraded",
            "no usable token: token_refused, the client is not known",
        ),
    ],
)
async def test_the_overview_says_whether_it_is_well_and_why_not(
    tmp_path: Path, changes: dict[str, object], lead: str, reason: str
) -> None:
    """In the first line, with each check that is not ok."""
    stage = Stage(directory=tmp_path, status=status(**changes))
    async with stage.browser() as browser:
        page = (await browser.get("/console/")).text

    assert f">{lead}" in page
    assert reason in page


async def test_the_numbers_of_the_overview_are_the_sums_of_all_callers(tmp_path: Path) -> None:
    """Also of those that its table has no place for."""
    callers = tuple(caller_status(f"c{number}", requests=10, fine=7, failed=2, sent_unknown=1) for number in range(9))
    async with Stage(directory=tmp_path, status=status(callers=callers, time=NOW)).browser() as browser:
        page = (await browser.get("/console/")).text

    shown = dict(re.findall(r"<dt>([^<]*)</dt><dd>(?:<span[^>]*>)?(\w+)", page))
    assert (shown["Requests"], shown["Fine"], shown["Failed"]) == ("90", "63", "18")
    assert shown["Unknown whether the bank has it"] == "9"
    assert "4 more are on the page Callers." in page


@pytest.mark.parametrize(
    ("uptime", "words"), [(215.0, "since the start, 3 min 35 s ago"), (3600.0, "within the last 1 h")]
)
async def test_counts_since_the_start_are_called_so(tmp_path: Path, uptime: float, words: str) -> None:
    """They stand beside the history, which outlives a restart."""
    given = status(callers=(caller_status("erp"),), errors=(error_status(),), time=NOW, uptime=uptime)
    async with Stage(directory=tmp_path, status=given).browser() as browser:
        page, callers = (await browser.get("/console/")).text, (await browser.get("/console/callers")).text
        errors = (await browser.get("/console/errors")).text

    assert [f"{what} {words}" in page for what in ("Requests", "Latest errors", "Busiest callers")] == [True] * 3
    assert f"1 callers asked {words}." in callers
    assert f"of 1 kinds {words}." in errors


async def test_an_error_has_its_meaning_next_step_and_request(tmp_path: Path) -> None:
    """From the overview it is one step to what happened."""
    error = error_status(last=NOW)
    async with Stage(directory=tmp_path, status=status(errors=(error,), time=NOW)).browser() as browser:
        page = (await browser.get("/console/")).text

    assert "upstream_timeout" in page
    assert "Ask the bank" in page
    assert f'href="/console/requests/{error.id}"' in page


async def test_certificates_by_expiry(tmp_path: Path) -> None:
    """The next to expire first, the expired ones named."""
    days = {"old": -1, "late": 300, "soon": 5}
    found = tuple(
        CertificateStatus(name=name, use="credential", subject=f"CN={name}", expires=NOW + left * 86400)
        for name, left in days.items()
    )
    async with Stage(directory=tmp_path, status=status(certificates=found, time=NOW)).browser() as browser:
        page = (await browser.get("/console/certificates")).text

    assert re.findall(r'data-label="name"[^>]*>(\w+)<', page) == ["old", "soon", "late"]
    assert "1 expired, 1 expire soon, 3 in all." in page
    assert re.findall(r'data-label="left"[^>]*>(?:<[^>]+>)*([^<]+)<', page) == ["EXPIRED", "5 days", "300 days"]


async def test_markup_in_names_and_causes_stays_text(tmp_path: Path) -> None:
    """Of callers, peers, certificates, operators and files; control characters are replaced."""
    stage = Stage(
        directory=tmp_path,
        status=status(
            instance=MARKUP,
            time=NOW,
            tokens=(token(error_code="token_refused", error=MARKUP, audience=MARKUP),),
            certificates=(CertificateStatus(name=MARKUP, use=MARKUP, subject=MARKUP, expires=NOW),),
            callers=(caller_status(MARKUP, requests=1),),
            errors=(error_status(route=MARKUP, caller=MARKUP, cause=MARKUP, id=MARKUP),),
            sinks=(SinkStatus(name=MARKUP, backlog=1, dropped=1, failing=MARKUP),),
            migrations=(migration(name=MARKUP, who=MARKUP, reason=MARKUP, guard_pinned=(MARKUP,)),),
            migration_problem=MARKUP,
        ),
    )
    async with stage.browser() as browser:
        for path in PAGES:
            page = own((await browser.get(path)).text)
            assert "&lt;script&gt;" in page, path
            assert re.search(r"<script|<img|\x00", page) is None, path


async def test_the_console_is_not_on_the_unix_socket(tmp_path: Path) -> None:
    """There the Host is not checked, so a forwarded socket could be reached by a page under another name."""
    async with Stage(directory=tmp_path).server() as server:
        assert (await get(server.addresses[0], "/console/")).status == 200
        assert (await get(server.socket_path, "/console/")).status == 404
        assert (await get(server.addresses[0], "/console/", "Host: evil.example")).status == 421
        listed = [b"/console/" in (await get(at, "/")).body for at in (server.addresses[0], server.socket_path)]

    assert listed == [True, False]


def test_an_instance_whose_console_nobody_opens_has_no_jinja2_in_memory() -> None:
    """It comes with the first page, in the thread that renders it."""
    code = "import sys, proxy.keeper.console; print('jinja2' in sys.modules, 'proxy.console.app' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert found.stdout.split() == ["False", "True"]


async def test_the_overview_of_many_tokens_shows_those_that_need_attention(tmp_path: Path) -> None:
    """All are on their page: with hundreds of rows the overview would be slow, and hide what is below."""
    fine = [token(credential=f"fine-{number}") for number in range(300)]
    bad = no_token(credential="bad", error_code="token_refused", error="invalid_client")
    stage = Stage(directory=tmp_path, status=status(tokens=(*fine, bad)))
    async with stage.browser() as browser:
        overview = (await browser.get("/console/")).text
        page = (await browser.get("/console/tokens")).text

    assert overview.index("invalid_client") < overview.index("fine-")
    assert overview.count("fine-") == 9
    assert "291 more are on the page Tokens." in overview
    assert page.count("fine-") == 300


def test_the_first_overview_takes_little() -> None:
    """100 ms with import and compilation of templates, which in all later ones are done; processor time."""
    code = """if True:
        import time, proxy.keeper.main
        from proxy.console.frame import frame_of, render
        from proxy.console.overview import overview
        from tests.telemetry.support import status
        begun = time.process_time()
        page = overview(status(), ())
        text = render(page.template, frame=frame_of(status(), None), title=page.title, path=page.path, content=page)
        print(time.process_time() - begun, len(text))
    """
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, length = found.stdout.split()

    assert int(length) > 1000
    assert float(seconds) < 0.1


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_answers_head(tmp_path: Path, path: str) -> None:
    """RFC 9110 9.3.2: the same without content; a monitor asks so."""
    async with Stage(directory=tmp_path).browser() as browser:
        head = await browser.head(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/html")


async def test_without_its_slash_the_overview_is_found(tmp_path: Path) -> None:
    """As people type it."""
    async with Stage(directory=tmp_path).browser() as browser:
        found = await browser.get("/console", follow_redirects=False)

    assert (found.status_code, found.headers["location"]) == (303, "/console/")
