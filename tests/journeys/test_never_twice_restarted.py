"""A response that nobody has read, a change of side, and a retry, all within ten seconds."""

import asyncio
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.migration.in_flight import LINGER_SECONDS
from tests.journeys.conftest import Start
from tests.journeys.moved import moved
from tests.journeys.two_banks import answers, hangs, two_banks
from tests.journeys.waiting import until
from tests.journeys.weights import set_weight

CLOCK = SystemClock()
_TRIES = 10


@pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=pytest.mark.thorough)])
async def test_a_retry_after_a_restart_goes_where_the_first_try_went(tmp_path: Path, start: Start, how: str) -> None:
    """The keys in flight of a worker end with its process; its journal tells of them."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start, weight=0)
        for number in range(_TRIES):
            key = f"unread-{number}"
            started = CLOCK.monotonic()
            assert (await site.pay(key)).status == 201
            if how == "killed":
                await site.instance.kill_all()
                site.instance = await start(site.configuration)
            else:
                await site.restart()
            await set_weight(tmp_path, 100)
            status = (await site.pay(key)).status
            if CLOCK.monotonic() - started < LINGER_SECONDS:
                assert (status, banks.at(key)) == (200, "legacy")
                return
            await site.roll_back()  # the machine was too slow for ten seconds
        pytest.fail("a restart never took less than ten seconds")


@pytest.mark.thorough
async def test_a_retry_that_hangs_for_longer_than_its_pin_is_followed(tmp_path: Path, start: Start) -> None:
    """Every further try, at whichever worker, goes where the two before went."""
    async with two_banks() as banks:
        site = await moved(tmp_path, banks, start, weight=0, workers=2)
        assert (await site.pay("order")).status == 201
        await set_weight(tmp_path, 100)
        changed = CLOCK.monotonic()
        banks.decide(hangs)
        second = asyncio.create_task(site.pay("order"))
        await until(lambda: banks.legacy.hanging + banks.modern.hanging, otherwise="the second try did not arrive")
        banks.decide(answers)
        passed = LINGER_SECONDS + 2
        await until(lambda: CLOCK.monotonic() > changed + passed, otherwise="time stands still")

        assert {(await site.pay("order")).status for _ in range(12)} == {200}
        banks.release()
        assert (await second).status in {200, 201}
        assert banks.at("order") == "legacy"
