import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.clock import SystemClock
from proxy.errors import ProxyError
from proxy.keeper.admin_connections import LONGEST_LINE_BYTES
from proxy.migration.pin import RetryPin, retry_digest
from proxy.migration.side import Side
from proxy.routing.compile import head_limits
from proxy.routing.request_head import RequestHead
from proxy.routing.target import MAX_TARGET_BYTES
from proxy.settings.values import snapshot_of
from proxy.worker.request_head import HeadParser
from tests.console.support import Stage, own
from tests.console.test_status_pages import migration
from tests.keeper.support import get
from tests.support.clock import ManualClock
from tests.telemetry.support import status

PATH = "/console/routes"
JSON = f"{PATH}.json"


@pytest.fixture(name="stage")
async def fixture_stage(tmp_path: Path) -> Stage:
    """A console whose migration is at weight 40, with one retry pinned to modern."""
    stage = Stage(directory=tmp_path, status=status(migrations=(migration(),)), clock=SystemClock())
    migrations = await stage.migrating.open()
    await migrations.set("payments", 40, who="x", proof="unix socket", reason="y", force=True)
    until = stage.migrating.clock.now() + 3600
    assert await migrations.pins.keep({retry_digest("payments", "erp", "k1"): RetryPin(Side.MODERN, "bank", until)})
    return stage


async def asked(stage: Stage, **fields: str) -> Any:
    """Return the JSON of the page for these fields of the form."""
    async with stage.browser() as browser:
        return (await browser.get(JSON, params=fields)).json()


def printed(stage: Stage, *arguments: str) -> Any:
    """Return what `payproxy explain` prints as JSON for the same configuration and data directory."""
    done = CliRunner().invoke(payproxy, ["explain", *arguments, "--config", str(stage.config_file), "--json"])
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"target": "/payment/v2?x=1"}, ["GET", "/payment/v2?x=1"]),
        ({"method": "post", "target": "/payment", "caller": "erp"}, ["POST", "/payment", "--caller", "erp"]),
        ({"target": "/payment", "caller": "crm"}, ["GET", "/payment", "--caller", "crm"]),
        (
            {"method": "POST", "target": "/payment", "caller": "erp", "headers": "Idempotency-Key: k1"},
            ["POST", "/payment", "--caller", "erp", "-H", "Idempotency-Key=k1"],
        ),
        ({"target": "/closed/x", "caller": "erp"}, ["GET", "/closed/x", "--caller", "erp"]),
        ({"method": "PUT", "target": "/closed/x"}, ["PUT", "/closed/x"]),
        ({"target": "/closed"}, ["GET", "/closed"]),
        ({"target": "/nowhere"}, ["GET", "/nowhere"]),
        ({"target": "/payment/%2e%2e/x"}, ["GET", "/payment/%2e%2e/x"]),
        ({"target": "/payment", "host": "evil example"}, ["GET", "/payment", "-H", "Host=evil example"]),
        ({"target": "/payment", "headers": "Origin: https://x"}, ["GET", "/payment", "-H", "Origin=https://x"]),
    ],
)
async def test_the_rule_tester_shows_what_explain_prints(
    stage: Stage, fields: dict[str, str], arguments: list[str]
) -> None:
    """The same JSON, also for a retry that is pinned, and for refusals."""
    found = (await asked(stage, **fields))["explained"]

    assert found == printed(stage, *arguments)
    assert found.get("route") or found["code"]


async def test_a_retry_goes_by_its_pin(stage: Stage) -> None:
    """The keeper looks up the one pin that matters."""
    answer = (await asked(stage, method="POST", target="/payment", caller="erp", headers="idempotency-key: k1"))[
        "explained"
    ]

    assert (answer["side"], answer["why"]) == ("modern", "an earlier try with this key went to modern")


async def test_it_says_why_each_other_rule_does_not_take_it(stage: Stage) -> None:
    """By segment, by method, by a rule before it."""
    whys = {
        target: {
            one["route"]: one["why"] for one in (await asked(stage, **fields, target=target))["explained"]["rules"]
        }
        for target, fields in {
            "/closed/x": {"method": "POST"},
            "/closed": {},
            "/closed/": {},
            "/payment/a": {},
            "/%3cb%3e/x": {},
        }.items()
    }

    assert whys["/closed/x"]["closed"] == "the path fits, but the method is not one of GET"
    assert whys["/closed/x"]["payments"] == "segment 1 of the path is closed, where the rule has payment"
    assert whys["/closed"]["closed"] == "the path ends before segment 2, where the rule has *"
    assert whys["/closed/"]["closed"] == "segment 2 of the path is empty, and * stands for one that is not"
    assert whys["/payment/a"]["payments"] == "the first rule whose path and method fit"
    assert whys["/%3cb%3e/x"]["closed"] == "segment 1 of the path is %3cb%3e, where the rule has closed"


