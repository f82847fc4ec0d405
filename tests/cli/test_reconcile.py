import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.clients import JWT_CLIENT_ID
from proxy.simulator.faults import Fault
from tests.cli.inquiring import INQUIRY, leave_intent, leave_record
from tests.cli.serving import Site, command, serving, site
from tests.cli.support import environment
from tests.cli.test_why_ask import PAYMENTS, searched

REQUESTS = 22


@pytest.mark.thorough
async def test_more_than_may_be_asked_in_a_row_are_asked_all_the_same(tmp_path: Path) -> None:
    """The instance takes 20 in a row; the command waits for the others, and leaves none out."""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))
        async with serving(place):
            await place.ready()
            ids = [leave_record(place, f"r-{number}", ago=300 - number) for number in range(REQUESTS)]
            place.bank.world.enter(JWT_CLIENT_ID, "r-1", "p-1")
            async with asyncio.timeout(90):
                while True:
                    found = await command("logs", "search", "--sent", "unknown", "--json", "--config", place.config)
                    if len(found.stdout.splitlines()) == REQUESTS:
                        break
                    await asyncio.sleep(0.05)
            done = await command("reconcile", "--since", "1h", "--json", "--config", place.config)
            again = await command("reconcile", "--since", "1h", "--config", place.config)

    assert done.exit_code == 0, done.stdout
    value = json.loads(done.stdout)
    assert [one["id"] for one in value["exchanges"]] == ids
    assert [one["settled"] for one in value["exchanges"]] == [
        "found" if number == 1 else "not_found" for number in range(REQUESTS)
    ]
    assert (value["asked"], value["open"]) == (REQUESTS, 0)
    assert (again.exit_code, again.stdout) == (0, "No request is open.\n")
    assert len(place.bank.world.seen("/payment/v2/payments", "GET")) == REQUESTS


async def test_not_found_is_no_leave_to_send_again_just_after_a_worker_was_killed(tmp_path: Path) -> None:
    """Its request began 5 minutes ago, but may have been sent until the end of its worker, which is known since now."""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))
        id_ = leave_intent(place, "killed-1", ago=300)
        config = ("--config", place.config)
        async with serving(place):
            await place.ready()
            await searched(place, 1)
            one = json.loads((await command("why", id_, "--ask", "--json", *config)).stdout)["exchanges"][0]
            done = await command("reconcile", "--json", *config)
            left = await command("logs", "search", "--sent", "unknown", "--open", "--json", *config)

    assert ([each["verdict"] for each in one["inquiries"]], one["settled"]) == (["not_found"], "")
    assert one["next_step"].endswith("Don't send it again yet.")
    assert "Its worker process ended unexpectedly, before " in one["text"]
    [reconciled] = json.loads(done.stdout)["exchanges"]
    assert (reconciled["verdict"], reconciled["settled"]) == ("not_found", "")
    [record] = map(json.loads, left.stdout.splitlines())
    assert (record["id"], record["duration_ms"], record["ended"] > record["time"]) == (id_, 0.0, True)


async def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """Although an inquiry runs, whose end the stopped instance can't tell; what was done before is printed."""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))
        for fault in ({"kind": "hang_up", "times": 1}, {"kind": "stalled", "seconds": 600}):
            place.bank.world.faults.add(Fault.of({"path": PAYMENTS, "method": "GET", **fault}))
        async with serving(place):
            await place.ready()
            ids = [leave_record(place, f"r-{number}", ago=300 - number) for number in range(3)]
            await searched(place, len(ids))
            status, stdout, stderr = await interrupted(place, after=2)

    assert (status, stderr.strip()) == (130, "interrupted")
    value = json.loads(stdout)
    assert [(one["id"], one["settled"]) for one in value["exchanges"]] == [(ids[0], "not_found")]
    assert (value["asked"], value["not_asked"], value["not_reached"], value["open"]) == (1, 0, 2, 2)


async def interrupted(place: Site, *, after: int) -> tuple[int, str, str]:
    """Interrupt `payproxy reconcile --json` while inquiry number *after* runs; return exit code and output."""
    assert place.process is not None
    command_ = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "reconcile", "--json", "--config", str(place.config)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    async with asyncio.timeout(90):
        while len(place.bank.world.seen(PAYMENTS, "GET")) < after:  # noqa: ASYNC110 - the world has no events
            await asyncio.sleep(0.02)
        place.process.send_signal(signal.SIGSTOP)
        try:
            command_.send_signal(signal.SIGINT)
            stdout, stderr = await command_.communicate()
        finally:
            place.process.send_signal(signal.SIGCONT)
    return int(command_.returncode or 0), stdout.decode(), stderr.decode()


async def test_an_instance_that_stops_meanwhile_does_not_take_what_was_done(tmp_path: Path) -> None:
    """It is printed as far as it came, and the end says that no instance answers."""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))
        async with serving(place):
            await place.ready()
            leave_record(place, "r-1", ago=300)
            await searched(place, 1)
        done = await command("reconcile", "--config", place.config)

    assert done.exit_code == 69
    assert done.stdout == "0 asked about, 1 not reached, 0 settled, 1 still open.\n"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "html"}, "unclear (it is a page or XML, not JSON)"),
        ({"kind": "status", "status": 503}, "unclear (status is not 200)"),
        ({"kind": "slow", "seconds": 600}, "unclear (upstream_timeout: The bank did not answer in time)"),
    ],
)
async def test_unclear_says_why(tmp_path: Path, fault: dict[str, Any], words: str) -> None:
    """Whether the rule or the bank is to be looked at."""
    async with site(tmp_path) as place:
        place.write(upstream="response_timeout = 2")
        place.config.write_text(place.config.read_text() + INQUIRY.format(automatic="false"))
        place.bank.world.faults.add(Fault.of({"path": PAYMENTS, "method": "GET", **fault}))
        async with serving(place):
            await place.ready()
            leave_record(place, "r-1", ago=300)
            await searched(place, 1)
            done = await command("reconcile", "--config", place.config)

    assert f"  {words}. What to do: ask the bank" in done.stdout
    assert done.stdout.endswith("1 asked about, 0 settled, 1 still open.\n")


async def test_a_time_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """Before anything is asked."""
    async with site(tmp_path) as place:
        done = await command("reconcile", "--since", "soon", "--config", place.config)

    assert (done.exit_code, "--since" in done.stderr) == (2, True)
