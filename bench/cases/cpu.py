"""CPU per request: a closed loop of 32 callers, what all of a candidate's processes used, divided by what was done."""

from bench.bed import Bed, shuffled
from bench.report import Goal, Report, middle, ratio, spread

CALLERS = 32
_PEERS = ("nginx", "Envoy", "naive")
_DATABASE = "payproxy, SQLite"
# What is sent, and who is measured with it; payproxy's GET needs no intent, so that its durability plays no part.
_CASES = (
    ("GET 541 B", "GET", ("payproxy", _DATABASE, *_PEERS)),
    ("POST 1 KB", "POST", ("payproxy async", "payproxy", *_PEERS)),
)
_NAMES = {"payproxy": "payproxy, durable intent"}


def measure(bed: Bed) -> list[Report]:
    """Return one report per request."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    candidates = bed.candidates(("payproxy", "payproxy async", _DATABASE, *_PEERS))
    for _ in range(bed.effort.rounds):
        for case, method, names in _CASES:
            for name in shuffled([name for name in names if name in candidates]):
                candidate = candidates[name]
                candidate.verify(bed.bank)
                if bed.effort.warm_up:
                    bed.closed_loop.run(candidate.port, method=method, connections=CALLERS, seconds=bed.effort.warm_up)
                before = candidate.cpu()
                load = bed.closed_loop.run(
                    candidate.port, method=method, connections=CALLERS, seconds=bed.effort.seconds
                )
                used = candidate.cpu() - before
                candidate.verify(bed.bank)
                found.setdefault((case, name), []).append((used / load.requests * 1e6, load.per_second))
    return [
        _report(case, {name: found[case, name] for name in names if (case, name) in found}) for case, _, names in _CASES
    ]


def _report(case: str, found: dict[str, list[tuple[float, float]]]) -> Report:
    cost = {name: [used for used, _ in rounds] for name, rounds in found.items()}
    peers = [peer for peer in _PEERS if peer in cost]
    rows = [
        [
            _NAMES.get(name, name) if case.startswith("POST") else name,
            f"{middle(cost[name]):.1f}",
            spread(cost[name]),
            f"{middle([rate for _, rate in rounds]):,.0f}",
            *(f"{ratio(cost[name], cost[peer]):.2f}" for peer in peers),
        ]
        for name, rounds in found.items()
    ]
    head = (
        "candidate", "CPU us/request", "smallest to largest", "requests/s", *(f"{peer}'s / its" for peer in peers)
    )  # fmt: skip
    return Report.of(f"CPU per request: {case}, {CALLERS} callers", head, rows, _goals(case, cost))


def _goals(case: str, cost: dict[str, list[float]]) -> list[Goal]:
    wanted = {"payproxy": (1.0, 3.5, 0.5)}
    if case.startswith("POST"):
        wanted = {"payproxy async": (1.0, 3.5, 0.5), "payproxy": (0.8, 0.0, 0.0)}
    goals = []
    for name, limits in wanted.items():
        for peer, limit in zip(("Envoy", "naive", "nginx"), limits, strict=True):
            if limit and peer in cost:
                goals.append(
                    Goal(
                        name=f"{case}, {_NAMES.get(name, name) if limits[1] == 0 else name}: {peer}'s CPU by ours",
                        value=ratio(cost[name], cost[peer]),
                        limit=limit,
                        unit="",
                        at_most=False,
                    )
                )
    if _DATABASE in cost:
        rows = [with_it - without for with_it, without in zip(cost[_DATABASE], cost["payproxy"], strict=True)]
        goals.append(
            Goal(name="a row in SQLite: CPU beyond the log's", value=middle(rows), limit=15.0, unit=" us", at_most=True)
        )
    return goals
