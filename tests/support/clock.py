"""A clock that tests turn by hand."""

import asyncio
import heapq


class ManualClock:
    """Time stands still until `advance`; sleepers wake in order."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        """Return the wall clock."""
        return self._now

    def monotonic(self) -> float:
        """Return the clock for how long."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed *seconds*."""
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + max(seconds, 0), self._count, future))
        await future

    def set_wall(self, now: float) -> None:
        """Set the wall clock alone, as an operator or NTP would."""
        self._now = now

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass, waking sleepers at their time and letting the loop run after each."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._now += due - self._monotonic
            self._monotonic = due
            if not future.done():
                future.set_result(None)
            await settle()
        self._now += end - self._monotonic
        self._monotonic = end
        await settle()


async def settle(turns: int = 20) -> None:
    """Let everything that is ready on the loop run."""
    for _ in range(turns):
        await asyncio.sleep(0)
