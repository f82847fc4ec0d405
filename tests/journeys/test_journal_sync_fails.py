"""EIO where a worker syncs its journal, and a disk that becomes read-only: put into its system calls by strace."""

from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import Answer, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines, records
from tests.journeys.logs import verified
from tests.journeys.process import Instance
from tests.journeys.strace import injected
from tests.journeys.support import configured
from tests.journeys.waiting import until

# What a file system that is read-only refuses, on the paths of the journal's segments.
CHANGES = "write,pwrite64,openat,fallocate,fsync,fdatasync,ftruncate"


async def test_one_failed_sync_costs_one_request_and_a_segment(tmp_path: Path, bank: Bank, start: Start) -> None:
    """EIO once: 503 log_unavailable, nothing sent; the segment is never synced again, and no record of it is lost."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    [worker] = await instance.serving()
    answers = [await ask(instance.address, payment(f"before-{number}")) for number in range(10)]
    [poisoned] = _segments(tmp_path)

    calls = tmp_path / "strace"
    async with injected(worker, "fdatasync", "error=EIO:when=1", output=calls, only=[poisoned]):
        answers.append(await ask(instance.address, payment("refused")))
        _is_refused(answers[-1], "EIO")
        await until(lambda: _paid(instance, "after", answers), otherwise="service did not begin again")

    await until(instance.is_ready, otherwise="it did not become ready again")
    assert bank.world.accepted == {f"before-{number}": 1 for number in range(10)} | {"after": 1}
    assert len(bank.world.seen("/payment", "POST")) == 11
    assert _segments(tmp_path)[-1] != poisoned
    await until(lambda: poisoned not in _segments(tmp_path), otherwise="the keeper did not take the poisoned segment")
    assert [line.partition("=")[2].split()[:2] for line in _calls(calls, "fdatasync")] == [["-1", "EIO"]]
    await _all_are_told(tmp_path, configuration, instance, answers)


async def test_nothing_is_sent_as_long_as_no_sync_succeeds(tmp_path: Path, bank: Bank, start: Start) -> None:
    """EIO in every sync: all are refused, reads too, and the tries leave no files, nor records that come twice."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    [worker] = await instance.serving()
    answers = [await ask(instance.address, payment("before"))]

    # The delay is longer than the pause of the keeper, which so reads what each try writes and takes away again.
    calls = tmp_path / "strace"
    async with injected(worker, "fdatasync", "error=EIO:delay_enter=400000", output=calls):
        await _refuses(instance, bank, answers, "EIO")
        await until(lambda: len(_calls(calls, "fdatasync")) >= 4, otherwise="it did not try again")
    await until(lambda: _paid(instance, "after", answers), otherwise="service did not begin again")

    await until(instance.is_ready, otherwise="it did not become ready again")
    assert bank.world.accepted == {"before": 1, "after": 1}
    await _all_are_told(tmp_path, configuration, instance, answers)


async def test_a_disk_that_turns_read_only_and_back(tmp_path: Path, bank: Bank, start: Start) -> None:
    """EROFS in all that a worker does to its journal, as after a remount: refused, and service again by itself.

    Nobody can remount the disk of an open journal by hand (EBUSY), the kernel alone does it, upon errors of the disk.
    """
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    [worker] = await instance.serving()
    answers = [await ask(instance.address, payment("before"))]
    [open_segment] = _segments(tmp_path)
    name, number = open_segment.stem.rsplit("-", 1)
    following = [open_segment.with_stem(f"{name}-{int(number) + step}") for step in range(4)]

    async with injected(worker, CHANGES, "error=EROFS", output=tmp_path / "strace", only=following):
        await _refuses(instance, bank, answers, "EROFS")
        assert _segments(tmp_path) in ([], [open_segment])
    await until(lambda: _paid(instance, "after", answers), otherwise="service did not begin again")

    await until(instance.is_ready, otherwise="it did not become ready again")
    assert bank.world.accepted == {"before": 1, "after": 1}
    await _all_are_told(tmp_path, configuration, instance, answers)


async def _refuses(instance: Instance, bank: Bank, answers: list[Answer], cause: str) -> None:
    """Ask until that is refused, see that it stays so, and add the answers."""
    sent = len(bank.world.seen("/payment"))
    for number in range(20):
        answers.append(await ask(instance.address, payment(f"refused-{number}")))
        _is_refused(answers[-1], cause)
    answers.append(await get(instance.address, "/payment/helloworld"))
    _is_refused(answers[-1], cause)
    assert len(bank.world.seen("/payment")) == sent
    await until(lambda: _unready(instance), otherwise="/readyz did not tell")


def _is_refused(answer: Answer, cause: str) -> None:
    assert answer.status == 503
    assert (answer.json["code"], answer.json["sent_upstream"]) == ("log_unavailable", "no")
    # What is wrong with the disk is told to the operator, not to callers.
    assert cause not in answer.body.decode()


async def _paid(instance: Instance, key: str, answers: list[Answer]) -> bool:
    answers.append(await ask(instance.address, payment(key)))
    return answers[-1].status == 201


async def _unready(instance: Instance) -> bool:
    answer = await get(instance.admin, "/readyz")
    return answer.status == 503 and b"journal" in answer.body


async def _all_are_told(directory: Path, configuration: Path, instance: Instance, answers: list[Answer]) -> None:
    """Every answer has its record, once in each copy; what was refused says so, and the chain holds."""
    statuses = {answer.request_id: answer.status for answer in answers}
    await until(lambda: statuses.keys() <= {each["id"] for each in records(directory)}, otherwise="records are missing")
    assert await instance.stop() == 0
    told = {each["id"]: each for each in records(directory)}
    assert {id_: each["status"] for id_, each in told.items()} == statuses
    for each in told.values():
        refused = each["status"] == 503
        assert each["sent_upstream"] == ("no" if refused else "yes")
        assert each["code"] == ("log_unavailable" if refused else "")
    ids = [line["id"] for line in lines(directory / "requests.jsonl")]
    assert len(ids) == len(set(ids))
    assert "records_lost" not in {line.get("event") for line in lines(directory / "requests.jsonl")}
    code, value = await verified(directory, "--config", str(configuration))
    assert code == 0, value
    assert {flaw["fault"] for copy in value["copies"] for flaw in copy["flaws"]} == set()


def _segments(directory: Path) -> list[Path]:
    return sorted((directory / "data" / "journal").glob("w*.jsonl"))


def _calls(output: Path, name: str) -> list[str]:
    return [line for line in output.read_text().splitlines() if f"{name}(" in line]
