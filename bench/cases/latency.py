"""Latency: an open loop of 1000 requests a second; the median ranks, since p99 on a shared machine is noise.

Each round measures the bank without a proxy, over TLS, and each candidate with callers over TCP and over TLS, on
connections that are kept alive. Every way has TLS to the bank in it, so that what a candidate adds is all its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import socket
from statistics import median, quantiles

from bench.bank import PAYMENT, PAYMENT_PATH, SMALL_PATH, TOKEN
from bench.bed import Bed, shuffled
from bench.candidates import TLS
from bench.load import by_tcp, by_tls, open_loop
from bench.report import Goal, Report, middle, spread
from bench.talk import request

RATE = 1000
_CONNECTIONS = 32
_DIRECT = "direct to the bank"
_OURS = "payproxy"
_ASYNC = "payproxy async"
_BY_TCP = ""
_PEERS = ("nginx", "Envoy")
_KEY = "Idempotency-Key: bench-0001"
# By nginx's and by Envoy's; milliseconds for the intent.
_WANTED = {"nginx": 1.2, "Envoy": 1.0}
_DURABLE_MS = 0.25
_HEAD = (
    "way", "callers over", "p50 us", "added p50 us", "smallest to largest", "by nginx's", "by Envoy's",
    "p99 us (noise)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Case:
    """What is sent by which candidates; *data* makes the request from further header fields."""

    title: str
    names: tuple[str, ...]
    data: Callable[[Sequence[str]], bytes]
    body: bytes
    goals: Callable[[str, "Added"], list[Goal]]


Added = dict[str, list[float]]


def measure(bed: Bed) -> list[Report]:
    """Return a report of reads and one of payments."""
    reads = _Case(
        "GET 541 B",
        (_OURS, *_PEERS, "naive"),
        lambda fields: request("GET", SMALL_PATH, fields=fields),
        bed.bank.small,
        _beside_peers,
    )
    payments = _Case(
        "POST 1 KB, payproxy with a durable intent and without waiting for one (async)",
        (_OURS, _ASYNC, *_PEERS),
        lambda fields: request("POST", PAYMENT_PATH, body=PAYMENT, fields=[_KEY, *fields]),
        bed.bank.payment,
        _durable,
    )
    return [_report(bed, reads), _report(bed, payments)]


def _report(bed: Bed, case: _Case) -> Report:
    candidates = bed.candidates([name + tls for name in case.names for tls in (_BY_TCP, TLS)])
    ways = {
        name: by_tls(one.port, bed.bank.certificate) if name.endswith(TLS) else by_tcp(one.port)
        for name, one in candidates.items()
    }
    ways[_DIRECT] = by_tls(bed.bank.port, bed.bank.certificate)
    half: dict[str, list[float]] = {name: [] for name in ways}
    tail: dict[str, list[float]] = {name: [] for name in ways}
    windows, seconds = bed.effort.open_loop
    for _ in range(bed.effort.rounds * windows):
        for name in shuffled(list(ways)):
            data = case.data((f"Authorization: Bearer {TOKEN}",) if name == _DIRECT else ())
            p50, p99 = _took(ways[name], data, case.body, seconds)
            half[name].append(p50)
            tail[name].append(p99)
    added = {name: [p50 - direct for p50, direct in zip(half[name], half[_DIRECT], strict=True)] for name in half}
    rows = [
        _row(name, tls, half, added, tail)
        for tls in (_BY_TCP, TLS)
        for name in case.names
        if name + tls in half
    ]  # fmt: skip
    direct = [_DIRECT, "TLS", f"{middle(half[_DIRECT]):.0f}", *[""] * 4, f"{middle(tail[_DIRECT]):.0f}"]
    goals = [goal for tls in (_BY_TCP, TLS) for goal in case.goals(tls, added)]
    return Report.of(f"Latency at {RATE} requests/s: {case.title}", _HEAD, [direct, *rows], goals)


def _row(name: str, tls: str, half: Added, added: Added, tail: Added) -> list[str]:
    way = name + tls
    return [
        "payproxy, durable intent" if _ASYNC in half and name == _OURS else name,
        _callers(tls),
        f"{middle(half[way]):.0f}",
        f"{middle(added[way]):.0f}",
        spread(added[way], 0),
        *(f"{_by(added[way], added[peer + tls]):.2f}" if peer + tls in added else "" for peer in _PEERS),
        f"{middle(tail[way]):.0f}",
    ]


def _callers(tls: str) -> str:
    return "TLS" if tls else "TCP"


def _by(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the rounds of *ours* by *theirs*."""
    return median(mine / base for mine, base in zip(ours, theirs, strict=True))


def _beside_peers(tls: str, added: Added) -> list[Goal]:
    return [
        Goal(
            name=f"added p50 at {RATE}/s, callers over {_callers(tls)}, by {peer}'s",
            value=_by(added[_OURS + tls], added[peer + tls]),
            limit=limit,
            unit="",
        )
        for peer, limit in _WANTED.items()
        if peer + tls in added
    ]


def _durable(tls: str, added: Added) -> list[Goal]:
    more = [durable - other for durable, other in zip(added[_OURS + tls], added[_ASYNC + tls], strict=True)]
    name = f"p50 that a durable intent adds at {RATE}/s, callers over {_callers(tls)}"
    return [Goal(name=name, value=middle(more) / 1000, limit=_DURABLE_MS, unit="ms")]


def _took(way: Callable[[], socket], data: bytes, body: bytes, seconds: float) -> tuple[float, float]:
    """Return p50 and p99 of *data* on *way*, in microseconds; the first requests open the connections to the bank."""
    open_loop(way, data, body=body, rate=RATE, seconds=seconds / 4, connections=_CONNECTIONS)
    took = open_loop(way, data, body=body, rate=RATE, seconds=seconds, connections=_CONNECTIONS)
    parts = quantiles(took, n=100)
    return parts[49] * 1e6, parts[98] * 1e6
