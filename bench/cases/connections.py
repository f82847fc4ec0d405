"""CPU per request of callers that open a connection for each, as old systems do, and of callers over TLS."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.bank import PAYMENT, PAYMENT_PATH, SMALL_PATH
from bench.bed import Bed, shuffled
from bench.candidates import TLS
from bench.load import Load
from bench.reconnecting import Closes, Exchange, Tls, reconnecting
from bench.report import Report, least, middle, ratio, spread
from bench.talk import request
from bench.window import window

CALLERS = 32
_OURS = "payproxy"
_PEERS = ("nginx", "Envoy", "naive")
_KEY = "Idempotency-Key: bench-0001"
_EACH = "a connection a request"

# Of the run's usual window: connections are many, and six cases of four candidates.
_SHARE = 0.5

Send = Callable[[Bed, int, float], Load]


@dataclass(frozen=True, slots=True)
class _Case:
    """What callers do, over TLS or not; *goals* are the least that peers' CPU by ours shall be."""

    name: str
    send: Send
    goals: tuple[tuple[str, float], ...] = ()
    tls: bool = False


def _each(method: str, closes: Closes, *, resuming: bool | None = None) -> Send:
    """Return how a connection is opened for each request, over TLS if *resuming* is not None."""

    def send(bed: Bed, port: int, seconds: float) -> Load:
        fields = [
            field for field, wanted in ((_KEY, method == "POST"), (closes.value, closes is Closes.SERVER)) if wanted
        ]
        get = Exchange(request("GET", SMALL_PATH, fields=fields), bed.bank.small)
        post = Exchange(request("POST", PAYMENT_PATH, body=PAYMENT, fields=fields), bed.bank.payment)
        tls = None if resuming is None else Tls(bed.bank.certificate, resuming=resuming)
        exchange = post if method == "POST" else get
        return reconnecting(port, exchange, closes=closes, callers=CALLERS, seconds=seconds, tls=tls)

    return send


def _kept(bed: Bed, port: int, seconds: float) -> Load:
    return bed.closed_loop.run(port, seconds, method="GET", connections=CALLERS, scheme="https")


_CASES = (
    _Case(f"GET, {_EACH}, Connection: close", _each("GET", Closes.SERVER), (("Envoy", 1.0), ("nginx", 0.4))),
    _Case(f"GET, {_EACH}, the caller closes", _each("GET", Closes.CALLER)),
    _Case(f"POST 1 KB with a durable intent, {_EACH}", _each("POST", Closes.SERVER), (("Envoy", 0.9), ("nginx", 0.4))),
    _Case(f"GET over TLS, {_EACH}", _each("GET", Closes.SERVER, resuming=False), (("Envoy", 1.0),), tls=True),
    _Case(
        f"GET over TLS, {_EACH}, sessions resumed",
        _each("GET", Closes.SERVER, resuming=True),
        (("Envoy", 1.0),),
        tls=True,
    ),
    _Case("GET over TLS, kept alive", _kept, (("Envoy", 1.0),), tls=True),
)


def measure(bed: Bed) -> list[Report]:
    """Return one report per case."""
    names = [_OURS, *_PEERS]
    candidates = bed.candidates([*names, *(name + TLS for name in names)])
    cost: dict[str, dict[str, list[float]]] = {case.name: {} for case in _CASES}
    for _ in range(bed.effort.rounds):
        for case in _CASES:
            for name in shuffled([name for name in names if name in candidates]):
                used = window(bed, candidates[name + TLS * case.tls], partial(case.send, bed), share=_SHARE)
                cost[case.name].setdefault(name, []).append(used.cpu_us)
    return [_report(case, cost[case.name]) for case in _CASES]


def _report(case: _Case, cost: dict[str, list[float]]) -> Report:
    peers = [peer for peer in _PEERS if peer in cost]
    rows = [
        [name, f"{middle(used):.1f}", spread(used), *(f"{ratio(used, cost[peer]):.2f}" for peer in peers)]
        for name, used in ((name, cost[name]) for name in (_OURS, *_PEERS) if name in cost)
    ]
    head = ("candidate", "CPU us/request", "smallest to largest", *(f"{peer}'s / its" for peer in peers))
    goals = [
        least(peer, subject=case.name, of=cost[_OURS], to=cost[peer], limit=limit)
        for peer, limit in case.goals
        if peer in cost
    ]
    return Report.of(f"CPU per request: {case.name}, {CALLERS} callers", head, rows, goals)
