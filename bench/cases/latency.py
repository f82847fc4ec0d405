"""Latency: an open loop of 1000 requests a second; the median ranks, since p99 on a shared machine is noise."""

from collections.abc import Sequence
from statistics import quantiles

from bench.bank import SMALL_PATH, TOKEN
from bench.bed import Bed, shuffled
from bench.load import open_loop, to_bank, to_proxy
from bench.report import Goal, Report, middle, spread
from bench.talk import request

RATE = 1000
_CONNECTIONS = 32
_DIRECT = "no proxy"
_NAMES = ("payproxy", "nginx", "Envoy", "naive")


def measure(bed: Bed) -> list[Report]:
    """Return the one report."""
    half: dict[str, list[float]] = {}
    tail: dict[str, list[float]] = {}
    candidates = bed.candidates(_NAMES)
    ways = {name: to_proxy(candidate.port) for name, candidate in candidates.items()}
    ways[_DIRECT] = to_bank(bed.bank.port, bed.bank.certificate)
    fields = (f"Authorization: Bearer {TOKEN}",)
    for _ in range(bed.effort.rounds):
        for name in shuffled(list(ways)):
            data = request("GET", SMALL_PATH, fields=fields if name == _DIRECT else ())
            # The connections to the bank are opened by the first requests.
            open_loop(ways[name], data, rate=RATE, seconds=0.2 + bed.effort.warm_up, connections=_CONNECTIONS)
            took = open_loop(ways[name], data, rate=RATE, seconds=bed.effort.seconds / 2, connections=_CONNECTIONS)
            parts = quantiles(took, n=100)
            half.setdefault(name, []).append(parts[49] * 1e6)
            tail.setdefault(name, []).append(parts[98] * 1e6)
    added = {name: _minus(half[name], half[_DIRECT]) for name in half}
    rows = [
        [
            name,
            f"{middle(half[name]):.0f}",
            f"{middle(added[name]):.0f}",
            spread(added[name], 0),
            f"{middle(tail[name]):.0f}",
        ]
        for name in (_DIRECT, *_NAMES)
        if name in half
    ]
    goals = [Goal(name="added p50 at 1000/s", value=middle(added["payproxy"]), limit=130, unit="us")]
    if "nginx" in added:
        goals.append(
            Goal(
                name="added p50 at 1000/s, by nginx's",
                value=middle([ours / base for ours, base in zip(added["payproxy"], added["nginx"], strict=True)]),
                limit=1.6,
                unit="",
            )
        )
    head = ("way", "p50 us", "added p50 us", "smallest to largest", "p99 us (noise)")
    return [Report.of(f"Latency: GET 541 B over TLS at {RATE} requests/s", head, rows, goals)]


def _minus(values: Sequence[float], base: Sequence[float]) -> list[float]:
    return [value - least for value, least in zip(values, base, strict=True)]