HOSTILE = [
    "/payment/\x01x", "/payment/\x7f", "/payment/\r\nX: y", "/payment//x", "/payment/%2e%2e/x", "/payment/%2E/", "//x",
    "/payment/../x", "/payment/é", "/payment/\N{SNOWMAN}", "/payment/%ff", "/payment/%00", "/payment/ x",
    "/payment?a b",
    "/payment/x%2fy", "/payment;x=1/y", "payment", "*", "http://bank/payment", "http://[::1/payment",
    "https://x/payment", "/payment?" + "x" * MAX_TARGET_BYTES, "/payment/" + "%2e" * 5000,
    "/payment/<script>alert(1)</script>", "/payment/\\x",
]  # fmt: skip


@pytest.mark.parametrize("target", HOSTILE, ids=[ascii(one)[:30] for one in HOSTILE])
async def test_hostile_targets_are_answered_as_the_proxy_answers_them(stage: Stage, target: str) -> None:
    """With the code and status that a worker's parser and plan give for these bytes; in words, as text."""
    raw = HeadParser().parse(b"GET %b HTTP/1.0" % target.encode())
    limits = head_limits(snapshot_of(stage.settings, instance="x"))
    expected = None
    try:
        RequestHead.of(raw, limits)
    except ProxyError as error:
        expected = (error.code, error.status)
    async with stage.browser() as browser:
        page = await browser.get(PATH, params={"target": target})
        answer = (await browser.get(JSON, params={"target": target})).json()["explained"]

    assert page.status_code == 200
    assert "<script" not in own(page.text)
    assert expected is None or (answer["code"], answer["status"]) == expected
    if expected is not None:
        assert f"{answer['status']} {answer['code']}" in page.text


async def test_a_target_of_100_kilobytes_is_refused_in_words(stage: Stage) -> None:
    """As the proxy does, as long as the address can be read; beyond that by the listener itself."""
    async with stage.browser() as browser:
        long = await browser.get(f"{PATH}?target=/{'x' * (LONGEST_LINE_BYTES - 1000)}")
        address = browser.base_url.host, browser.base_url.port or 0
        longer = await get(address, f"{PATH}?target=/{'x' * 100_000}")
        after = await browser.get(PATH)

    assert "414 target_too_long" in long.text
    assert len(long.text) < 4 * MAX_TARGET_BYTES
    problem = json.loads(longer.body)
    assert (longer.status, problem["code"]) == (414, "target_too_long")
    assert str(LONGEST_LINE_BYTES) in problem["detail"]
    assert b"xxx" not in longer.body
    assert after.status_code == 200


async def test_the_longest_target_can_be_asked_about(stage: Stage) -> None:
    """Every byte of it escaped in the address."""
    target = "/payment?" + "{" * (MAX_TARGET_BYTES - len("/payment?"))
    async with stage.browser() as browser:
        answer = (await browser.get(f"{JSON}?caller=erp&target={quote(target, safe='')}")).json()["explained"]

    assert answer["route"] == "payments"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"caller": "nobody<script>"}, "Caller: there is no [callers] table"),
        ({"headers": "no colon"}, "Headers: write one in each line"),
        ({"headers": ": x"}, "Headers: write one in each line"),
    ],
)
async def test_what_makes_no_request_is_said(stage: Stage, fields: dict[str, str], problem: str) -> None:
    """400, with the field, and the form as it was filled."""
    async with stage.browser() as browser:
        page = await browser.get(PATH, params={"target": "/payment"} | fields)
        twin = await browser.get(JSON, params={"target": "/payment"} | fields)

    assert (page.status_code, twin.status_code) == (400, 400)
    assert problem in page.text
    assert problem in twin.json()["problem"]
    assert 'value="/payment"' in page.text
    assert "<script" not in own(page.text)


@pytest.mark.parametrize(
    "header", ["X-<script>: a", "X-A: <script>\x01", "X-\N{SNOWMAN}: a", "Host: <script>", "Host: a\nHost: b"]
)
async def test_hostile_headers_are_answered_in_words(stage: Stage, header: str) -> None:
    """400, as the proxy would, and shown as text."""
    async with stage.browser() as browser:
        page = (await browser.get(PATH, params={"target": "/payment", "headers": header})).text

    assert "400 bad_request" in page
    assert "<script" not in own(page)
    assert "\x01" not in page


