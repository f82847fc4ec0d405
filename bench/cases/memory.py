"""Memory: idle, after load, and what a caller's idle connection costs."""

from bench.bank import SMALL_PATH
from bench.bed import Bed
from bench.candidates import Candidate
from bench.cases.cpu import CALLERS
from bench.machine import pause, resident_bytes
from bench.report import Goal, Report
from bench.talk import ask, connected, request

_NAMES = ("payproxy", "nginx", "Envoy", "naive")
_MIB = 1048576
_WARM = 100


def measure(bed: Bed) -> list[Report]:
    """Return the one report."""
    rows, goals = [], []
    candidates = bed.candidates(_NAMES)
    for name, candidate in candidates.items():
        idle = [resident_bytes([pid]) / _MIB for pid in candidate.processes]
        per_caller = _per_caller(candidate, bed)
        bed.closed_loop.run(candidate.port, bed.effort.seconds, method="POST", connections=CALLERS)
        candidate.cpu()
        loaded = [resident_bytes([pid]) / _MIB for pid in candidate.processes]
        rows.append([name, _each(idle), _each(loaded), f"{per_caller / 1024:.1f}"])
        if name == "payproxy":
            goals.append(Goal(name="memory per idle caller", value=per_caller / 1024, limit=10, unit="KB"))
    head = (
        "candidate", "resident MB, idle (payproxy: keeper + worker)", "after load", "KB per idle connection"
    )  # fmt: skip
    return [Report.of(f"Memory ({bed.effort.idle_callers} idle callers, each after one request)", head, rows, goals)]


def _per_caller(candidate: Candidate, bed: Bed) -> float:
    """Return bytes per connection that has had its answer and stays; the first hundred warm allocators up."""
    data = request("GET", SMALL_PATH)
    callers = []
    try:
        for number in range(_WARM + bed.effort.idle_callers):
            if number == _WARM:
                pause(0.2)
                before = resident_bytes(candidate.processes)
            caller = connected(candidate.port)
            callers.append(caller)
            ask(caller, data)
        pause(0.2)
        return (resident_bytes(candidate.processes) - before) / bed.effort.idle_callers
    finally:
        for caller in callers:
            caller.close()


def _each(parts: list[float]) -> str:
    return " + ".join(f"{part:.0f}" for part in parts)
