"""Timeouts for callers, and the timer of a caller connection."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.forwarding.headers import KEEP_ALIVE_SECONDS

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerTimeouts:
    """Timeouts in seconds for a head, between pieces of a body, for reading a response, between two requests.

    After a response that was sent before the whole request was read, the rest is read and dropped, whatever its size,
    until nothing comes for *linger_gap* seconds or *linger* seconds have passed: unread bytes at close make the kernel
    send a reset, which destroys the response at the caller (RFC 9112 9.6). The numbers are nginx's (lingering_timeout,
    lingering_time). At most *lingering* connections are in that state.
    """

    head: float = 10.0
    body_gap: float = 60.0
    unread_answer: float = 60.0
    # Longer than announced: the caller closes first, so that no request is sent to a connection that we close.
    idle: float = KEEP_ALIVE_SECONDS + 5.0
    linger_gap: float = 5.0
    linger: float = 30.0
    lingering: int = 256


CALLER_TIMEOUTS: Final = CallerTimeouts()


class Deadline:
    """A timer that is cheap to re-arm for every wait: the loop's timer handle is moved lazily."""

    __slots__ = ("_due", "_fires", "_loop", "_on_due", "_over", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due = _NEVER
        self._fires = _NEVER
        self._on_due: Callable[[], None] = self.disarm
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def arm(self, seconds: float, on_due: Callable[[], None]) -> None:
        """Call *on_due* after *seconds*, unless `arm` or `disarm` is called first; do nothing after `cancel`."""
        if self._over:
            return
        self._due = self._loop.time() + seconds
        self._on_due = on_due
        if self._timer is None:
            self._set()
        elif self._fires > self._due:
            self._timer.cancel()
            self._set()

    def disarm(self) -> None:
        """Cancel the current deadline."""
        self._due = _NEVER

    def cancel(self) -> None:
        """Cancel for good and leave no timer in the loop: the connection is gone."""
        self._over = True
        self._due = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self._fires = self._due
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._due == _NEVER:
            return
        if self._loop.time() < self._due - 0.001:
            self._set()
            return
        self._due = _NEVER
        self._on_due()
