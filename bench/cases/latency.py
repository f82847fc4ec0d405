"""Latency: an open loop of 1000 requests a second; the median ranks, since p99 on a shared machine is noise.

What a durable intent adds is measured by POSTs, beside payproxy that does not wait for the disk.
"""

from collections.abc import Callable, Sequence
from socket import socket
from statistics import quantiles

from bench.bank import PAYMENT, PAYMENT_PATH, SMALL_PATH, TOKEN
from bench.bed import Bed, shuffled
from bench.load import open_loop, to_bank, to_proxy
from bench.report import Goal, Report, middle, spread
from bench.talk import request

RATE = 1000
_CONNECTIONS = 32
_DIRECT = "no proxy"
_NAMES = ("payproxy", "nginx", "Envoy", "naive")
_DURABLE = "payproxy"
_ASYNC = "payproxy async"


def measure(bed: Bed) -> list[Report]:
    """Return one report of reads beside the peers, and one of durable intents."""
    return [_reads(bed), _payments(bed)]


def _reads(bed: Bed) -> Report:
    half: dict[str, list[float]] = {}
    tail: dict[str, list[float]] = {}
    candidates = bed.candidates(_NAMES)
    ways = {name: to_proxy(candidate.port) for name, candidate in candidates.items()}
    ways[_DIRECT] = to_bank(bed.bank.port, bed.bank.certificate)
    fields = (f"Authorization: Bearer {TOKEN}",)
    for _ in range(bed.effort.rounds):
        for name in shuffled(list(ways)):
            data = request("GET", SMALL_PATH, fields=fields if name == _DIRECT else ())
            p50, p99 = _took(bed, ways[name], data)
            half.setdefault(name, []).append(p50)
            tail.setdefault(name, []).append(p99)
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
    return Report.of(f"Latency: GET 541 B over TLS at {RATE} requests/s", head, rows, goals)


def _payments(bed: Bed) -> Report:
    data = request("POST", PAYMENT_PATH, body=PAYMENT, fields=("Idempotency-Key: bench-0001",))
    ways = {name: to_proxy(one.port) for name, one in bed.candidates((_DURABLE, _ASYNC)).items()}
    half: dict[str, list[float]] = {}
    tail: dict[str, list[float]] = {}
    for _ in range(bed.effort.rounds):
        for name in shuffled(list(ways)):
            p50, p99 = _took(bed, ways[name], data)
            half.setdefault(name, []).append(p50)
            tail.setdefault(name, []).append(p99)
    rows = [
        [name, f"{middle(half[name]):.0f}", spread(half[name], 0), f"{middle(tail[name]):.0f}"]
        for name in (_DURABLE, _ASYNC)
    ]
    added = _minus(half[_DURABLE], half[_ASYNC])
    goal = Goal(name="p50 that a durable intent adds at 1000/s", value=middle(added) / 1000, limit=1.0, unit="ms")
    head = ("way", "p50 us", "smallest to largest", "p99 us (noise)")
    return Report.of(f"Latency: POST 1 KB over TLS at {RATE} requests/s", head, rows, [goal])


def _took(bed: Bed, way: Callable[[], socket], data: bytes) -> tuple[float, float]:
    """Return p50 and p99 of *data* on *way*, in microseconds; the first requests open the connections to the bank."""
    open_loop(way, data, rate=RATE, seconds=0.2 + bed.effort.warm_up, connections=_CONNECTIONS)
    took = open_loop(way, data, rate=RATE, seconds=bed.effort.seconds / 2, connections=_CONNECTIONS)
    parts = quantiles(took, n=100)
    return parts[49] * 1e6, parts[98] * 1e6


def _minus(values: Sequence[float], base: Sequence[float]) -> list[float]:
    return [value - least for value, least in zip(values, base, strict=True)]
