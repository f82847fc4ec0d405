"""Timers of many connections on one timer of the loop."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

# Timers fire up to this much late, in seconds: for deadlines of seconds only.
RESOLUTION: Final = 0.1


class WheelHandle:
    """A callback that the wheel will call once, unless it is cancelled."""

    __slots__ = ("_waiting", "callback")

    def __init__(self, waiting: "dict[WheelHandle, None]", callback: Callable[[], None]) -> None:
        self._waiting = waiting
        self.callback = callback
        waiting[self] = None

    def cancel(self) -> None:
        """Don't call it."""
        self._waiting.pop(self, None)


class TimerWheel:
    """Calls callbacks at their time: one timer of the loop per tick of RESOLUTION, however many callbacks wait.

    A timer of the loop costs each connection more than its first request's parsing (measured: 4 us to make and cancel
    it with uvloop); this takes a look-up in a dictionary.
    """

    __slots__ = ("_alarm", "_at", "_loop", "_ticks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ticks: dict[int, dict[WheelHandle, None]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._at = 0  # the tick of the alarm

    def call_later(self, seconds: float, callback: Callable[[], None]) -> WheelHandle:
        """Call *callback* in *seconds*, or up to RESOLUTION later."""
        tick = math.ceil((self._loop.time() + seconds) / RESOLUTION)
        waiting = self._ticks.get(tick)
        if waiting is None:
            waiting = self._ticks[tick] = {}
            if self._alarm is None or tick < self._at:
                self._set_alarm(tick)
        return WheelHandle(waiting, callback)

    def _set_alarm(self, tick: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._at = tick
        self._alarm = self._loop.call_later(max(tick * RESOLUTION - self._loop.time(), 0), self._fire)

    def _fire(self) -> None:
        self._alarm = None
        now = self._loop.time() / RESOLUTION
        due = [self._ticks.pop(tick) for tick in sorted(self._ticks) if tick <= now]
        if self._ticks:
            self._set_alarm(min(self._ticks))
        for waiting in due:
            for handle in list(waiting):
                if handle in waiting:  # not cancelled by one before it
                    handle.cancel()
                    try:
                        handle.callback()
                    except Exception as error:  # noqa: BLE001 - the others' deadlines hold
                        self._loop.call_exception_handler({"message": "a timer failed", "exception": error})

    def __repr__(self) -> str:
        return f"<TimerWheel {sum(map(len, self._ticks.values()))} timers>"
