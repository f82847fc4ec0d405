import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import LogUnavailable
from proxy.keeper.automatic_inquiries import LOOK_SECONDS, MOST_WAITING, AutomaticInquiries
from proxy.keeper.inquiries import TooManyInquiries
from proxy.keeper.inquiry import About, CantAsk, Verdict
from proxy.records.query import ArchiveUnusable
from proxy.records.record import RecordBuilder
from proxy.records.unanswered import unanswered_exchange
from proxy.settings.stores import UrlUnusable
from proxy.simulator.clients import JWT_CLIENT_ID
from tests.cli.inquiring import INQUIRY, leave_record
from tests.cli.serving import Site, command, serving, site
from tests.records.kept import MASK, inquiry, operation, record
from tests.records.support import CONTEXT, NOW, an_attempt, an_exchange
from tests.support.clock import ManualClock, settle

PAYMENTS = "/payment/v2/payments"


async def asked(place: Site, number: int) -> list[str]:
    """Return the targets of the inquiries that the bank has got, once there are *number* of them."""
    async with asyncio.timeout(90):
        while True:
            seen = place.bank.world.seen(PAYMENTS, "GET")
            if len(seen) >= number:
                return [one.target for one in seen]
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("automatic", [True, False])
async def test_a_new_request_of_unknown_outcome_is_asked_about(tmp_path: Path, automatic: bool) -> None:  # noqa: FBT001
    """Once it is old enough, known ones never; and only where the rule says so: else a person has to ask."""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic=str(automatic).lower()))
        async with serving(place):
            await place.ready()
            place.bank.world.enter(JWT_CLIENT_ID, "old", "p-1")
            leave_record(place, "known", ago=400, status=200, code="", attempts=[an_attempt(status=200)])
            leave_record(place, "young", ago=0)
            old = leave_record(place, "old", ago=300)
            if not automatic:
                await answers(place, old)
            targets = await asked(place, 1)
            told = await command("why", old, "--json", "--config", place.config)

    assert targets == [f"{PAYMENTS}?requestId=old"]
    [inquiry] = json.loads(told.stdout)["exchanges"][0]["inquiries"]
    assert (inquiry["verdict"], inquiry["who"] == "payproxy") == ("found", automatic)


