"""The only module that reads the time."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The clock interface for the rest of the code."""

    def now(self) -> float:
        """Return seconds since the epoch: for claims, records and shared state only."""

    def monotonic(self) -> float:
        """Return monotonic seconds, for durations. On Linux the clock is the same for all processes."""

    async def sleep(self, seconds: float) -> None:
        """Wait *seconds* of monotonic time."""


class SystemClock:
    """The system's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)


def timestamp(seconds: float) -> str:
    """Return epoch *seconds* as RFC 3339 in UTC with microseconds, the format of records."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
