import html
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.console.configuration_page import MOST_ROWS, differs
from proxy.keeper.console_configuration import KEPT_SECONDS
from proxy.settings.findings import Key
from proxy.settings.tree import leaves
from tests.console.support import CONFIGURATION, OPERATORS, Stage, own, sign_in
from tests.support.clock import ManualClock

PATH = "/console/configuration"
JSON = f"{PATH}.json"
CANARY = "canary-4711"
SECRETS = {
    "PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": CANARY,
    "PAYPROXY_CREDENTIALS__LOGIN__AUTH_METHOD": "client_secret_post",
    "PAYPROXY_REQUEST_LOG__DATABASE": f"postgresql://log:{CANARY}@db.example/payproxy",
    "PAYPROXY_CREDENTIALS__ADFS__EXTRA_PARAMETERS": json.dumps({"password": CANARY}),
    "PAYPROXY_SERVER__WORKERS": "3",
}


@pytest.fixture(name="stage")
async def fixture_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A console whose configuration has secrets in the environment."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return Stage(directory=tmp_path, environ=SECRETS)


async def shown(stage: Stage, **query: str) -> tuple[str, Any]:
    """Return the page and its JSON."""
    async with stage.browser() as browser:
        page, twin = await browser.get(PATH, params=query), await browser.get(JSON, params=query)
    assert (page.status_code, twin.status_code) == (200, 200)
    return page.text, twin.json()


def printed(stage: Stage, *arguments: str) -> Any:
    """Return the JSON that a command prints for the same file."""
    done = CliRunner().invoke(payproxy, [*arguments, "--config", str(stage.config_file), "--json"])
    return json.loads(done.stdout)


async def test_the_page_shows_what_config_show_and_check_print(stage: Stage) -> None:
    """File, values, sources and findings are the same."""
    page, twin = await shown(stage)

    assert {name: twin[name] for name in ("file", "settings", "sources")} == printed(
        stage, "config", "show", "--sources"
    )
    assert twin["findings"] == printed(stage, "check")
    assert twin["findings"]
    for finding in twin["findings"]:
        assert finding["severity"] in page
        where = f"{finding['file']}:{finding['line']}" if finding["line"] else finding["file"]
        assert f">{where}<" in page
    assert "environment variable PAYPROXY_SERVER__WORKERS" in page
    assert twin["not_in_force"] == {}


async def test_no_secret_is_shown(stage: Stage) -> None:
    """Neither of the environment, nor in a URL or a form field; that there is one is."""
    page, twin = await shown(stage)

    assert CANARY not in page + json.dumps(twin)
    assert twin["settings"]["credentials"]["login"]["client_secret"] == "***"
    assert twin["settings"]["credentials"]["adfs"]["extra_parameters"] == {"password": "***"}
    assert re.search(r"credentials\.login\.client_secret</td><td[^>]*>\*\*\*<", page)


async def test_what_differs_from_the_default(stage: Stage) -> None:
    """What was given; not presets, nor what was given as the default is."""
    stage.config_file.write_text(stage.config_file.read_text() + "[server]\nmax_requests = 1024\n")
    page, twin = await shown(stage, show="changed")

    assert twin["changed"]["server.workers"] == 3
    assert twin["changed"]["routes.1.replay_body_bytes"] == 1000
    assert not {"server.max_requests", "server.listen", "credentials.adfs.auth_method"} & twin["changed"].keys()
    assert "server.workers" in page
    assert "server.max_requests" not in page
    assert f'href="{JSON}?show=changed"' in page


async def test_no_default_differs_from_itself(tmp_path: Path) -> None:
    """Of each kind of value that there is."""
    view = Stage(directory=tmp_path).in_force.view()
    values = list(leaves(dict(view.settings)))
    every = {".".join(map(str, key)) for key, _ in values}

    def differing(source: str) -> list[Key]:
        told = replace(view, sources=dict.fromkeys(every, source))
        return [key for key, value in values if differs(told, key, value)]

    assert len(values) > 100
    assert differing("default") == []
    given = differing("payproxy.toml:1")
    assert ("environment",) in given
    assert ("server", "listen") not in given
    assert len(given) < len(values) / 2


