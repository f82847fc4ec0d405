import json
import os
import signal
from pathlib import Path

import pytest

from proxy.entropy import SystemEntropy
from tests.journeys.caller import Address, Load, Request, ask, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import Evidence, ended_workers, evidence, held_journals, in_flight, records
from tests.journeys.logs import searched, verified
from tests.journeys.process import Instance, Process, kill
from tests.journeys.support import configured
from tests.journeys.waiting import until
from tests.journeys.witness import seen

# Of each kind what it costs: a keeper takes seconds to come back.
ROUNDS = (*("worker", "keeper", "worker", "worker", "both", "worker") * 8, "worker", "both")
CONNECTIONS = 8
# So much is in flight at each kill, and what is on disk stays small enough to be read whole after each.
BANK_SECONDS = 0.1
# What a kill may leave: no clean stop, and records that the keeper delivers once more.
LEFT_BY_KILLS = {"unclean", "duplicated", "begins_late"}


@pytest.mark.timeout(900)
async def test_every_payment_that_the_bank_saw_has_an_intent_on_disk(tmp_path: Path, start: Start) -> None:
    """Fifty rounds of kill -9 under load; the bank, in another process, is the witness of what was sent."""
    journal = tmp_path / "witness.jsonl"
    journal.touch()
    lost: set[str] = set()
    bank = await Process.run(tmp_path, "-m", "tests.journeys.witness", str(journal))
    try:
        url = await until(lambda: bank.stdout.read_text().strip(), otherwise="the simulator did not start")
        configuration = configured(tmp_path, url, server="workers = 2", request_log="stdout = false")
        instance = await start(configuration)
        await _both_serve(instance)
        await _tell(url, "fault", {"kind": "slow", "path": "/payment/v2/payments", "seconds": BANK_SECONDS})
        load = Load(instance.address, lambda number: payment(f"order-{number}"), connections=CONNECTIONS, stubborn=True)
        async with load:
            for number, kind in enumerate(ROUNDS):
                await load.goes_on(int(SystemEntropy().uniform(5, 30)))
                if number % 2:
                    # Every token is refused: until the new one is there, all are between first and second send.
                    await _tell(url, "revoke", {"all": True})
                    await load.goes_on(int(SystemEntropy().uniform(1, CONNECTIONS)))
                lost |= await _kill(kind, instance, tmp_path)
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
    assert max(seen(journal).values()) == 2
    told = {each["id"]: each for each in records(tmp_path)}
    unknown = {id_ for id_, each in told.items() if each["note"] == "worker_ended"}
    assert unknown == lost
    assert lost, "nothing was in flight in any round: the test showed nothing"
    assert {told[id_]["sent_upstream"] for id_ in unknown} == {"unknown"}
    # Nobody got an answer of which the log knows nothing. How it ended is written some milliseconds later, so that of
    # the answers right before a kill the log may know only that they were sent.
    for answer in load.answers:
        assert told[answer.request_id]["status"] == answer.status or answer.request_id in unknown
    late = [answer for answer in load.answers if answer.request_id in unknown]
    assert len(late) <= len(ROUNDS) * CONNECTIONS

    listed = await searched(tmp_path, "--sent", "unknown", "--limit", "1000", "--config", str(configuration))
    assert sorted(each["id"] for each in listed) == sorted(lost)
    code, value = await verified(tmp_path, "--config", str(configuration))
    assert code == 0, value
    assert {flaw["fault"] for copy in value["copies"] for flaw in copy["flaws"]} <= LEFT_BY_KILLS


async def _kill(kind: str, instance: Instance, directory: Path) -> set[str]:
    """Kill, and return the ids of what was in flight and now has to be told."""
    if kind == "worker":
        [victim, *_] = await instance.serving()
        before = ended_workers(directory)
        # The keeper stands still, so that the journal can be read before it does.
        os.kill(instance.pid, signal.SIGSTOP)
        try:
            kill(victim)
            await until(lambda: ended_workers(directory) - before, otherwise="the worker's journal is still held")
            return in_flight(directory)
        finally:
            os.kill(instance.pid, signal.SIGCONT)
    if kind == "keeper":
        await instance.kill()
        await instance.workers_gone()
    else:
        await instance.kill_all()
    await until(lambda: not held_journals(directory), otherwise="a journal is still held")
    return in_flight(directory)


async def _tell(url: str, action: str, values: dict[str, object]) -> None:
    """Have the simulator at *url* do something."""
    host, port = url.removeprefix("http://").split(":")
    address: Address = (host, int(port))
    answer = await ask(address, Request(method="POST", path=f"/_sim/{action}", body=json.dumps(values).encode()))
    assert answer.status == 200


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
