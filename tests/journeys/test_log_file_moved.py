"""The file of the request log is moved away and deleted while payments are made."""

import json
from collections.abc import Iterator
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import Load, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, records
from tests.journeys.logs import verified
from tests.journeys.support import configured
from tests.journeys.waiting import until

MOVES = 10


async def test_a_file_that_is_moved_away_again_and_again(tmp_path: Path, bank: Bank, start: Start) -> None:
    """As logrotate does, without a signal: every record is in one of the files, once and in order, and none is torn."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    log = tmp_path / "requests.jsonl"
    moved = [tmp_path / f"requests.{number}.jsonl" for number in range(MOVES)]

    load = Load(instance.address, lambda number: payment(f"order-{number}"), connections=8)
    async with load:
        for path in moved:
            await load.goes_on(100)
            await until(log.exists, otherwise="the file was not made again")
            log.rename(path)
    assert await instance.stop() == 0

    assert load.failures == []
    assert set(load.statuses) == {201}, load.problems
    told = [record for path in [*moved, log] for record in _whole(path)]
    # The descriptor that a batch is written to is looked at before: what was moved in between ends the older file.
    sequences = [record["sequence"] for record in told]
    assert sequences == list(range(1, len(told) + 1))
    ids = [record["id"] for record in told if record["kind"] == "exchange"]
    assert sorted(ids) == sorted(answer.request_id for answer in load.answers)
    code, value = await verified(tmp_path, *map(str, [*moved, log]))
    assert code == 0, value
    assert [copy["flaws"] for copy in value["copies"]] == [[]]


async def test_a_file_that_is_deleted_again_and_again(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Service goes on; what was in it is in the other copies, and what came later is in a new file."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = true")
    instance = await start(configuration)
    log = tmp_path / "requests.jsonl"

    load = Load(instance.address, lambda number: payment(f"order-{number}"), connections=8)
    async with load:
        for _ in range(MOVES):
            await load.goes_on(100)
            await until(log.exists, otherwise="the file was not made again")
            log.unlink()
        before = len(load.answers)
        await load.goes_on(100)
    assert await instance.stop() == 0

    assert load.failures == []
    assert set(load.statuses) == {201}, load.problems
    printed = [json.loads(line) for line in instance.stdout.read_text().splitlines()]
    every = {answer.request_id for answer in load.answers}
    assert {each["id"] for each in printed if each["kind"] == "exchange"} == every
    kept = {each["id"] for each in records(tmp_path)}
    assert kept < every
    assert kept >= {answer.request_id for answer in load.answers[before + len(load.answers) // 10 :]}
    code, value = await verified(tmp_path, "--config", str(configuration))
    # The file begins late, which is said; the others are whole.
    assert code == 0, value
    assert {copy["copy"]: {flaw["fault"] for flaw in copy["flaws"]} for copy in value["copies"]}["file"] == {
        "begins_late"
    }


async def test_a_file_kept_open_by_a_reader_is_not_written_after_it_was_moved(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """A shipper that follows the file by name and the moved one by descriptor misses nothing."""
    configuration = configured(tmp_path, bank.url, request_log="stdout = false")
    instance = await start(configuration)
    log = tmp_path / "requests.jsonl"
    load = Load(instance.address, lambda number: payment(f"order-{number}"), connections=4)
    followed: list[bytes] = []
    async with load:
        await load.goes_on(50)
        for number in range(3):
            with log.open("rb") as file:
                await load.goes_on(50)
                log.rename(tmp_path / f"away.{number}")
                await until(log.exists, otherwise="the file was not made again")
                followed.append(file.read())
    assert await instance.stop() == 0
    followed.append(log.read_bytes())

    told = [json.loads(line) for line in b"".join(followed).splitlines()]
    assert {each["id"] for each in told if each["kind"] == "exchange"} == {answer.request_id for answer in load.answers}


def _whole(path: Path) -> Iterator[Record]:
    data = path.read_bytes()
    assert data.endswith(b"\n"), f"{path.name} ends in half a record"
    return map(json.loads, data.splitlines())
