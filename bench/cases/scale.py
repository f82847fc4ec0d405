"""Scale: a thousand rules beside one, two workers beside one."""

import timeit

from bench.bed import Bed, shuffled
from bench.machine import CLOCK, cpu_seconds, pause
from bench.report import Goal, Report, middle, ratio
from proxy.callers.caller import ANONYMOUS
from proxy.credentials.token_key import TokenKey
from proxy.migration.side_cache import SideCache
from proxy.routing.plan import plan
from proxy.routing.request_head import RawHead, RequestHead
from proxy.routing.table import Route, RouteSide, RouteTable
from proxy.routing.target import parse_target

_CALLS = 20_000
_CALLERS = 64
_START_SECONDS = 20.0
_NAMES = {"payproxy": 1, "payproxy two": 2}


def measure(bed: Bed) -> list[Report]:
    """Return a report for rules and one for workers."""
    return [_rules(bed.effort.rounds), _workers(bed)]


def _rules(rounds: int) -> Report:
    took = {number: _plan_us(number, rounds) for number in (1, 1000)}
    rows = [[f"{number:,}", f"{us:.2f}"] for number, us in took.items()]
    goal = Goal(name="plan() with 1000 rules: added to that with one", value=took[1000] - took[1], limit=2, unit="us")
    return Report.of("Rules: plan() alone, for the last one", ("rules", "us/call"), rows, [goal])


def _plan_us(number: int, rounds: int) -> float:
    table = RouteTable(_route(index) for index in range(number))
    target = parse_target(f"/payment/v2/product-{number - 1}/payments?page=2")
    head = RequestHead(RawHead("GET", target.path, (1, 1), []), target, http_1_0=False)
    board = SideCache()

    def call() -> None:
        plan(head, ANONYMOUS, table, board, request_id="bench", now=0.0)

    return min(timeit.repeat(call, number=_CALLS, repeat=2 + rounds)) / _CALLS * 1e6


def _route(index: int) -> Route:
    key = TokenKey(
        token_url="https://127.0.0.1/token",  # noqa: S106  an address, no secret
        client_id="bench",
        auth_method="client_secret_basic",
        audience_parameter="",
        audience="",
        scope="",
        extra_parameters=(),
        credential="bench",
    )
    return Route(
        name=f"product-{index}",
        path=f"/payment/v2/product-{index}",
        methods=frozenset({"GET", "POST"}),
        callers=frozenset(),
        own=RouteSide(
            upstream="bank",
            upstream_host="127.0.0.1",
            host_header="127.0.0.1",
            origin="https://127.0.0.1:443",
            prefix="",
            token_key=key,
        ),
        strip_prefix="",
        replay_limit=1048576,
        remint_on=(),
    )


def _workers(bed: Bed) -> Report:
    cost: dict[str, list[float]] = {name: [] for name in _NAMES}
    shares: list[float] = []
    candidates = bed.candidates(tuple(_NAMES))
    end = CLOCK.monotonic() + _START_SECONDS
    while len(candidates["payproxy two"].processes) < 3 and CLOCK.monotonic() < end:
        pause(0.1)
    for _ in range(bed.effort.rounds):
        for name in shuffled(list(candidates)):
            candidate = candidates[name]
            workers = candidate.processes[1:]
            before, apart = candidate.cpu(), [cpu_seconds([pid]) for pid in workers]
            load = bed.closed_loop.run(candidate.port, method="GET", connections=_CALLERS, seconds=bed.effort.seconds)
            cost[name].append((candidate.cpu() - before) / load.requests * 1e6)
            used = [cpu_seconds([pid]) - start for pid, start in zip(workers, apart, strict=True)]
            if len(workers) > 1:
                shares.append(min(used) / sum(used))
    rows = [[str(number), f"{middle(cost[name]):.1f}"] for name, number in _NAMES.items()]
    goals = [
        Goal(
            name="CPU per request of two workers by that of one",
            value=ratio(cost["payproxy"], cost["payproxy two"]),
            limit=1.1,
            unit="",
        ),
        Goal(
            name="share of the less busy of two workers (of their CPU)",
            value=middle(shares),
            limit=1 / 3,
            unit="",
            at_most=False,
        ),
    ]
    title = f"Workers: GET 541 B, {_CALLERS} callers, all workers on one core"
    return Report.of(title, ("workers", "CPU us/request"), rows, goals)
