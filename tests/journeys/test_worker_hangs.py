import asyncio
import os
import signal
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import records
from tests.journeys.process import Instance
from tests.journeys.support import configured
from tests.journeys.waiting import until

# It is noticed after 5 s and replaced after 15.
NOTICED = 60.0


async def test_a_worker_that_hangs_is_not_ready_and_then_replaced(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A worker stopped by SIGSTOP with a payment in flight: seen by /readyz, killed, its payment reads unknown."""
    instance = await start(configured(tmp_path, bank.url))
    [victim] = await instance.serving()
    bank.world.faults.set("slow", path="/payment/v2/payments", method="POST", seconds=20.0)
    paying = asyncio.create_task(ask(instance.address, payment("in-flight")))
    await until(lambda: bank.world.accepted["in-flight"], otherwise="the bank did not get the payment")

    os.kill(victim, signal.SIGSTOP)
    new = asyncio.create_task(get(instance.address, "/payment/helloworld"))

    await until(lambda: _unready(instance), otherwise="/readyz did not see it", within=NOTICED)
    [outcome] = await asyncio.gather(paying, return_exceptions=True)
    assert isinstance(outcome, OSError | EOFError)
    # Who stood in the queue is taken by the next worker.
    assert (await asyncio.wait_for(new, NOTICED)).status == 200
    assert victim not in await instance.serving()
    await until(instance.is_ready, otherwise="the instance was not ready again")
    assert bank.world.accepted["in-flight"] == 1
    told = await until(lambda: [each for each in records(tmp_path) if each["method"] == "POST"], otherwise="no record")
    assert [(each["sent_upstream"], each["note"]) for each in told] == [("unknown", "worker_ended")]
    log = instance.stderr.read_text()
    assert f"(process {victim}) did not respond for 5 s: it counts as not ready" in log
    assert f"(process {victim}) did not respond for 15 s: killed, another takes its place" in log


async def _unready(instance: Instance) -> bool:
    answer = await get(instance.admin, "/readyz")
    return answer.status == 503 and b"worker 0 does not respond" in answer.body
