import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.clock import SystemClock
from proxy.console.caller_sides import MOST_TILES, PARTLY, caller_sides
from proxy.console.migrations_page import guard_in_words, p95
from proxy.migration.side import Policy, Side, choose_side
from tests.cli.migration_log import changed, sent
from tests.console.support import CONFIGURATION, Stage, own
from tests.console.test_request_pages import write
from tests.console.test_status_pages import MARKUP, migration
from tests.telemetry.support import status, token

PATH = "/console/migrations"
JSON = f"{PATH}.json"
CALLERS = [f"system-{number}" for number in range(200)]


def policy(sticky: str = "caller", **pinned: Side) -> Policy:
    """Return a policy of the migration "payments"."""
    return Policy(name="payments", sticky=sticky, methods=frozenset({"GET"}), pinned=pinned, fallback=True)


async def shown(stage: Stage) -> tuple[str, Any]:
    """Return the page and its JSON."""
    async with stage.browser() as browser:
        page, twin = await browser.get(PATH), await browser.get(JSON)
    assert (page.status_code, twin.status_code) == (200, 200)
    return page.text, twin.json()


def opened(directory: Path, *, configuration: str = CONFIGURATION, **changes: object) -> Stage:
    """Return a console with one migration, at the time of this machine."""
    clock = SystemClock()
    one = migration(**({"when": clock.now() - 60} | changes))
    return Stage(
        directory=directory,
        configuration=configuration,
        status=status(migrations=(one,), time=clock.now()),
        clock=clock,
    )


async def test_the_ramp_is_that_of_the_log(tmp_path: Path) -> None:
    """Line, sentence and table: each change with who and why, and the weight now."""
    await write(
        tmp_path,
        changed(10, before=0, reason="begin"),
        changed(50, before=10, reason="goes well"),
        changed(40, before=50, reason="3 of 9 failed", who="guard", what="rollback"),
    )
    page, twin = await shown(opened(tmp_path))

    [one] = twin["migrations"]
    assert [(each["who"], each["reason"]) for each in one["report"]["changes"]] == [
        ("anna", "begin"),
        ("anna", "goes well"),
        ("guard", "3 of 9 failed"),
    ]
    words = r"<p>From 0 % on [^<]* to 40 % now, in 3 changes; the last by guard on [^<]*: 3 of 9 failed</p>"
    assert re.search(words, page)
    [line, highest] = re.findall(r'<polyline [^>]*points="([^"]*)"', page)
    assert [float(point.split(",")[1]) for point in line.split()] == [120, 108, 108, 60, 60, 72, 72, 72]
    assert [float(point.split(",")[1]) for point in highest.split()] == [120, 108, 108, 60, 60, 60, 60, 60]
    assert re.findall(r'data-label="to"[^>]*>(\d+)<', page) == ["40", "50", "10"]
    assert re.findall(r'data-label="why"[^>]*>([^<]+)<', page) == ["3 of 9 failed", "goes well", "begin"]


async def test_both_sides_are_those_of_the_report(tmp_path: Path) -> None:
    """Failure ratio as `payproxy migration report` says, p95 of the newest answers."""
    slow = [one.replace(b'"duration_ms":12.500', b'"duration_ms":900.000') for one in sent("erp", "modern", 2, days=0)]
    assert all(b"900.0" in one for one in slow)
    await write(
        tmp_path, *sent("crm", "legacy", 3, days=2), *sent("erp", "modern", 17, days=1), *slow,
        *sent("erp", "modern", 1, days=0, status=503),
    )  # fmt: skip
    stage = opened(tmp_path)
    page, twin = await shown(stage)

    [one] = twin["migrations"]
    arguments = ["migration", "report", "payments", "--json", "--config", str(stage.config_file)]
    done = await asyncio.to_thread(CliRunner().invoke, payproxy, arguments)
    assert one["report"] == json.loads(done.stdout)
    assert one["report"]["modern"]["failure_ratio"] == 0.05
    assert one["p95_ms"] == {"legacy": 12.5, "modern": 900.0}
    assert "1 (5.00%)" in page
    assert "900 ms of 20 answers" in page
    assert "12.5 ms of 3 answers" in page


async def test_each_caller_has_a_tile_of_its_side(tmp_path: Path) -> None:
    """By text, pattern and colour; also those that only the log or the guard knows."""
    await write(tmp_path, *sent("old-system", "legacy", 1, days=3))
    stage = opened(tmp_path, guard_pinned=("held-system",), weight=100)
    page, twin = await shown(stage)

    assert {one["caller"]: (one["side"], one["why"]) for one in twin["migrations"][0]["callers"]} == {
        "erp": ("modern", "weight 100"),
        "crm": ("modern", "the caller is pinned to modern"),
        "old-system": ("modern", "weight 100"),
        "held-system": ("legacy", "the guard holds this caller on legacy"),
    }
    assert "4 callers: 3 modern, 1 legacy." in page
    found = re.findall(r'<li class="tile (\w+)" title="[^"]*">([\w-]+) <span>(\w+)</span>', page)
    assert sorted((name, side, text) for side, name, text in found) == [
        ("crm", "modern", "modern"),
        ("erp", "modern", "modern"),
        ("held-system", "legacy", "legacy"),
        ("old-system", "modern", "modern"),
    ]


