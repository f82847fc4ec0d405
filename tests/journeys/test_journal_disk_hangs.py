"""A disk that hangs, so that a sync does not return and reports nothing: put into the system calls by strace."""

import asyncio
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import Answer, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import records
from tests.journeys.process import Instance
from tests.journeys.strace import injected
from tests.journeys.support import configured
from tests.journeys.test_real_callers import PROGRAMS, needs, printed
from tests.journeys.waiting import until

# strace counts microseconds; as far as these tests go, for ever.
HANGS = "delay_enter=600000000"
SERVER = "exchange_timeout = 2"
GIVEN_UP = "the disk of the journal does not answer"


async def test_nothing_is_sent_while_the_disk_of_the_journal_hangs(tmp_path: Path, bank: Bank, start: Start) -> None:
    """503 log_unavailable within exchange_timeout, reads too, and nothing late; with the disk back, service again."""
    instance = await start(configured(tmp_path, bank.url, server=SERVER, request_log="stdout = false"))
    [worker] = await instance.serving()
    answers = [await ask(instance.address, payment("before"))]

    async with injected(worker, "fdatasync", HANGS, output=tmp_path / "strace"):
        answers.append(await ask(instance.address, payment("hangs")))
        _is_refused(answers[-1])
        answers += await asyncio.gather(*(ask(instance.address, payment(f"hangs-{number}")) for number in range(20)))
        answers.append(await get(instance.address, "/payment/helloworld"))
        for answer in answers[2:]:
            _is_refused(answer)
        await until(lambda: _unready(instance), otherwise="/readyz did not tell")
    await until(instance.is_ready, otherwise="it did not become ready again")

    answers.append(await ask(instance.address, payment("after")))
    assert answers[-1].status == 201
    assert bank.world.accepted == {"before": 1, "after": 1}
    statuses = {answer.request_id: answer.status for answer in answers}
    await until(
        lambda: statuses.items() <= {each["id"]: each["status"] for each in records(tmp_path)}.items(),
        otherwise="records are missing",
    )
    assert await instance.stop() == 0


async def test_a_worker_ends_while_its_disk_hangs(tmp_path: Path, bank: Bank, start: Start) -> None:
    """SIGTERM: what waits is refused, and the worker gives up what the disk has not taken, and says so."""
    instance = await start(configured(tmp_path, bank.url, server=SERVER, request_log="stdout = false"))
    [worker] = await instance.serving()
    async with injected(worker, "fdatasync", HANGS, output=tmp_path / "strace"):
        paying = asyncio.ensure_future(ask(instance.address, payment("hangs")))
        await until((tmp_path / "strace").read_text, otherwise="no intent was written")
        instance.terminate()
        _is_refused(await paying)
        await until(lambda: GIVEN_UP in instance.output, otherwise="the worker did not give up")
    assert await instance.exit_code() == 1
    assert "payproxy has stopped: not every request" in instance.output
    assert bank.world.accepted == {}


async def test_the_keeper_ends_while_its_disk_hangs(tmp_path: Path, bank: Bank, start: Start) -> None:
    """SIGTERM: it can't close its files, says so, and is gone in a time that is known; the next start has all."""
    configuration = configured(tmp_path, bank.url, server=SERVER, request_log="stdout = false")
    hangs = tmp_path / "hangs"
    env = {"LD_PRELOAD": str(await _library(tmp_path)), "HANGS": str(hangs)}
    instance = await start(configuration, env=env)
    hangs.touch()
    paid = await ask(instance.address, payment("hangs"))
    assert paid.status == 201
    instance.terminate()
    assert await asyncio.wait_for(instance.process.wait(), 60) == 1
    assert "stopped without having closed all files: the disk under" in instance.output

    second = await start(configuration)
    await until(
        lambda: paid.request_id in {each["id"] for each in records(tmp_path)}, otherwise="the record is missing"
    )
    assert await second.stop() == 0


async def _library(directory: Path) -> Path:
    library = directory / "hangs.so"
    needs("gcc")
    assert await printed("gcc", "-shared", "-fPIC", "-o", str(library), str(PROGRAMS / "hangs.c")) == ""
    return library


def _is_refused(answer: Answer) -> None:
    assert answer.status == 503
    assert (answer.json["code"], answer.json["sent_upstream"]) == ("log_unavailable", "no")


async def _unready(instance: Instance) -> bool:
    answer = await get(instance.admin, "/readyz?verbose")
    return answer.status == 503 and b"journal failed: a worker's journal can't be written: the disk" in answer.body
