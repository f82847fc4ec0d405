"""The scheduling class of the journal's thread (Linux sets it per thread)."""

import contextlib
import os

_WINDOW_SECONDS = 0.25
# Above this rate the machine does little else than such requests.
_BUSY_PER_SECOND = 3000


class BatchScheduling:
    """Switches the calling thread to SCHED_BATCH while it is busy.

    Where thread and event loop share a processor, a sync then carries three times as many intents. Without it a POST
    with a durable intent took 90 us of CPU instead of 71 to 86 (bench, two trees in turn, 2026-11-28). When idle it
    would only delay callers, by some milliseconds if other programs want the processor too.
    """

    def __init__(self) -> None:
        self._batch = False
        self._done = 0
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<BatchScheduling {'on' if self._batch else 'off'}>"

    def count(self, number: int, *, now: float) -> None:
        """Note that *number* waiters were served by *now*, in monotonic seconds."""
        self._done += number
        took = now - self._since
        if took < _WINDOW_SECONDS:
            return
        busy = self._done > _BUSY_PER_SECOND * took
        self._done, self._since = 0, now
        if busy != self._batch:
            self._batch = busy
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH if busy else os.SCHED_OTHER, os.sched_param(0))