async def test_what_the_file_says_and_is_not_in_force(stage: Stage) -> None:
    """Changed, added and removed values, masked too."""
    text = stage.config_file.read_text().replace("replay_body_bytes = 1000", "replay_body_bytes = 2000")
    stage.config_file.write_text(text + '[callers.shop]\nnetworks = ["10.40.0.0/16"]\n')
    page, twin = await shown(stage)

    assert twin["not_in_force"]["routes.1.replay_body_bytes"] == 2000
    assert twin["not_in_force"]["callers.shop.networks"] == ["10.40.0.0/16"]
    assert twin["settings"]["routes"][1]["replay_body_bytes"] == 1000
    assert f"{len(twin['not_in_force'])} values of the file are not in force." in page
    assert re.search(r"callers\.shop\.networks</td><td[^>]*>not set<", page)


async def test_a_broken_file_is_said_with_what_where_and_how(stage: Stage) -> None:
    """The values in force stay; what is wrong is a finding."""
    stage.config_file.write_text(stage.config_file.read_text() + '[server]\nlistne = "<script>alert(1)</script>"\n')
    page, twin = await shown(stage)

    [finding] = [one for one in twin["findings"] if "listne" in one["key"]]
    assert (finding["severity"], finding["line"] > 0) == ("error", True)
    assert finding["what"] in html.unescape(page)
    assert finding["fix"] in html.unescape(page)
    assert "<script" not in own(page)
    assert twin["settings"]["server"]["workers"] == 3


async def test_a_missing_file_is_said(stage: Stage) -> None:
    """As `check` does."""
    stage.config_file.unlink()
    page, _ = await shown(stage)

    assert "there is no configuration file" in page or "can&#39;t be read" in page


async def test_two_thousand_callers_are_bounded(tmp_path: Path) -> None:
    """The page says how many values it leaves out, the JSON has all."""
    callers = "".join(
        f'[callers.c{number}]\nnetworks = ["10.0.{number >> 8}.{number & 255}/32"]\n' for number in range(2000)
    )
    page, twin = await shown(Stage(directory=tmp_path, configuration=CONFIGURATION + callers))

    assert page.count("<tr") < MOST_ROWS + 50
    assert re.search(r"\d{4,} more values are not shown: the JSON of this page has all\.", page)
    assert len(twin["settings"]["callers"]) == 2002


async def test_the_file_is_read_again_after_a_change_or_some_seconds(tmp_path: Path) -> None:
    """And not for each page that somebody opens again and again."""
    clock = ManualClock()
    stage = Stage(directory=tmp_path, clock=clock)
    first = stage.in_force.view()
    again = stage.in_force.view()
    os.utime(stage.config_file, ns=(1, 1))
    changed = stage.in_force.view()
    await clock.advance(KEPT_SECONDS)
    later = stage.in_force.view()

    assert again is first
    assert changed is not first
    assert later is not changed
    assert later == first


@pytest.mark.parametrize("path", [PATH, JSON])
async def test_who_may_look_may_see_the_configuration(tmp_path: Path, path: str) -> None:
    """Viewers too, as it has no secret and changes nothing; nobody who has not signed in."""
    async with Stage(directory=tmp_path, operators=OPERATORS).browser() as browser:
        before = await browser.get(path)
        await sign_in(browser, view="1")
        viewer = await browser.get(path)
        changed = await browser.post(path)

    assert before.status_code in {303, 403}
    assert "10.20.0.0" not in before.text
    assert viewer.status_code == 200
    assert "10.20.0.0/16" in viewer.text
    assert changed.status_code == 405
