"""The console of a running instance: what its keeper hands in, and what no page may show."""

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

from proxy.console.frame import NAVIGATION
from tests.cli.serving import command
from tests.console.test_overview_of_a_bad_day import SOON, Day, a_day

CARD = "4111111111111111"
PAGES = [path for path, _ in NAVIGATION]


async def printed(day: Day, *arguments: str) -> Any:
    """Return the JSON that a command prints for the instance's configuration."""
    return json.loads((await command(*arguments, "--config", day.place.config, "--json")).stdout)


async def twin(day: Day, path: str, **query: str) -> Any:
    """Return the JSON of the page at *path*."""
    return (await day.admin.get(f"{path}.json", params=query)).json()


async def test_the_pages_show_what_the_commands_print(tmp_path: Path) -> None:
    """Of the running instance; what the file says after a change comes into force by a reload."""
    async with a_day(tmp_path) as day:
        asked = {"method": "POST", "target": "/payment/v2/payments?x=1", "headers": "Idempotency-Key: a"}
        explained = (await twin(day, "/console/routes", **asked))["explained"]
        expected = await printed(day, "explain", "POST", asked["target"], "-H", asked["headers"])
        configuration = await twin(day, "/console/configuration")
        shown = await printed(day, "config", "show", "--sources")
        findings = await printed(day, "check")
        text = day.place.config.read_text()
        day.place.config.write_text(text.replace('path = "/payment"', 'path = "/payments"'))
        waiting = (await twin(day, "/console/configuration"))["not_in_force"]
        before = (await twin(day, "/console/routes"))["routes"][0]["path"]
        assert day.place.process is not None
        day.place.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(SOON):
            while (await twin(day, "/console/routes"))["routes"][0]["path"] == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        after = await twin(day, "/console/configuration")

    assert explained == expected
    assert explained["route"] == "payments"
    assert {name: configuration[name] for name in shown} == shown
    assert configuration["findings"] == findings
    assert waiting == {"routes.0.path": "/payments"}
    assert after["not_in_force"] == {}
    assert after["settings"]["routes"][0]["path"] == "/payments"


async def test_no_page_shows_a_token_or_a_card_number(tmp_path: Path) -> None:
    """Neither HTML nor JSON, whatever callers send and wherever they put it; nor is their markup more than text."""
    probe = "<script>alert(1)</script>"
    async with a_day(tmp_path) as day:
        for number in range(3):
            await day.pay(number)
        await command("trigger", "reset", "--at", day.place.bank.url, "--times", "1")
        headers = {"Idempotency-Key": f"{CARD}{probe}", "merchantId": CARD, "Authorization": f"Bearer eyJ{'x' * 40}"}
        await day.caller.post(f"/payment/v2/payments/{CARD}?card={CARD}", headers=headers)
        await day.caller.get(f"/payment/%3Cscript%3E{CARD}")
        await day.until(lambda text: "Requests 5 " in text)
        records: list[dict[str, Any]] = []
        async with asyncio.timeout(SOON):  # the counters and the log come on different ways
            while len([one for one in records if one["kind"] == "exchange"]) < 5:
                records = (await twin(day, "/console/requests"))["records"]
        paths = [*PAGES, *(f"/console/requests/{one['id']}" for one in records)]
        texts = {path: (await day.admin.get(path)).text for path in paths}
        for path in paths:
            name = "/console/overview" if path == "/console/" else path
            texts[f"{name}.json"] = (await day.admin.get(f"{name}.json")).text

    for path, text in texts.items():
        assert CARD not in text, path
        assert "eyJ" not in text, path
        assert re.search("<script>alert", text) is None or path.endswith(".json"), path
