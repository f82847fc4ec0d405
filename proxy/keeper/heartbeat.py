"""Whether a worker is heard: what tells one that hangs from one that has no callers."""

from proxy.clock import Clock

# Workers send their counters each second, which is their heartbeat; any other message counts as one too.
UNREADY_SECONDS = 5.0
DEAD_SECONDS = 15.0
# An interpreter starts in half a second; its journal is on a disk that may be slow, on a machine that may be busy.
STARTED_SECONDS = 60.0
CHECK_SECONDS = 0.5
# The keeper may have been stopped together with its workers, as a paused container is, or be short of time itself: of
# what passed between two checks so much counts, and what a worker sent meanwhile is read before the next check.
_MOST_A_CHECK_SECONDS = 2 * CHECK_SECONDS


class Heartbeat:
    """How many *seconds* one worker has not been heard; `check` it each CHECK_SECONDS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checked = clock.monotonic()
        self.seconds = 0.0

    def received(self) -> None:
        """Begin anew: the worker sent something."""
        self.seconds = 0.0

    def check(self) -> float:
        """Return the seconds, as far as the keeper itself was there to hear."""
        now = self._clock.monotonic()
        self.seconds += min(now - self._checked, _MOST_A_CHECK_SECONDS)
        self._checked = now
        return self.seconds

    def __repr__(self) -> str:
        return f"<Heartbeat {self.seconds:.1f} s ago>"
