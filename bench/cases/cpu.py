"""CPU per request: a closed loop of 32 callers, what all of a candidate's processes used, divided by what was done."""

from functools import partial

from bench.bed import Bed, shuffled
from bench.report import Goal, Report, least, middle, ratio, spread
from bench.window import Window, window

CALLERS = 32
_PEERS = ("nginx", "Envoy", "naive")
_DATABASE = "payproxy, SQLite"
# What is sent, and who is measured with it; payproxy's GET needs no intent, so that its durability plays no part.
_CASES = (
    ("GET 541 B", "GET", ("payproxy", _DATABASE, *_PEERS)),
    ("POST 1 KB", "POST", ("payproxy async", "payproxy", *_PEERS)),
)
_NAMES = {"payproxy": "payproxy, durable intent"}
# What peers' CPU by payproxy's shall be at least.
_WANTED = {
    "GET 541 B": {"nginx": 0.75, "Envoy": 1.4, "naive": 4.5},
    "POST 1 KB": {"nginx": 0.5, "Envoy": 1.3},
}


def measure(bed: Bed) -> list[Report]:
    """Return one report per request."""
    found: dict[tuple[str, str], list[Window]] = {}
    candidates = bed.candidates(("payproxy", "payproxy async", _DATABASE, *_PEERS))
    for _ in range(bed.effort.rounds):
        for case, method, names in _CASES:
            send = partial(bed.closed_loop.run, method=method, connections=CALLERS)
            for name in shuffled([name for name in names if name in candidates]):
                found.setdefault((case, name), []).append(window(bed, candidates[name], send))
    return [
        _report(case, {name: found[case, name] for name in names if (case, name) in found}) for case, _, names in _CASES
    ]


def _report(case: str, found: dict[str, list[Window]]) -> Report:
    cost = {name: [one.cpu_us for one in rounds] for name, rounds in found.items()}
    peers = [peer for peer in _PEERS if peer in cost]
    rows = [
        [
            _name(case, name),
            f"{middle(cost[name]):.1f}",
            spread(cost[name]),
            f"{middle([one.per_second for one in rounds]):,.0f}",
            *(f"{ratio(cost[name], cost[peer]):.2f}" for peer in peers),
        ]
        for name, rounds in found.items()
    ]
    head = (
        "candidate", "CPU us/request", "smallest to largest", "requests/s", *(f"{peer}'s / its" for peer in peers)
    )  # fmt: skip
    return Report.of(f"CPU per request: {case}, {CALLERS} callers", head, rows, _goals(case, cost))


def _name(case: str, name: str) -> str:
    return _NAMES.get(name, name) if case.startswith("POST") else name


def _goals(case: str, cost: dict[str, list[float]]) -> list[Goal]:
    goals = [
        least(peer, subject=f"{case}, {_name(case, 'payproxy')}", of=cost["payproxy"], to=cost[peer], limit=limit)
        for peer, limit in _WANTED[case].items()
        if peer in cost
    ]
    if _DATABASE in cost:
        rows = [with_it - without for with_it, without in zip(cost[_DATABASE], cost["payproxy"], strict=True)]
        goals.append(Goal(name="a row in SQLite: CPU beyond the log's", value=middle(rows), limit=15.0, unit="us"))
    return goals
