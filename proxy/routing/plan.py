"""All that can be decided about a request without I/O; the data path executes it, `explain` prints it."""

from dataclasses import dataclass
from typing import Final

from proxy.account import Chosen
from proxy.callers.caller import Caller
from proxy.errors import BadRequest, CallerNotAllowed, NoRoute, ProxyError, SideUnknown
from proxy.migration.board import MigrationBoard
from proxy.migration.pin import retry_digest, retry_key
from proxy.migration.side import Choice, Policy, Side, choose_side
from proxy.routing.head import RequestHead
from proxy.routing.header import HeaderLine
from proxy.routing.table import Route, RouteMigration, RouteSide, RouteTable, remember
from proxy.routing.target import Target
from proxy.settings.methods import SAFE_METHODS

# Seconds until a caller may ask again whether its retry can be told apart: while pins can't be read, and while one
# names an upstream that its side has no more, which only an operator or the end of the pin changes.
_PINS_UNREADABLE_RETRY: Final = 2
_UPSTREAM_GONE_RETRY: Final = 60
# An enum's member costs a call each time it is looked up in its class.
_LEGACY: Final = Side.LEGACY
_MODERN: Final = Side.MODERN


class Plan:
    """What will be done: *target* goes to *origin* with a token for *token_key*; *why* says how the side came about.

    *way* is where it goes, *start* the first lines of what is sent there. *fallback* is what to do where the modern
    token is not at hand or was refused, *retry* names the request for a retry pin, "" where it needs none. *chosen* is
    all that as records tell it.
    """

    __slots__ = (
        "chosen", "fallback", "origin", "retry", "route", "side", "start", "target", "token_key", "way", "why",
    )  # fmt: skip

    def __init__(
        self, route: Route, way: "_Way", *, side: str, why: str, fallback: "Plan | None" = None, retry: str = ""
    ) -> None:
        there = way.side
        self.route = route
        self.way = there
        self.token_key = there.token_key
        self.origin = there.origin
        self.target = way.target
        self.side = side
        self.why = why
        self.fallback = fallback
        self.retry = retry
        self.start = way.start
        key = there.token_key
        self.chosen = Chosen(
            route=route.name, upstream=there.upstream, credential=key.credential, audience=key.audience, side=side,
            why=why,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Plan {self.route.name} {self.side} to {self.origin}>"


@dataclass(slots=True)
class _Way:
    """One side of a rule for one method and target."""

    side: RouteSide
    target: str
    start: bytes


@dataclass(slots=True)
class _Ways:
    """What is the same for all requests of one method, target and caller on a migrated rule.

    *known* is the choice that weight and guard, *state*, led to; there is none where more than the caller decides.
    """

    route: Route
    migration: RouteMigration
    method: str
    target: Target
    legacy: _Way | None = None
    modern: _Way | None = None
    state: tuple[int, bool] | None = None
    known: Choice | None = None

    def plan(self, side: Side, why: str, *, fallback: Plan | None, retry: str) -> Plan:
        """Return the plan for *side*."""
        if side is _LEGACY:
            way = self.legacy = self.legacy or _way(self.method, self.target, self.route, self.migration.legacy)
        else:
            way = self.modern = self.modern or _way(self.method, self.target, self.route, self.migration.modern)
        return Plan(self.route, way, side=side, why=why, fallback=fallback, retry=retry)


def plan(
    head: RequestHead, caller: Caller, table: RouteTable, board: MigrationBoard, *, request_id: str, now: float
) -> Plan:
    """Return the plan for a request that is called *request_id* and came at *now*, in epoch seconds.

    Raises NoRoute, MethodNotAllowed, CallerNotAllowed, BadRequest where the path can be read as two rules, or
    SideUnknown where an earlier try may have gone to another side.
    """
    target = head.target
    if target.query or target.host is not None:
        found = _found(head.method, target, caller, table)
    else:
        key = (head.method, target.path, caller.name)
        known: Plan | None = table.remembered.get(key)
        if known is not None:
            return known
        both: _Ways | None = table.remembered_sides.get(key)
        if both is not None:
            return _of_side(both, head, caller, board, request_id=request_id, now=now)
        found = _found(head.method, target, caller, table)
        remember(table.remembered if isinstance(found, Plan) else table.remembered_sides, key, found)
    if isinstance(found, Plan):
        return found
    return _of_side(found, head, caller, board, request_id=request_id, now=now)


def outbound_target(target: Target, *, strip_prefix: str, prefix: str) -> str:
    """Return *prefix*, the upstream's, plus the caller's path minus *strip_prefix* plus its query, byte for byte."""
    path = target.path[len(strip_prefix) :] if strip_prefix else target.path
    return (prefix + path or "/") + target.query


def start_of(method: str, target: str, host_header: str) -> bytes:
    """Return the first lines of a request to the bank: the request line and Host (RFC 9112 3), without a line end."""
    return f"{method} {target} HTTP/1.1\r\nHost: {host_header}".encode("ascii")


def _route(method: str, target: Target, caller: Caller, table: RouteTable) -> Route:
    route = table.match(method, target.path)
    if target.other_reading is not target.path and _other_rule(method, target, table) is not route:
        raise BadRequest("The path can be read in two ways that belong to different rules; send it without escapes.")
    if target.host is not None and all(target.host != side.upstream_host for side in route.sides):
        raise NoRoute("The rule that takes this path does not send to this host.")
    if route.callers and caller.name not in route.callers:
        raise CallerNotAllowed(f"The route {route.name} does not list this caller.")
    return route


def _other_rule(method: str, target: Target, table: RouteTable) -> Route | None:
    try:
        return table.match(method, target.other_reading)
    except ProxyError:
        return None


def _found(method: str, target: Target, caller: Caller, table: RouteTable) -> Plan | _Ways:
    """Return the plan of the rule that takes the request, or what leads to one where the rule is migrated."""
    route = _route(method, target, caller, table)
    if route.migration is not None:
        return _Ways(route, route.migration, method, target)
    way = _way(method, target, route, route.own)
    return Plan(route, way, side="", why="the route's own credential")


def _way(method: str, target: Target, route: Route, side: RouteSide) -> _Way:
    outbound = outbound_target(target, strip_prefix=route.strip_prefix, prefix=side.prefix)
    return _Way(side, outbound, start_of(method, outbound, side.host_header))


def _of_side(
    both: _Ways, head: RequestHead, caller: Caller, board: MigrationBoard, *, request_id: str, now: float
) -> Plan:
    policy = both.migration.policy
    retry, pinned = "", None
    if head.method not in SAFE_METHODS:  # a retry of those can't do anything a second time, so it needs no pin
        named = retry_key([(line.name, line.value) for line in head.passed])
        if named:
            retry = retry_digest(policy.name, caller.name, named)
            pinned = _pinned_side(both, board, retry, now)
    state = (board.weight(policy.name), board.guard_pinned(policy.name, caller.name))
    # Where the caller alone decides, the choice stays until weight or guard change; making it costs 2 us.
    choice = both.known if pinned is None and state == both.state else None
    if choice is None:
        choice = choose_side(
            policy,
            weight=state[0],
            caller=caller.name,
            method=head.method,
            header=_sticky_value(policy, head.passed),
            request_id=request_id,
            guard_pinned=state[1],
            retry=pinned,
        )
        if pinned is None and policy.sticky == "caller":
            both.state, both.known = state, choice
    fallback = None
    if choice.side is _MODERN and policy.fallback and pinned is None:
        # Not where an earlier try may be known under modern's client id: legacy could do it a second time.
        why = f"fallback from modern ({choice.why})"
        fallback = both.plan(_LEGACY, why, fallback=None, retry=retry)
    return both.plan(choice.side, choice.why, fallback=fallback, retry=retry)


def _pinned_side(both: _Ways, board: MigrationBoard, retry: str, now: float) -> Side | None:
    """Return where an earlier try of the request *retry* went, None if there was none; raises SideUnknown."""
    name = both.migration.policy.name
    pin = board.retry_pin(retry, now)
    if pin is None:
        if not board.readable and (board.moved(name) or not board.heard):
            raise SideUnknown(
                "Whether an earlier try of this request went to another side can't be told now; nothing was sent.",
                cause=f"the retry pins of migration {name} can't be read",
                retry_after=_PINS_UNREADABLE_RETRY,
            )
        return None
    side = both.migration.legacy if pin.side is _LEGACY else both.migration.modern
    if pin.upstream != side.upstream:
        raise SideUnknown(
            "An earlier try of this request went to an upstream that this route has no more; nothing was sent.",
            cause=f"pinned to {pin.side} at {pin.upstream}, which is now {side.upstream}",
            retry_after=_UPSTREAM_GONE_RETRY,
        )
    return pin.side


def _sticky_value(policy: Policy, headers: list[HeaderLine]) -> str | None:
    wanted = policy.sticky_header
    if not wanted:
        return None
    name = wanted.lower().encode("ascii")
    for line in headers:
        if line.value and line.name.lower() == name:
            return line.value.decode("latin-1")
    return None
