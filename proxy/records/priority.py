"""How threads leave the processor to the loops, for which callers wait (Linux: class and nice value are a thread's)."""

import contextlib
import os
import threading

_NICE = 10


def give_way() -> None:
    """Let this thread begin when a loop on its processor has ended its turn, instead of interrupting it."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def step_back() -> None:
    """Let this thread run only when keeper and workers don't need the processor."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
