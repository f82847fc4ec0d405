"""EIO and EROFS in what the keeper writes: its stream, its positions, its own journal, the log file (by strace)."""

import errno
import os
from collections import Counter
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Answer, ask, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import lines, records
from tests.journeys.logs import verified
from tests.journeys.process import Instance
from tests.journeys.strace import injected
from tests.journeys.support import configured
from tests.journeys.waiting import until

CHANGES = "write,pwrite64,openat,fsync,fdatasync,ftruncate,rename,unlink,unlinkat"
FAILS = "request log: the keeper can't write its files"
RECOVERS = "request log: the keeper writes its files again"


@pytest.mark.parametrize(("calls", "error"), [(CHANGES, "EROFS"), ("pwrite64", "EIO")])
async def test_records_wait_in_the_journals_while_the_keeper_cannot_write(
    tmp_path: Path, bank: Bank, start: Start, calls: str, error: str
) -> None:
    """Callers are served, the operator is told once, and every record comes in order, once, when it can."""
    told = f"{FAILS}, the workers' journals keep all: {os.strerror(getattr(errno, error))}"
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    answers = await _paid(instance, "before")
    await _arrived(tmp_path, answers)

    async with injected(instance.pid, calls, f"error={error}", output=tmp_path / "strace", only=_own_files(tmp_path)):
        answers += await _paid(instance, "meanwhile")
        await until(lambda: told in instance.output, otherwise="not told")
        answers += await _paid(instance, "still")
        assert len(records(tmp_path)) == len(answers) // 3
    await until(lambda: RECOVERS in instance.output, otherwise="it did not recover")

    await _all_are_told(tmp_path, configuration, instance, answers)
    assert instance.output.count(FAILS) == instance.output.count(RECOVERS) == 1


async def test_what_cannot_be_synced_is_handed_on(tmp_path: Path, bank: Bank, start: Start) -> None:
    """EIO in every sync of the stream: records arrive, each failure begins a new segment, the operator is told."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    answers: list[Answer] = []

    only = _own_files(tmp_path)
    async with injected(instance.pid, "fdatasync", "error=EIO", output=tmp_path / "strace", only=only):
        for turn in range(3):
            answers += await _paid(instance, f"meanwhile-{turn}")
            await _arrived(tmp_path, answers)
        await until(lambda: FAILS in instance.output, otherwise="the operator was not told")
    answers += await _paid(instance, "after")

    await _all_are_told(tmp_path, configuration, instance, answers)


@pytest.mark.parametrize("call", ["write", "fdatasync"])
async def test_a_log_file_that_cannot_be_written_gets_everything_once(
    tmp_path: Path, bank: Bank, start: Start, call: str
) -> None:
    """EIO in the log file alone: callers don't notice, no line stands there twice, none is cut."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    answers = await _paid(instance, "before")
    file = tmp_path / "requests.jsonl"
    await _arrived(tmp_path, answers)

    async with injected(instance.pid, call, "error=EIO", output=tmp_path / "strace", only=[file]):
        answers += await _paid(instance, "meanwhile")
        await until(lambda: "request log: file takes no records" in instance.output, otherwise="not told")
        assert "Input/output error" in instance.output
    await until(lambda: "request log: file takes records again" in instance.output, otherwise="it did not recover")

    await _all_are_told(tmp_path, configuration, instance, answers)


def _own_files(directory: Path) -> list[Path]:
    """Return what the keeper writes below *directory* but the log: files that are there, and those that may follow."""
    data = directory / "data"
    own = [path for path in (data / "journal").glob("keeper-*") if path.suffix == ".jsonl"]
    following = [data / "stream" / f"records-{number}.jsonl" for number in range(1, 60)]
    return [*own, *following, data / "stream" / "positions.new", data / "stream" / "positions.json"]


async def _paid(instance: Instance, key: str) -> list[Answer]:
    answers = [await ask(instance.address, payment(f"{key}-{number}")) for number in range(5)]
    assert [answer.status for answer in answers] == [201] * 5
    return answers


async def _arrived(directory: Path, answers: list[Answer]) -> None:
    await until(lambda: len(records(directory)) == len(answers), otherwise="records are missing")


async def _all_are_told(directory: Path, configuration: Path, instance: Instance, answers: list[Answer]) -> None:
    """Each answer has its one record, in order, and the chain holds."""
    ids = [answer.request_id for answer in answers]
    await _arrived(directory, answers)
    assert await instance.stop() == 0
    told = [each["id"] for each in lines(directory / "requests.jsonl") if each["kind"] == "exchange"]
    assert told == ids
    assert max(Counter(each["sequence"] for each in lines(directory / "requests.jsonl")).values()) == 1
    code, value = await verified(directory, "--config", str(configuration))
    assert code == 0, value
    # The first segments of the stream go once every sink has them.
    assert {flaw["fault"] for copy in value["copies"] for flaw in copy["flaws"]} <= {"begins_late"}
