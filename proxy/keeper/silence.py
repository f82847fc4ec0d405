"""How long a worker has not been heard: what tells one that hangs from one that has nothing to say."""

from proxy.clock import Clock

# Workers send their counters each second, which is their heartbeat.
UNREADY_SECONDS = 5.0
DEAD_SECONDS = 15.0
# An interpreter starts in half a second; its journal is on a disk that may be slow, on a machine that may be busy.
STARTED_SECONDS = 60.0
LOOK_SECONDS = 0.5
# The keeper may have been stopped together with its workers, as a paused container is, or be short of time itself: of
# what passed between two looks so much counts, and what a worker sent meanwhile is read before the next look.
_MOST_A_LOOK_SECONDS = 2 * LOOK_SECONDS


class Silence:
    """The seconds since a worker was last heard; `look` at it each LOOK_SECONDS."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked = clock.monotonic()
        self.seconds = 0.0

    def heard(self) -> None:
        """Begin anew: the worker said something."""
        self.seconds = 0.0

    def look(self) -> float:
        """Return the seconds, as far as the keeper itself was there to hear."""
        now = self._clock.monotonic()
        self.seconds += min(now - self._looked, _MOST_A_LOOK_SECONDS)
        self._looked = now
        return self.seconds

    def __repr__(self) -> str:
        return f"<Silence of {self.seconds:.1f} s>"
