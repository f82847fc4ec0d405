import asyncio
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import Load, Request, ask, connected, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import Record, records
from tests.journeys.process import kill
from tests.journeys.support import configured
from tests.journeys.waiting import until

SLOW = 16


async def test_both_workers_serve(tmp_path: Path, bank: Bank, start: Start) -> None:
    """With workers = 2 connections are spread over two processes, and both hold the token."""
    instance = await start(configured(tmp_path, bank.url, server="workers = 2"))
    await until(lambda: _serve(instance.serving, 2), otherwise="two workers did not serve")
    before = await instance.serving()

    # That all of 40 connections go to one of two workers happens once in 10^12.
    answers = await asyncio.gather(*(get(instance.address, "/payment/helloworld") for _ in range(40)))

    assert {answer.status for answer in answers} == {200}
    assert await instance.serving() == before
    journals = [path.name for path in (tmp_path / "data" / "journal").glob("*.jsonl")]
    assert {name.split("-")[0] for name in journals} == {"w0", "w1"}

    def used() -> bool:
        ids = {each["id"] for each in records(tmp_path)}
        return {answer.request_id for answer in answers} <= ids

    await until(used, otherwise="not every request has a record")
