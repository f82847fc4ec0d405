"""The central database is killed under load, and comes back after a minute."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.records.segment import spool_size
from proxy.simulator.server import Bank
from tests.journeys.caller import Load, Request, payment
from tests.journeys.conftest import Start
from tests.journeys.logs import verified
from tests.journeys.support import configured, private
from tests.journeys.waiting import until
from tests.records.postgres import Postgres, binaries, fetch, running_postgres

AWAY_SECONDS = 60.0
# A record has some 1000 bytes: the spool takes four times what comes meanwhile. Above it callers get 503, as promised.
MOST_PER_SECOND = 1000
SPOOL_BYTES = 256 * 1024 * 1024
# What the journals take when nothing waits in them: a segment of a worker, one of the keeper.
RESERVES_BYTES = 16 * 1024 * 1024
FAILS = "request log: database takes no records"
RECOVERS = "request log: database takes records again"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run a server of this test's own."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    with running_postgres(found) as running:
        yield running


@pytest.mark.timeout(600)
async def test_a_database_that_is_away_for_a_minute_under_load_gets_everything_in_order(
    tmp_path: Path, bank: Bank, start: Start, server: Postgres
) -> None:
    """Callers don't notice, the disk stays within its bound and is given back, nothing is missing, order is kept."""
    private(tmp_path / "database.url", server.url().reveal())
    log = f'stdout = false\ndatabase_file = "database.url"\nspool_bytes = {SPOOL_BYTES}'
    instance = await start(configured(tmp_path, bank.url, request_log=log))
    largest = 0
    async with Load(instance.address, _request, connections=4, most_per_second=MOST_PER_SECOND) as load:
        await load.goes_on(500)
        server.kill()
        ends = asyncio.get_running_loop().time() + AWAY_SECONDS
        await until(lambda: FAILS in instance.output, otherwise="the operator was not told")
        while asyncio.get_running_loop().time() < ends:
            await load.goes_on(200)
            largest = max(largest, spool_size(tmp_path / "data"))
        server.start()
        await load.goes_on(500)
    await until(lambda: RECOVERS in instance.output, otherwise="it did not come back")

    assert load.failures == []
    assert set(load.statuses) <= {200, 201}, load.problems
    assert largest < SPOOL_BYTES
    ids = {answer.request_id for answer in load.answers}

    async def arrived() -> bool:
        [(count,)] = await fetch(server.url(), "SELECT count(*) FROM payproxy.records WHERE kind = 'exchange'")
        return bool(count >= len(ids))

    await until(arrived, otherwise="records are missing", within=120)
    await until(
        lambda: spool_size(tmp_path / "data") < RESERVES_BYTES + 8 * 1024 * 1024,
        otherwise="the disk was not given back",
    )
    assert await instance.stop() == 0
    rows = await fetch(
        server.url(), "SELECT id::text, kind, sequence FROM payproxy.records ORDER BY received, sequence"
    )
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["id"] for row in rows if row["kind"] == "exchange"} == ids
    assert instance.output.count(FAILS) == instance.output.count(RECOVERS) == 1
    code, value = await verified(tmp_path, "--config", str(tmp_path / "payproxy.toml"))
    assert code == 0, value
    assert [flaw for copy in value["copies"] for flaw in copy["flaws"] if flaw["fault"] != "begins_late"] == []


def _request(number: int) -> Request:
    return payment(f"paid-{number}") if number % 2 else Request()
