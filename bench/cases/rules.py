"""Rules: what it costs to find the right one of a thousand."""

import timeit

from bench.bed import Bed
from bench.report import Goal, Report
from proxy.callers.caller import ANONYMOUS
from proxy.credentials.token_key import TokenKey
from proxy.migration.side_cache import SideCache
from proxy.routing.plan import plan
from proxy.routing.request_head import RawHead, RequestHead
from proxy.routing.table import Route, RouteSide, RouteTable
from proxy.routing.target import parse_target

_CALLS = 20_000


def measure(bed: Bed) -> list[Report]:
    """Return the one report."""
    took = {number: _plan_us(number, bed.effort.rounds) for number in (1, 1000)}
    rows = [[f"{number:,}", f"{us:.2f}"] for number, us in took.items()]
    goal = Goal(name="plan() with 1000 rules: added to that with one", value=took[1000] - took[1], limit=2, unit="us")
    return [Report.of("Rules: plan() alone, for the last one", ("rules", "us/call"), rows, [goal])]


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