class Bank:
    """Answers with *verdicts*, the last of them again and again, and notes when it was asked about what."""

    def __init__(self, *verdicts: Verdict | Exception) -> None:
        self.clock = ManualClock(NOW)
        self.verdicts = list(verdicts)
        self.asked: list[tuple[float, str]] = []
        self.lines: list[str] = []
        # What the log has: requests, each with its inquiries; an error once for each.
        self.log: list[tuple[dict[str, Any], list[dict[str, Any]]] | Exception] = []
        self.inquiries = AutomaticInquiries(
            self.ask,
            lambda route: route == "payments",
            find=self.find,
            clock=self.clock,
            write_line=self.lines.append,
        )

    async def ask(self, about: About) -> Verdict:
        """Answer."""
        self.asked.append((self.clock.now() - NOW, about.id))
        said = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if isinstance(said, Exception):
            raise said
        return said

    async def find(self, most: int) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Return what the log has."""
        for one in self.log:
            if isinstance(one, Exception):
                self.log.remove(one)
                raise one
        return [one for one in self.log if not isinstance(one, Exception)][:most]

    async def passes(self, seconds: float) -> None:
        """Let *seconds* pass, while the inquiries run."""
        running = asyncio.create_task(self.inquiries.run())
        for _ in range(int(seconds / LOOK_SECONDS)):
            await settle()
            await self.clock.advance(LOOK_SECONDS)
        await settle()
        running.cancel()


@pytest.mark.parametrize(
    ("verdicts", "times"),
    [
        ([Verdict.FOUND], [90]),
        ([Verdict.NOT_FOUND], [90]),
        ([Verdict.UNCLEAR], [90, 390, 2190]),
        ([Verdict.UNCLEAR, Verdict.FOUND], [90, 390]),
        ([CantAsk("no token"), TooManyInquiries(), LogUnavailable("full")], [90, 390, 2190]),
        ([ValueError("a defect"), Verdict.FOUND], [90, 390]),
    ],
)
async def test_it_is_asked_three_times_at_most(verdicts: list[Verdict | Exception], times: list[float]) -> None:
    """Later each time, and never before the bank must be done with the request."""
    bank = Bank(*verdicts)
    bank.inquiries.add([unknown(0)])

    await bank.passes(9000)

    assert [after for after, _ in bank.asked] == pytest.approx(times, abs=LOOK_SECONDS + 1)
    assert bank.asked[0][0] >= 90
    assert all("defect" not in line for line in bank.lines)


async def test_of_a_killed_worker_it_is_asked_from_the_end_that_is_known() -> None:
    """A request that was uploaded for 100 s was still on its way when its record begins to count."""
    bank = Bank(Verdict.NOT_FOUND)
    intent = RecordBuilder(CONTEXT, MASK).intent(an_exchange(), an_attempt(started_wall=NOW))
    bank.inquiries.add([unanswered_exchange([json.loads(intent)], ended=NOW + 100)])

    await bank.passes(600)

    assert [after for after, _ in bank.asked] == [pytest.approx(190, abs=LOOK_SECONDS)]
    assert bank.asked[0][0] >= 190


async def test_an_outage_is_no_load_for_the_bank() -> None:
    """Ten a minute, the oldest first, and a bounded number; other rules, known outcomes and reads are left alone."""
    bank = Bank(Verdict.FOUND)
    others = [unknown(0, route="reports"), unknown(0, method="GET")]
    bank.inquiries.add([*others, record(NOW), operation(NOW), b"{"])
    bank.inquiries.add([unknown(number / 1000) for number in range(MOST_WAITING + 50)])

    await bank.passes(90 + 60)
    assert 10 <= len(bank.asked) <= 11
    assert bank.asked == sorted(bank.asked)

    await bank.passes(MOST_WAITING * LOOK_SECONDS + 60)
    assert len(bank.asked) == MOST_WAITING
    assert not {one for _, one in bank.asked} & {json.loads(one)["id"] for one in others}


@pytest.mark.parametrize(
    ("asked", "times"),
    [
        ([], [90, 390, 2190]),
        ([-100.0], [200, 2000]),
        ([-3000.0], [0, 1800]),
        ([-400.0, -100.0], [1700]),
        ([-2200.0, -1900.0, -100.0], []),
    ],
    ids=["never", "once", "long ago", "twice", "three times"],
)
async def test_what_waited_before_a_restart_goes_on_where_it_was(asked: list[float], times: list[float]) -> None:
    """By the inquiries in the log; what is overdue is asked about at once, and three times is the most."""
    bank = Bank(Verdict.UNCLEAR)
    line = unknown(0)
    inquiries = [json.loads(inquiry(json.loads(line)["id"], NOW + at, verdict="unclear")) for at in asked]
    bank.log = [(json.loads(line), inquiries)]

    await bank.passes(9000)

    assert [after for after, _ in bank.asked] == pytest.approx(times, abs=LOOK_SECONDS + 1)


async def test_no_request_is_asked_about_twice_at_once() -> None:
    """It is in the log already when its record comes, comes twice, and again while the bank is being asked."""
    bank = Bank(Verdict.UNCLEAR)
    line = unknown(0)
    bank.log = [(json.loads(line), []), (json.loads(line), [])]
    bank.inquiries.add([line, line])

    async def again(about: About) -> Verdict:
        bank.inquiries.add([line])
        return await bank.ask(about)

    bank.inquiries._ask_bank = again
    await bank.passes(9000)

    assert [after for after, _ in bank.asked] == pytest.approx([90, 390, 2190], abs=LOOK_SECONDS + 1)
    assert bank.inquiries._known == set()


@pytest.mark.parametrize("error", [ArchiveUnusable("locked"), UrlUnusable("no file"), KeyError("a defect")])
async def test_a_log_that_cant_be_read_is_said_and_read_later(error: Exception) -> None:
    """New requests are asked about meanwhile."""
    bank = Bank(Verdict.FOUND)
    bank.log = [error, (json.loads(unknown(0)), [])]
    bank.inquiries.add([unknown(0.5)])

    await bank.passes(200)
    assert len(bank.asked) == 1
    assert len(bank.lines) == 1
    assert "not asked about" in bank.lines[0]

    await bank.passes(300)
    assert len(bank.asked) == 2


@pytest.mark.thorough
async def test_what_waits_is_asked_about_after_a_restart(tmp_path: Path) -> None:
    """Once: what was settled before is left alone, and so are those of two days ago and of an instance of our name."""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))
        for request_id in ("settled", "open", "foreign", "ancient"):
            place.bank.world.enter(JWT_CLIENT_ID, request_id, "p-1")
        async with serving(place):
            await place.ready()
            settled = leave_record(place, "settled", ago=300)
            leave_record(place, "open", ago=300)
            leave_record(place, "foreign", ago=300, chain="00112233445566bb")
            leave_record(place, "ancient", ago=2 * 86400)
            await answers(place, settled)
            await shipped(place, 4)
        place.config.write_text(place.config.read_text().replace("automatic = false", "automatic = true"))
        async with serving(place):
            await place.ready()
            targets = await asked(place, 2)
            leave_record(place, "new", ago=300)
            targets = await asked(place, 3)

    assert targets == [f"{PAYMENTS}?requestId={one}" for one in ("settled", "open", "new")]


async def answers(place: Site, exchange: str) -> None:
    """Have a person ask about *exchange*."""
    async with asyncio.timeout(90):
        while True:
            if (await command("why", exchange, "--ask", "--config", place.config)).exit_code == 0:
                return
            await asyncio.sleep(0.05)


async def shipped(place: Site, number: int) -> None:
    """Return once the database has *number* requests."""
    async with asyncio.timeout(90):
        while True:
            found = await command("logs", "search", "--sent", "unknown", "--json", "--config", place.config)
            if found.exit_code == 0 and found.stdout.count('"kind"') >= number:
                return
            await asyncio.sleep(0.05)


def unknown(after: float, **values: Any) -> bytes:
    """Return the record of a request of unknown outcome that began *after* seconds."""
    attempts = [an_attempt(status=0, sent="unknown", started_wall=NOW + after)]
    facts: dict[str, Any] = {"route": "payments", "status": 504, "origin": "proxy", "code": "upstream_timeout"}
    return record(NOW + after, attempts=attempts, **facts | values)
