"""Workers: what a request costs with four of them beside one, at payproxy, nginx and Envoy.

All workers of a candidate share the one core that every candidate has, so that the load's core disturbs neither: what
is measured is what dividing the work costs (fewer requests gathered in a turn, more switches, a sync of each worker's
own journal, code at four different addresses), not how throughput grows with cores, for which two cores are too
few. One worker with a quarter of the callers gathers as few requests in a turn as each of four does: what four cost
beyond that is neither turns nor syncs.
"""

from dataclasses import dataclass
from functools import partial

from bench.bed import Bed, shuffled
from bench.candidates import FOUR, TLS, Candidate
from bench.machine import CLOCK, Unfit, cpu_seconds, pause, thread_seconds, threads
from bench.report import Goal, Report, least, middle, ratio, spread
from bench.window import window

_CALLERS = 64
_WORKERS = 4
_QUARTER = ", a quarter of the callers"
_START_SECONDS = 30.0
_NAMES = ("payproxy", "nginx", "Envoy")
_LIMIT = 1.1
# Of a fair one, which is a quarter.
_SMALLEST_SHARE = 2 / 3 / _WORKERS
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class _Case:
    """What callers do."""

    name: str
    method: str
    tls: str = ""


_CASES = (
    _Case("GET 541 B", "GET"),
    _Case("POST 1 KB with a durable intent", "POST"),
    _Case("GET over TLS, kept alive", "GET", TLS),
)


class _Measured:
    """One case: per candidate and number of workers CPU per request, and the smallest share of its four workers."""

    def __init__(self) -> None:
        self.cost: dict[str, list[float]] = {}
        self.shares: dict[str, list[float]] = {}

    def take(self, bed: Bed, case: _Case, candidate: Candidate, name: str) -> None:
        """Measure *candidate* once more."""
        apart = _apart(candidate)
        callers = _CALLERS // _WORKERS if name.endswith(_QUARTER) else _CALLERS
        send = partial(
            bed.closed_loop.run, method=case.method, connections=callers, scheme="https" if case.tls else "http"
        )
        self.cost.setdefault(name, []).append(window(bed, candidate, send, share=_SHARE).cpu_us)
        used = [after - before for before, after in zip(apart, _apart(candidate), strict=True)]
        if len(used) == _WORKERS:
            self.shares.setdefault(name, []).append(min(used) / max(sum(used), 1e-9))


def measure(bed: Bed) -> list[Report]:
    """Return one report per case."""
    ones = bed.candidates([name + tls for name in _NAMES for tls in ("", TLS)])
    found = {case: _Measured() for case in _CASES}
    with bed.fresh([name + FOUR + tls for name in _NAMES for tls in ("", TLS)]) as fours:
        for four in fours.values():
            _until_all_run(four)
        for _ in range(bed.effort.rounds):
            for case in _CASES:
                for name in shuffled([name + variant for name in _NAMES for variant in ("", _QUARTER, FOUR)]):
                    candidate = {**ones, **fours}.get(name.removesuffix(_QUARTER) + case.tls)
                    if candidate is not None:
                        found[case].take(bed, case, candidate, name)
    return [_report(case, measured) for case, measured in found.items()]


def _apart(candidate: Candidate) -> list[float]:
    """Return the seconds of CPU of each worker: Envoy's are threads, the others' children of the first process."""
    root, *workers = candidate.processes
    if workers:
        return [cpu_seconds([pid]) for pid in workers]
    return [thread_seconds(root, thread) for thread, name in threads(root).items() if name.startswith("wrk:worker_")]


def _until_all_run(candidate: Candidate) -> None:
    end = CLOCK.monotonic() + _START_SECONDS
    while len(_apart(candidate)) != _WORKERS:
        if CLOCK.monotonic() > end:
            raise Unfit(f"{candidate.name} runs {len(_apart(candidate))} workers")
        pause(0.1)


def _report(case: _Case, measured: _Measured) -> Report:
    cost = measured.cost
    names = [name for name in _NAMES if name in cost]
    rows = [
        [
            name,
            f"{middle(cost[name]):.1f}",
            f"{ratio(cost[name], cost[name + _QUARTER]):.2f}",
            f"{middle(cost[name + FOUR]):.1f}",
            spread(cost[name + FOUR]),
            f"{ratio(cost[name], cost[name + FOUR]):.2f}",
            f"{middle(measured.shares[name + FOUR]):.2f}",
            *(f"{ratio(cost[name + FOUR], cost[peer + FOUR]):.2f}" for peer in names[1:]),
        ]
        for name in names
    ]
    head = (
        "candidate", "one: CPU us/request", "with a quarter of the callers / one", "four", "smallest to largest",
        "four / one", "share of the least busy of the four", *(f"four: {peer}'s / its" for peer in names[1:]),
    )  # fmt: skip
    title = f"Workers: {case.name}, {_CALLERS} callers, all workers on one core"
    return Report.of(title, head, rows, _goals(case, measured))


def _goals(case: _Case, measured: _Measured) -> list[Goal]:
    ours, four = _NAMES[0], _NAMES[0] + FOUR
    by_one = {name: ratio(measured.cost[name], measured.cost[name + FOUR]) for name in _NAMES if name in measured.cost}
    peers = ", ".join(f"{name} {value:.2f}" for name, value in by_one.items() if name != ours)
    goals = [
        Goal(
            name=f"{case.name}: CPU per request of four workers by that of one ({peers})",
            value=by_one[ours],
            limit=_LIMIT,
            unit="",
        ),
        Goal(
            name=f"{case.name}: share of the least busy of four workers (of their CPU)",
            value=middle(measured.shares[four]),
            limit=round(_SMALLEST_SHARE, 3),
            unit="",
            at_most=False,
        ),
    ]
    if f"Envoy{FOUR}" in measured.cost:
        goals.append(
            least(
                "Envoy",
                subject=f"{case.name}, four workers each",
                of=measured.cost[four],
                to=measured.cost[f"Envoy{FOUR}"],
                limit=1.0,
            )
        )
    return goals
