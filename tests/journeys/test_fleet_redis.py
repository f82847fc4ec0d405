"""The Redis that three replicas share is killed, restarted and failed over under load."""

from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.balanced import running_fleet
from tests.journeys.books import books, check_chains
from tests.journeys.conftest import Start
from tests.journeys.counting import Outcome
from tests.journeys.waiting import until
from tests.support.redis import redis_server, sentinel

pytestmark = pytest.mark.timeout(600)
REFUSED = frozenset({Outcome.REFUSED})


async def test_a_redis_that_is_killed_and_empty_again_costs_no_request(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """The fleet has not moved within a day, so that every side is known without it."""
    async with redis_server(tmp_path) as redis, running_fleet(tmp_path, bank, start, redis=redis.url) as fleet:
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            await redis.end()
            for one in fleet.replicas:
                await one.is_degraded()
            await fleet.callers.goes_on(300)
            await redis.start()
            for one in fleet.replicas:
                await one.is_well()
            await fleet.callers.goes_on()
        found = await books(fleet)

        found.check()
        await check_chains(fleet)


async def test_payments_whose_side_is_not_known_wait_for_the_redis(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The weight was changed a moment ago: what may have moved is refused unsent until it is back, and served then."""
    async with redis_server(tmp_path) as redis, running_fleet(tmp_path, bank, start, redis=redis.url) as fleet:
        await fleet.moves_to(50)
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            await redis.end()
            for one in fleet.replicas:
                await one.is_degraded()
            await until(lambda: fleet.callers.of(Outcome.REFUSED), otherwise="nobody was refused")
            await redis.start()
            for one in fleet.replicas:
                await one.is_well()
            await fleet.all_at(50)
            await fleet.callers.goes_on()
        found = await books(fleet)

        found.check(allowed=REFUSED)
        assert {one.answer.json["code"] for one in fleet.callers.of(Outcome.REFUSED) if one.answer} == {"side_unknown"}
        assert all(one.key for one in fleet.callers.of(Outcome.REFUSED)), "a GET has no side to be afraid for"
        await check_chains(fleet)


async def test_a_failover_by_sentinel_moves_no_payment(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The replica of the Redis becomes the master: the weight, and a rollback through it, hold on all replicas."""
    for name in ("master", "spare", "sentinel"):
        (tmp_path / name).mkdir()
    async with (
        redis_server(tmp_path / "master") as master,
        redis_server(tmp_path / "spare", "--replicaof", f"127.0.0.1 {master.port}") as spare,
        sentinel(tmp_path / "sentinel", master) as port,
        running_fleet(tmp_path, bank, start, redis=f"redis+sentinel://127.0.0.1:{port}/main/0") as fleet,
    ):
        await fleet.moves_to(50)
        async with fleet.callers.at_work():
            await fleet.callers.goes_on()
            await master.end()
            for one in fleet.replicas:
                await one.is_degraded()
            for one in fleet.replicas:
                await one.is_well()
            assert b"master" in await spare.command("ROLE")
            await fleet.all_at(50)
            await fleet.rolls_back()
            await fleet.callers.goes_on()
        found = await books(fleet)

        found.check(allowed=REFUSED)
        await check_chains(fleet)