def test_a_tile_changes_its_side_as_the_weight_rises() -> None:
    """In the order of the tiles, never back, and as the data path decides."""
    before: set[str] = set()
    for weight in range(0, 101, 5):
        sides = caller_sides(policy(), migration(weight=weight), CALLERS)
        modern = {one.caller for one in sides if one.side == "modern"}
        assert modern >= before
        assert [one.side for one in sides] == ["modern"] * len(modern) + ["legacy"] * (len(CALLERS) - len(modern))
        for one in sides:
            choice = choose_side(
                policy(), weight=weight, caller=one.caller, method="POST", header=None, request_id="x",
                guard_pinned=False, retry=None,
            )  # fmt: skip
            assert (one.side, one.why) == (choice.side.value, choice.why)
        before = modern
    assert len(before) == len(CALLERS)


@pytest.mark.parametrize("sticky", ["request", "header:X-System"])
def test_what_is_spread_finer_than_by_caller_is_partly_on_each_side(sticky: str) -> None:
    """Unless the caller is pinned or held, or all are on one side."""
    found = {
        weight: {one.caller: one.side for one in caller_sides(policy(sticky, b=Side.MODERN), status, ["a", "b", "c"])}
        for weight in (0, 40, 100)
        for status in [migration(weight=weight, guard_pinned=("c",))]
    }

    assert found[0] == {"a": "legacy", "b": "modern", "c": "legacy"}
    assert found[40] == {"a": PARTLY, "b": "modern", "c": "legacy"}
    assert found[100] == {"a": "modern", "b": "modern", "c": "legacy"}


async def test_of_two_thousand_callers_the_page_says_how_many_it_does_not_show(tmp_path: Path) -> None:
    """The JSON has all, and the counts are of all."""
    callers = "".join(
        f'[callers.c{number}]\nnetworks = ["10.0.{number >> 8}.{number & 255}/32"]\n' for number in range(2000)
    )
    page, twin = await shown(opened(tmp_path, configuration=CONFIGURATION + callers))

    assert len(re.findall('<li class="tile ', page)) == MOST_TILES
    assert f"{2002 - MOST_TILES} more are not shown" in page
    assert len(twin["migrations"][0]["callers"]) == 2002
    assert re.search(r"2002 callers: \d+ modern, \d+ legacy\.", page)


async def test_the_page_says_guard_pins_and_tokens(tmp_path: Path) -> None:
    """In words, with the limits of the configuration."""
    table = "[migrations.payments]\n"
    stage = opened(
        tmp_path,
        configuration=CONFIGURATION.replace(table, f"{table}max_failure_ratio = 0.125\n"),
        last_good=20,
        retry_pins=3,
        retry_pins_in_words="3 on modern, the last until noon",
        modern_tokens=(token(),),
    )
    page, twin = await shown(stage)

    assert "Rolls back to 20 % if, of the last 50 requests on modern, at least 3 and more than 12.5 % fail" in page
    assert twin["migrations"][0]["guard"] == guard_in_words(
        stage.status.migrations[0], {"max_failure_ratio": 0.125, "max_client_error_ratio": 0.05}
    )
    assert "3 on modern, the last until noon" in page
    assert "jpm:uri:prod:payments: fresh" in page
    assert "not at hand: a rollback would find none" in page


async def test_without_a_log_the_page_still_shows_the_state(tmp_path: Path) -> None:
    """And says what is missing; the actions stay where they are."""
    stage = opened(tmp_path)
    stage.archive = lambda: None
    stage.__post_init__()
    page, twin = await shown(stage)

    assert "The request log can&#39;t be read: request_log.database is turned off" in page
    assert twin["migrations"][0]["report"] is None
    assert '<li class="tile ' in page
    assert "read-only" in page


async def test_the_log_is_read_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many operations the newest, seldom again; the page says that there are older changes."""
    monkeypatch.setattr("proxy.console.migration_course.MOST_OPERATIONS", 2)
    monkeypatch.setattr("proxy.console.migration_course._AT_ONCE", 1)
    await write(tmp_path, *(changed(number + 1, before=number, reason="more") for number in range(6)))
    page, twin = await shown(opened(tmp_path))

    assert len(twin["migrations"][0]["report"]["changes"]) == 2
    assert "(older changes are not shown)" in page
    assert 'data-seconds="15"' in page


async def test_markup_of_callers_and_reasons_stays_text(tmp_path: Path) -> None:
    """In tiles, tables, sentences and the plot's label."""
    await write(
        tmp_path,
        *sent(MARKUP, "modern", 1, days=0),
        changed(10, before=0, reason=MARKUP, who=MARKUP),
    )
    page, _ = await shown(opened(tmp_path, guard_pinned=(MARKUP,), retry_pins_in_words=MARKUP))

    assert page.count("&lt;script&gt;") >= 5
    assert re.search(r"<script|<img|\x00", own(page)) is None


def test_p95_is_a_value_that_occurred() -> None:
    """By nearest rank; none without values."""
    assert p95([]) is None
    assert p95([7.0]) == 7.0
    assert p95(list(map(float, range(1, 101)))) == 95.0
