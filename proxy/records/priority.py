"""How threads leave the processor to the loops, for which callers wait (Linux: class and nice value are a thread's)."""

import contextlib
import os
import threading

_NICE = 10
_WINDOW_SECONDS = 0.25
# Above it the machine is busy with little else than such requests.
_BUSY_PER_SECOND = 3000


def give_way() -> None:
    """Let this thread begin when a loop on its processor has ended its turn, instead of interrupting it."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Courtesy:
    """Lets the thread that it is used in give way as long as that thread has much to do.

    Where thread and loop share a processor, a sync then carries three times as many intents, and each costs 10 us less.
    With little to do it would only make callers wait, by some milliseconds where other programs want the processor too.
    """

    def __init__(self) -> None:
        self.gives_way = False
        self._done = 0
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Courtesy {'gives way' if self.gives_way else 'waits for nobody'}>"

    def did(self, number: int, *, now: float) -> None:
        """Note that so many waited for what was done by *now*, in monotonic seconds."""
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
    with contextlib.suppress(OSError):  # where the whole process is nicer already it may not go back
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
