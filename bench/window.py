"""One window of a closed loop: the CPU that a request costs its candidate, and whether the work was really done."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.bank import Count
from bench.bed import Bed
from bench.candidates import Candidate
from bench.load import Load
from bench.machine import TICK_SECONDS
from bench.talk import WrongAnswer

# Beside the requests counted: what was in flight at the end (at most 64 callers), what verifies, mints and counts.
_BESIDE = 200
# A candidate keeps connections to the bank; peers open a few more than they have callers when load begins.
_CONNECTIONS_PER_REQUEST = 0.05

Send = Callable[[int, float], Load]


@dataclass(frozen=True, slots=True)
class Window:
    """Microseconds of CPU that a request cost, of all processes of the candidate, and requests a second."""

    cpu_us: float
    per_second: float


def window(bed: Bed, candidate: Candidate, send: Send, *, share: float = 1.0) -> Window:
    """Warm *candidate* up, verify it, measure while *send* (port, seconds) loads it; raises WrongAnswer.

    *share* is how much of the run's usual window is wanted.
    """
    if bed.effort.warm_up:
        send(candidate.port, bed.effort.warm_up * share)
    candidate.verify(bed.bank)
    before, asked, logged = candidate.cpu(), bed.bank.count(), candidate.logged_bytes()
    load = send(candidate.port, bed.effort.seconds * share)
    check(candidate.name, load, asked, bed.bank.count())
    candidate.until_logged(load.requests, since=logged)
    # The kernel counts in ticks: a candidate that got less than one in a short window on a busy machine used some.
    used = max(candidate.cpu() - before, TICK_SECONDS)
    candidate.verify(bed.bank)
    return Window(used / load.requests * 1e6, load.per_second)


def check(name: str, load: Load, before: Count, after: Count) -> None:
    """Raise WrongAnswer unless the bank answered each request of *load* once, on connections that were kept."""
    asked = after.requests - before.requests
    if not load.requests <= asked <= load.requests * 1.01 + _BESIDE:
        raise WrongAnswer(f"{name} answered {load.requests} requests, but the bank was asked {asked} times")
    opened = after.connections - before.connections
    if opened > load.requests * _CONNECTIONS_PER_REQUEST + _BESIDE:
        raise WrongAnswer(f"{name} opened {opened} connections to the bank for {load.requests} requests")
