"""The only place that reads the time."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of the code may ask of time."""

    def now(self) -> float:
        """Return seconds since the epoch: for claims, records and shared state only."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back: for how long. On Linux it is one clock for all processes."""

    async def sleep(self, seconds: float) -> None:
        """Let *seconds* of monotonic time pass."""


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)


def timestamp(seconds: float) -> str:
    """Return epoch *seconds* as RFC 3339 in UTC with microseconds, as records carry it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
