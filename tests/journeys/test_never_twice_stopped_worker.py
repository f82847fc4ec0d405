"""A worker that stands still can't say what it has in flight: the other one must not send that to the other side."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path

from tests.journeys.caller import Answer, ask, connected
from tests.journeys.conftest import Start
from tests.journeys.moved import Moved, moved
from tests.journeys.two_banks import Call, Decide, Fault, pays, two_banks
from tests.journeys.waiting import until
from tests.journeys.weights import roll_back

LOST = tuple(f"lost-{number}" for number in range(12))
# Longer than a change of side waits for those who don't answer, shorter than a worker may miss its heartbeats.
STILL_SECONDS = 4.0
# A connection may stand in the queue of the worker that stands still.
_NO_ANSWER_SECONDS = 0.25
_ANSWER_SECONDS = 5.0


async def test_a_worker_that_stands_still_during_a_rollback(tmp_path: Path, start: Start) -> None:
    """Retries of what it has in flight are refused or go to modern, before and after; in the end all are served."""
    async with two_banks() as banks, contextlib.AsyncExitStack() as stack:
        site = await moved(tmp_path, banks, start, workers=2)
        banks.modern.decide = _hangs_first(set())
        for key in LOST:
            (await stack.enter_async_context(connected(site.instance.address))).send(pays(key))
        await until(lambda: banks.modern.hanging == len(LOST), otherwise="modern did not get all")
        still, _ = await until(lambda: _both(site), otherwise="two workers did not serve")
        os.kill(still, signal.SIGSTOP)
        try:
            rolling_back = asyncio.create_task(roll_back(tmp_path))
            end = asyncio.get_running_loop().time() + STILL_SECONDS
            while asyncio.get_running_loop().time() < end and not banks.twice():
                await asyncio.gather(*(_asked(site, key, within=_NO_ANSWER_SECONDS) for key in LOST))
            await rolling_back
        finally:
            os.kill(still, signal.SIGCONT)
        assert banks.twice() == set()

        for key in LOST:
            await until(partial(_is_served, site, key), otherwise=f"{key} was not served in the end")
        assert banks.twice() == set()
        assert {banks.at(key) for key in LOST} == {"modern"}


def _hangs_first(seen: set[str]) -> Decide:
    """Return a decision to hang at the first try of each key, and to answer the next ones."""

    def decide(call: Call) -> Fault:
        if call.key in seen or call.key not in LOST:
            return Fault.NONE
        seen.add(call.key)
        return Fault.HANG

    return decide


async def _asked(site: Moved, key: str, *, within: float) -> Answer | None:
    """Return the answer to the payment *key*, None if there is none *within* so many seconds."""
    with contextlib.suppress(OSError, EOFError):
        async with asyncio.timeout(within):
            return await ask(site.instance.address, pays(key))
    return None


async def _is_served(site: Moved, key: str) -> bool:
    answer = await _asked(site, key, within=_ANSWER_SECONDS)
    return answer is not None and answer.status in {200, 201}


async def _both(site: Moved) -> list[int]:
    serving = await site.instance.serving()
    return serving if len(serving) == 2 else []
