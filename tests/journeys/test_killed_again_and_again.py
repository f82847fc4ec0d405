from pathlib import Path

import pytest

from proxy.entropy import SystemEntropy
from tests.journeys.caller import Load, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import Evidence, evidence, records
from tests.journeys.process import Instance, Process, kill
from tests.journeys.support import configured
from tests.journeys.waiting import until
from tests.journeys.witness import seen

ROUNDS = ("worker", "keeper", "both", "worker", "keeper", "both", "worker", "keeper", "both", "both")
CONNECTIONS = 8


@pytest.mark.timeout(240)
async def test_every_payment_that_the_bank_saw_has_an_intent_on_disk(tmp_path: Path, start: Start) -> None:
    """Ten rounds of kill -9 under load; the bank, in another process, is the witness of what was sent."""
    journal = tmp_path / "witness.jsonl"
    journal.touch()
    bank = await Process.run(tmp_path, "-m", "tests.journeys.witness", str(journal))
    try:
        url = await until(lambda: bank.stdout.read_text().strip(), otherwise="the simulator did not start")
        configuration = configured(tmp_path, url, server="workers = 2", request_log="stdout = false")
        instance = await start(configuration)
        await _both_serve(instance)
        load = Load(instance.address, lambda number: payment(f"order-{number}"), connections=CONNECTIONS, stubborn=True)
        async with load:
            for kind in ROUNDS:
                await load.goes_on(int(SystemEntropy().uniform(50, 400)))
                await _kill(kind, instance)
                _every_send_is_on_disk(tmp_path, journal)
                if instance.process.returncode is not None:
                    instance = await start(configuration)
                    load.address = instance.address
                await _both_serve(instance)
        assert await instance.stop() == 0
    finally:
        await bank.kill()

    found = _every_send_is_on_disk(tmp_path, journal)
    assert found.unanswered == set()
    told = {each["id"]: each for each in records(tmp_path)}
    unknown = {id_ for id_, each in told.items() if each["note"] == "worker_ended"}
    assert unknown, "nothing was in flight in any round: the test showed nothing"
    assert {told[id_]["sent_upstream"] for id_ in unknown} == {"unknown"}
    # Nobody got an answer of which the log knows nothing. How it ended is written some milliseconds later, so that of
    # the answers right before a kill the log may know only that they were sent.
    for answer in load.answers:
        assert told[answer.request_id]["status"] == answer.status or answer.request_id in unknown
    assert len([answer for answer in load.answers if answer.request_id in unknown]) < len(load.answers) / 20


async def _kill(kind: str, instance: Instance) -> None:
    if kind == "worker":
        kill((await instance.serving())[0])
    elif kind == "keeper":
        await instance.kill()
        await instance.workers_gone()
    else:
        await instance.kill_all()


async def _both_serve(instance: Instance) -> None:
    async def serve() -> bool:
        return len(await instance.serving()) == 2

    await until(serve, otherwise="two workers did not serve")


def _every_send_is_on_disk(directory: Path, journal: Path) -> Evidence:
    # In this order: what the bank sees while the disk is read has its intent there before.
    witnessed = seen(journal)
    found = evidence(directory)
    sends = found.sends()
    missing = {key: count for key, count in witnessed.items() if sends[key] < count}
    assert missing == {}
    assert witnessed
    return found
