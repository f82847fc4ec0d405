"""The overview as a new operator opens it while the simulated bank misbehaves, and its numbers once that is over."""

import asyncio
import contextlib
import html
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.clock import SystemClock
from proxy.worker.late_answers import LATE_SECONDS
from tests.cli.serving import Site, command, serving, site
from tests.support.ports import lasting_port

SOON = 90.0
# What the overview says of each fault that `payproxy trigger` makes, and of its cause.
WORDS = {
    "timeout": "no answer of the bank yet",
    "slow": "no answer of the bank yet",
    "reset": "upstream_reset",
    "revoked": "the bank refused a token of login",
    "night": "503 from the bank",
}
CAUSES = {
    "timeout": "the bank is slow, or does not answer",
    "slow": "the bank is slow, or does not answer",
    "reset": "The connection broke after the first byte was handed to it.",
    "revoked": "it was revoked, or the bank does not accept it for this API",
    "night": "The bank answered 503.",
}


@dataclass
class Day:
    """A running instance with its console, and callers that send payments as long as they are told to."""

    place: Site
    admin: httpx.AsyncClient
    caller: httpx.AsyncClient
    sent: list[int] = field(default_factory=list)

    async def overview(self) -> str:
        """Return the text of the overview."""
        page = (await self.admin.get("/console/")).text
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.partition("<main")[2])).split())

    async def until(self, holds: Callable[[str], bool]) -> str:
        """Return the text of the overview once *holds* of it."""
        text = ""
        try:
            async with asyncio.timeout(SOON):
                while not holds(text):
                    await asyncio.sleep(0.05)
                    text = await self.overview()
        except TimeoutError:
            raise AssertionError(f"the overview does not say it: {text}") from None
        return text

    async def pay(self, number: int) -> None:
        """Send a payment; note the status of the answer, 0 for none."""
        try:
            answer = await self.caller.post(
                "/payment/v2/payments", json={"amount": 1}, headers={"Idempotency-Key": f"key-{number}"}
            )
        except httpx.HTTPError:
            self.sent.append(0)
        else:
            self.sent.append(answer.status_code)

    @asynccontextmanager
    async def paying(self) -> AsyncIterator[None]:
        """Let a caller pay again and again, ten times a second at most, a hundred times at most."""

        async def pay_on() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(self.pay(number))
                    await asyncio.sleep(0.1)

        task = asyncio.create_task(pay_on())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def numbers(self) -> "Numbers":
        """Return what /metrics says."""
        text = (await self.admin.get("/metrics")).text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]

        def total(name: str, **labels: str) -> int:
            return round(
                sum(
                    one.value
                    for one in samples
                    if one.name == name and all(re.fullmatch(wanted, one.labels[key]) for key, wanted in labels.items())
                )
            )

        served = "http_server_request_duration_seconds_count"
        codes = {one.labels["code"] for one in samples if one.name == "payproxy_errors_total" and one.value}
        return Numbers(
            requests=total(served),
            fine=total(served, http_response_status_code="2.."),
            bad=total(served, http_response_status_code="[45].."),
            unknown=total("payproxy_exchanges_total", sent_upstream="unknown"),
            errors={code: total("payproxy_errors_total", code=code) for code in codes},
            token_expires=total("payproxy_token_expiry_timestamp_seconds"),
            backlog=total("payproxy_journal_backlog_records"),
        )

    async def logged(self, *filters: str) -> list[dict[str, Any]]:
        """Return the exchanges that `payproxy logs search` finds with *filters*."""
        arguments = ("logs", "search", "--kind", "exchange", "--limit", "1000", "--json", *filters)
        done = await command(*arguments, "--config", self.place.config)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What /metrics says of one instance; *bad* are answers of 400 and above, *token_expires* epoch seconds."""

    requests: int
    fine: int
    bad: int
    unknown: int
    errors: dict[str, int]
    token_expires: int
    backlog: int


# The overview's sums, and the member of a caller's status that they add up.
SUMS = {
    "Requests": "requests",
    "Fine": "fine",
    "Failed": "failed",
    "Held back by the proxy": "held_back",
    "Client errors": "client_errors",
    "Unknown whether the bank has it": "sent_unknown",
}
FILTERS: dict[str, tuple[str, ...]] = {
    "all": (),
    "2xx": ("--status", "2xx"),
    "4xx": ("--status", "4xx"),
    "5xx": ("--status", "5xx"),
    "unknown": ("--sent", "unknown"),
}


async def good_and_bad_requests(day: Day) -> None:
    """Send requests that end in each way: fine, refused by bank and proxy, replayed, broken, and no HTTP at all."""
    trigger = ("trigger", "--at", day.place.bank.url)
    for number in range(5):
        await day.pay(number)
    await command(*trigger, "revoked")
    await day.pay(10)
    for fault in ("reset", "night"):
        await command(*trigger, fault, "--path", "/payment", "--times", "2")
        for number in range(2):
            await day.pay(20 + number + len(fault))
    await command(*trigger, "off")
    for path in ("/nowhere", "/payment/%2e%2e/x", "/payment/v2/payments/no-such-payment"):
        day.sent.append((await day.caller.get(path)).status_code)
    reader, writer = await asyncio.open_connection("127.0.0.1", day.place.port)
    writer.write(b"GET  / HTTP/1.1\r\n\r\n")
    day.sent.append(int((await reader.readline()).split()[1]))
    writer.close()


@asynccontextmanager
async def a_day(folder: Path, *, upstream: str = "") -> AsyncIterator[Day]:
    """Run simulator, proxy and console."""
    admin = lasting_port()
    async with site(folder) as place:
        place.write(upstream=upstream)
        text = place.config.read_text()
        place.config.write_text(text.replace('[admin]\nlisten = ""', f'[admin]\nlisten = "127.0.0.1:{admin}"'))
        async with (
            serving(place),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{admin}", timeout=60, trust_env=False) as console,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{place.port}", timeout=120, trust_env=False) as caller,
        ):
            await place.ready()
            yield Day(place, console, caller)


@pytest.mark.parametrize(
    "fault", [pytest.param(one, marks=pytest.mark.thorough) if one in {"timeout", "reset"} else one for one in WORDS]
)
async def test_the_overview_names_the_fault_and_its_cause(
    tmp_path: Path, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """Also while no request has ended yet; the time until then is in the report of the tests (JUnit)."""
    clock = SystemClock()
    # So that the instance can stop soon: it waits for what is in flight.
    async with a_day(tmp_path, upstream="response_timeout = 6") as day:
        await day.pay(-1)
        before = await day.until(lambda text: "Requests 1 " in text)
        async with day.paying():
            begun = clock.monotonic()
            await command("trigger", fault, "--at", day.place.bank.url)
            text = await day.until(lambda text: WORDS[fault] in text and CAUSES[fault] in text)
            record_property("seconds", clock.monotonic() - begun)

    assert "Ready: requests are served." in before
    assert WORDS[fault] not in before
    assert "something needs attention" in text


async def test_once_traffic_has_stopped_all_numbers_agree(tmp_path: Path) -> None:
    """Those of the overview with /metrics and with `logs search`: by result, errors, tokens, what waits for sinks."""
    async with a_day(tmp_path) as day:
        await good_and_bad_requests(day)
        # Workers report once a second.
        async with asyncio.timeout(SOON):
            while True:
                counted = await day.numbers()
                if counted.requests >= len(day.sent):
                    break
                await asyncio.sleep(0.05)
        page = await day.until(lambda text: f"Requests {len(day.sent)} " in text and "0 records behind" in text)
        found = {name: await day.logged(*filters) for name, filters in FILTERS.items()}
        status = (await day.admin.get("/console/overview.json")).json()

    shown = {name: int(re.search(rf" {name} (\d+) ", page)[1]) for name in SUMS}  # type: ignore[index]
    callers = status["callers"]
    assert shown == {words: sum(one[name] for one in callers) for words, name in SUMS.items()}
    assert shown["Requests"] == counted.requests == len(found["all"]) == len(day.sent)
    assert f" {counted.requests} requests in the last hour" in page
    assert shown["Fine"] == counted.fine == len(found["2xx"])
    assert shown["Unknown whether the bank has it"] == counted.unknown == len(found["unknown"])
    assert shown["Client errors"] + shown["Failed"] + shown["Held back by the proxy"] == counted.bad
    assert counted.bad == len(found["4xx"]) + len(found["5xx"])
    assert counted.errors == Counter(one["code"] for one in found["all"] if one["code"])
    assert counted.errors.keys() == {"no_route", "upstream_reset", "bad_request"}
    by_code = Counter[str]()
    for one in status["errors"]:
        by_code[one["code"]] += one["count"] if one["code"] else 0
    assert +by_code == counted.errors
    [token] = status["tokens"]
    assert abs(token["expires"] - counted.token_expires) < 1
    assert token["seconds_left"] > 0
    assert status["journal_backlog"] == counted.backlog == 0


async def test_what_a_killed_worker_had_in_flight_is_in_all_numbers(tmp_path: Path) -> None:
    """The sums of the callers, those of the history and /metrics: the outcome of three payments is unknown."""
    async with a_day(tmp_path) as day:
        await day.pay(0)
        await day.until(lambda text: "Requests 1 " in text and " 1 requests in the last hour" in text)
        await command("trigger", "--at", day.place.bank.url, "timeout", "--path", "/payment", "--times", "3")
        async with asyncio.TaskGroup() as group:
            for number in (1, 2, 3):
                group.create_task(day.pay(number))
            sent = await day.place.until(lambda status: status["workers"][0]["late"] == 3)
            os.kill(sent["workers"][0]["pid"], signal.SIGKILL)
        page = await day.until(lambda text: "Requests 4 " in text and " 4 requests in the last hour" in text)
        counted = await day.numbers()
        history = (await day.admin.get("/console/history.json?window=1h")).json()
        [caller] = (await day.admin.get("/console/overview.json")).json()["callers"]

    assert day.sent == [201, 0, 0, 0]
    assert "Unknown whether the bank has it 3 " in page
    assert counted.unknown == caller["sent_unknown"] == caller["other"] == 3
    assert sum(one["results"][0] for one in history["samples"]) == caller["other"]


async def test_a_caller_that_sends_slowly_is_no_fault_of_the_bank(tmp_path: Path) -> None:
    """Its upload is under way at the bank, and nothing is late."""
    async with a_day(tmp_path) as day:
        _, writer = await asyncio.open_connection("127.0.0.1", day.place.port)
        head = "POST /payment/v2/payments HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"
        writer.write(head.encode() + b"x" * 2_000_000)
        begun = await day.place.until(lambda status: status["workers"][0]["in_flight"] == 1)
        later = begun["uptime"] + LATE_SECONDS + 2.5
        status = await day.place.until(lambda status: status["uptime"] >= later)
        writer.close()

    assert status["workers"][0]["in_flight"] == 1
    assert (status["workers"][0]["late"], status["troubles"]) == (0, [])
