"""Detects a worker that hangs, as opposed to one without callers."""

from proxy.clock import Clock

# Workers send their counters each second as a heartbeat; any other message counts as one too.
UNREADY_SECONDS = 5.0
DEAD_SECONDS = 15.0
# An interpreter starts in half a second, but the disk may be slow and the machine busy.
STARTED_SECONDS = 60.0
CHECK_SECONDS = 0.5
# Upper limit of what one check adds: the keeper itself may have been paused with its workers, as in a paused container,
# or lack CPU time. Messages sent meanwhile are read before the next check.
_MOST_A_CHECK_SECONDS = 2 * CHECK_SECONDS


class Heartbeat:
    """Measures for how many *seconds* one worker has sent nothing; call `check` every CHECK_SECONDS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checked = clock.monotonic()
        self.seconds = 0.0

    def received(self) -> None:
        """Reset the count: the worker sent something."""
        self.seconds = 0.0

    def check(self) -> float:
        """Add the time since the last check (limited, see above) and return the total."""
        now = self._clock.monotonic()
        self.seconds += min(now - self._checked, _MOST_A_CHECK_SECONDS)
        self._checked = now
        return self.seconds

    def __repr__(self) -> str:
        return f"<Heartbeat {self.seconds:.1f} s ago>"
