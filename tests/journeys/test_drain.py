import asyncio
import os
import signal
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Load, Request, ask, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import record, records
from tests.journeys.process import children
from tests.journeys.support import configured
from tests.journeys.waiting import until


def _mixed(number: int) -> Request:
    return payment(f"order-{number}") if number % 2 else Request()


@pytest.mark.parametrize("alive", [True, False], ids=["kept-alive", "new-connections"])
@pytest.mark.parametrize(
    "to_all", [False, pytest.param(True, marks=pytest.mark.thorough)], ids=["to-keeper", "to-all-processes"]
)
async def test_no_request_fails_when_it_is_told_to_stop_under_load(
    tmp_path: Path, bank: Bank, start: Start, *, to_all: bool, alive: bool
) -> None:
    """SIGTERM under load, to the keeper or as systemd sends it to all: everything sent is answered and recorded."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    bank.world.faults.set("slow", path="/payment/v2/payments/slow", seconds=2.0)
    slow = asyncio.create_task(ask(instance.address, Request(path="/payment/v2/payments/slow")))
    await until(lambda: bank.world.seen("/payment/v2/payments/slow"), otherwise="the bank did not get the slow request")

    async with Load(instance.address, _mixed, connections=32, alive=alive) as load:
        await load.goes_on(500)
        load.ending = True
        await instance.is_ready()
        instance.terminate()
        for pid in instance.known if to_all else ():
            os.kill(pid, signal.SIGTERM)
        await load.ended()

    assert load.failures == []
    assert set(load.statuses) == {200, 201}, load.problems
    assert (await slow).status == 404
    assert await instance.exit_code() == 0
    await instance.workers_gone()
    told = {each["id"]: each["status"] for each in records(tmp_path)}
    assert len(told) == len(load.answers) + 1
    assert {answer.request_id: answer.status for answer in load.answers}.items() <= told.items()
    assert bank.world.accepted.total() == load.statuses[201]


async def test_a_worker_that_is_told_to_stop_while_it_starts_leaves_nothing_unanswered(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Systemd's SIGTERM to all processes, as soon as the first worker can serve: the stop is in order."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 6"), ready=False)
    pids = children(instance.pid)
    instance.terminate()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)

    assert await instance.exit_code() == 0, instance.output


@pytest.mark.thorough
async def test_a_request_in_flight_is_finished_though_the_keeper_was_killed(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """SIGKILL to the keeper: its workers end what they have and stop; the next start ships their records."""
    configuration = configured(tmp_path, bank.url, server="workers = 2")
    instance = await start(configuration)
    bank.world.faults.set("slow", path="/payment/v2/payments", seconds=2.0)
    slow = asyncio.create_task(ask(instance.address, payment("slow")))
    await until(lambda: bank.world.accepted["slow"], otherwise="the bank did not get the payment")

    await instance.kill()

    answer = await slow
    assert answer.status == 201
    await instance.workers_gone()
    with pytest.raises(OSError):  # noqa: PT011 - refused
        await ask(instance.address, Request())
    assert records(tmp_path) == []

    await start(configuration)
    logged = await until(lambda: record(tmp_path, answer.request_id), otherwise="the record was not shipped")
    assert (logged["status"], logged["sent_upstream"], logged["note"]) == (201, "yes", "")


@pytest.mark.thorough
async def test_a_payment_whose_caller_has_left_is_finished_before_it_stops(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """SIGTERM while the bank works: nobody is connected any more, and its answer is waited for and recorded."""
    instance = await start(configured(tmp_path, bank.url))
    bank.world.faults.set("slow", path="/payment/v2/payments", seconds=2.0)
    slow = asyncio.create_task(ask(instance.address, payment("left")))
    await until(lambda: bank.world.accepted["left"], otherwise="the bank did not get the payment")
    slow.cancel()
    await asyncio.wait([slow])

    assert await instance.stop() == 0

    await instance.workers_gone()
    (told,) = records(tmp_path)
    assert (told["status"], told["sent_upstream"], told["code"], told["caller_left"]) == (201, "yes", "", True)
