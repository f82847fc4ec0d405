"""What else the machine did while a case was measured: on a busy one, figures are larger and less even."""

import os
from dataclasses import dataclass

from bench.machine import CLOCK, cpu_seconds, family, pause, processes, stolen_seconds

# Of one core. An idle machine's own services stay below it; from here on medians of three rounds begin to move.
BUSY_CORES = 0.1
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Around:
    """Load averages of one minute (they count our own work too) and the cores that others used in between."""

    load_at_start: float
    load_at_end: float
    others: float

    @property
    def busy(self) -> bool:
        """Return whether others may have moved the figures."""
        return self.others > BUSY_CORES

    def __str__(self) -> str:
        said = f"load average {self.load_at_start:.2f} at the start, {self.load_at_end:.2f} at the end; "
        if self.busy:
            return f"{said}**on a busy machine: other processes used {self.others:.2f} of {os.cpu_count()} cores**"
        return f"{said}other processes used {self.others:.2f} cores"


class OtherWork:
    """Looks at the machine from its making on."""

    def __init__(self) -> None:
        self._began = CLOCK.monotonic()
        self._load = os.getloadavg()[0]
        self._used = _used_by_others()

    def until_now(self) -> Around:
        """Return what was seen."""
        used = max(0.0, _used_by_others() - self._used)
        return Around(self._load, os.getloadavg()[0], used / (CLOCK.monotonic() - self._began))


def warning() -> str:
    """Return what to say before a run whose figures will not be those of an idle machine, "" on one that is idle."""
    looking = OtherWork()
    pause(_LOOK_SECONDS)
    seen = looking.until_now()
    if not seen.busy:
        return ""
    return (
        f"warning: other processes use {seen.others:.2f} of {os.cpu_count()} cores (load average "
        f"{seen.load_at_end:.2f}): the figures will not be those of an idle machine"
    )


def _used_by_others() -> float:
    """Return seconds of CPU of all processes but ours; those that ended count at the parent that waited for them."""
    ours = set(family(os.getpid()))
    return cpu_seconds([pid for pid in processes() if pid not in ours], reaped=True) + stolen_seconds()
