"""Scheduling classes and nice values that favour the event loops over threads (Linux sets both per thread)."""

import contextlib
import os
import threading

_NICE = 10
_WINDOW_SECONDS = 0.25
# Above this rate the machine does little else than such requests.
_BUSY_PER_SECOND = 3000


def give_way() -> None:
    """Make this thread wait until a loop on its processor sleeps, instead of preempting it."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Courtesy:
    """Switches the calling thread to SCHED_BATCH while it is busy.

    Where thread and loop share a processor, a sync then carries three times as many intents, and each costs 10 us less.
    When idle it would only delay callers, by some milliseconds if other programs want the processor too.
    """

    def __init__(self) -> None:
        self.gives_way = False
        self._done = 0
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Courtesy {'gives way' if self.gives_way else 'waits for nobody'}>"

    def did(self, number: int, *, now: float) -> None:
        """Note that *number* waiters were served by *now*, in monotonic seconds."""
        self._done += number
        took = now - self._since
        if took < _WINDOW_SECONDS:
            return
        busy = self._done > _BUSY_PER_SECOND * took
        self._done, self._since = 0, now
        if busy != self.gives_way:
            self.gives_way = busy
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH if busy else os.SCHED_OTHER, os.sched_param(0))


def step_back() -> None:
    """Let this thread run only when keeper and workers don't need the processor."""
    with contextlib.suppress(OSError):  # a process that is nicer already may not go back
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
