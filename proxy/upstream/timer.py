"""A timer that is moved often and rarely expires."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from proxy.clock import Clock

NEVER: Final = math.inf


class Timer:
    """Calls *expired* once *clock* has passed `expires` (monotonic seconds); moving `expires` to later costs nothing.

    A loop handle that fires too early is re-armed, so it is replaced only if it would fire too late: once in some
    seconds instead of twice per request (`asyncio.timeout` around each wait was measured at 3 us).
    """

    __slots__ = ("_armed", "_expired", "_handle", "_loop", "_monotonic", "expires")

    def __init__(self, expired: Callable[[], None], *, clock: Clock) -> None:
        self.expires = NEVER
        self._expired = expired
        self._monotonic = clock.monotonic
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._armed = NEVER  # when the handle will fire

    def set(self, expires: float) -> None:
        """Change the expiry to *expires*."""
        self.expires = expires
        if expires < self._armed:
            if self._handle is not None:
                self._handle.cancel()
            self._armed = expires
            self._handle = self._loop.call_later(max(expires - self._monotonic(), 0), self._look)

    def cancel(self) -> None:
        """Cancel the timer."""
        self.expires = self._armed = NEVER
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        self._armed = NEVER
        if self._monotonic() < self.expires:
            self.set(self.expires)
        else:
            self.expires = NEVER
            self._expired()