CARD = "4111111111111111"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJlc2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("fields", "secret"),
    [
        ({"target": f"/payment/{CARD}"}, CARD),
        ({"target": f"/payment?card={CARD}", "method": "POST"}, CARD),
        ({"method": CARD}, CARD),
        ({"caller": CARD}, CARD),
        ({"host": f"{CARD}.example"}, CARD),
        ({"headers": f"X-A: {TOKEN}"}, TOKEN),
        ({"headers": f"X-B: 1\r\nAuthorization: Bearer {TOKEN}"}, TOKEN),
        ({"headers": "x-payproxy_key : the-key-of-erp"}, "the-key-of-erp"),
        ({"headers": "Authorization: Basic ZXJwOnRoZS1rZXk="}, "ZXJwOnRoZS1rZXk"),
    ],
)
async def test_what_no_page_must_have_is_refused(stage: Stage, fields: dict[str, str], secret: str) -> None:
    """400 in words, and the value is in neither page nor JSON, nor in an address that they lead to."""
    async with stage.browser() as browser:
        page = await browser.get(PATH, params={"target": "/payment"} | fields)
        twin = await browser.get(JSON, params={"target": "/payment"} | fields)

    assert (page.status_code, twin.status_code) == (400, 400)
    assert "not tested here" in twin.json()["problem"]
    assert twin.json()["explained"] is None
    assert secret not in page.text + twin.text


async def test_a_test_can_be_shared_and_leaves_nothing(stage: Stage) -> None:
    """All fields are in the address and in the form again; nothing is recorded or written."""
    fields = {
        "method": "POST",
        "target": "/payment?a=1&b=<i>",
        "caller": "erp",
        "host": "h",
        "headers": "X-A: 1\r\nB: 2",
    }
    before = {path: path.stat().st_mtime_ns for path in stage.directory.iterdir()}
    operations = len(stage.migrating.operations)
    async with stage.browser() as browser:
        page = (await browser.get(PATH, params=fields)).text

    assert f'href="{JSON}?{urlencode(fields).replace("%0D", "")}"'.replace("&", "&amp;") in page
    assert re.search(r"<option selected>POST</option>", page)
    assert 'value="/payment?a=1&amp;b=&lt;i&gt;"' in page
    assert "X-A: 1\nB: 2</textarea>" in page
    assert {path: path.stat().st_mtime_ns for path in stage.directory.iterdir()} == before
    assert (stage.operations, len(stage.migrating.operations)) == ([], operations)


async def test_the_table_has_every_rule_in_its_order(stage: Stage) -> None:
    """With what is not as by default, and the weight of a migration."""
    async with stage.browser() as browser:
        page, twin = (await browser.get(PATH)).text, (await browser.get(JSON)).json()

    first, second = twin["routes"]
    assert (first["name"], second["name"]) == ("payments", "closed")
    assert first["migration"]["weight"] == 40
    assert first["migration"]["modern"]["audience"] == "jpm:uri:prod:payments"
    assert first["limits"] == {}
    assert second["limits"] == {"replay_body_bytes": 1000, "remint_on": [{"status": 403, "body": "GCA-001"}]}
    assert (second["methods"], second["callers"]) == (["GET"], ["crm"])
    assert second["url"] == "https://api.payments.jpmorgan.com/base"
    assert "payments: 40 % on modern" in page
    assert "replay_body_bytes 1000, remint_on 403 GCA-001" in page
    assert twin["explained"] is None


async def test_a_thousand_rules_are_explained_in_bounded_work(tmp_path: Path) -> None:
    """The longest path is split once, and compared with no more of it than a rule has."""
    rules = "".join(
        f'[[routes]]\nname = "r{number}"\npath = "/a/{number}"\nupstream = "bank"\ncredential = "login"\n'
        for number in range(1000)
    )
    stage = Stage(directory=tmp_path, clock=ManualClock())
    stage.config_file.write_text(stage.config_file.read_text().replace("[migrations", f"{rules}[migrations"))
    loaded = stage.read()
    assert loaded.settings is not None
    stage.settings = loaded.settings
    answer = (await asked(stage, caller="erp", target="/a/" + "b/" * 8000))["explained"]

    assert answer["code"] == "no_route"
    assert len(answer["rules"]) == 1002
    assert max(len(one["why"]) for one in answer["rules"]) < 200
