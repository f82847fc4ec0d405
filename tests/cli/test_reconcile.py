import asyncio
import json
from pathlib import Path

from proxy.simulator.clients import JWT_CLIENT_ID
from tests.cli.inquiring import INQUIRY, leave_intent, leave_record
from tests.cli.serving import command, serving, site
from tests.cli.test_why_ask import searched

REQUESTS = 22


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


async def test_a_time_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """Before anything is asked."""
    async with site(tmp_path) as place:
        done = await command("reconcile", "--since", "soon", "--config", place.config)

    assert (done.exit_code, "--since" in done.stderr) == (2, True)
