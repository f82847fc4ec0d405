"""Decides everything about a request that needs no I/O; the data path executes the plan, `explain` prints it."""

from dataclasses import dataclass
from typing import Final

from proxy.callers.caller import Caller
from proxy.errors import BadRequest, CallerNotAllowed, NoRoute, ProxyError, SideUnknown
from proxy.migration.former import Keyed
from proxy.migration.pin import retry_digest, retry_key
from proxy.migration.side import Choice, Policy, Side, choose_side
from proxy.migration.side_cache import SOON_OVER, SideCache
from proxy.request_summary import Chosen
from proxy.routing.headers import HeaderLine
from proxy.routing.request_head import RequestHead
from proxy.routing.table import Route, RouteMigration, RouteSide, RouteTable, remember
from proxy.routing.target import Target
from proxy.settings.methods import SAFE_METHODS, SIGNED_METHODS

# Retry-After in seconds: while a side changes, and while a pin names an upstream that its side no longer has, which
# only an operator or the end of the pin changes.
_SIDE_UNKNOWN_RETRY: Final = 1
_UPSTREAM_GONE_RETRY: Final = 60
# Looking up an enum member in its class costs a call each time.
_LEGACY: Final = Side.LEGACY
_MODERN: Final = Side.MODERN


class Plan:
    """What will be done: *target* goes to *origin* with a token for *token_key*; *why* is the reason for the side.

    *way* is the route side, *start* request line and Host of the request sent there, without the last CRLF. *fallback*
    is the plan if there is no modern token or it was refused, *keyed* identifies a retry of the request, None if it
    needs no pin. *signed_type* is the Content-Type of the signed body, empty if none is signed. *chosen* holds the same
    for records.
    """

    __slots__ = (
        "chosen", "fallback", "keyed", "origin", "route", "side", "signed_type", "start", "target", "token_key", "way",
        "why",
    )  # fmt: skip

    def __init__(
        self,
        route: Route,
        way: "_Way",
        *,
        side: str,
        why: str,
        fallback: "Plan | None" = None,
        keyed: Keyed | None = None,
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
        self.keyed = keyed
        self.start = way.start
        self.signed_type = way.signed_type
        key = there.token_key
        self.chosen = Chosen(
            route=route.name, upstream=there.upstream, upstream_url=there.url, credential=key.credential,
            client_digest=key.client_digest, audience=key.audience, side=side, why=why,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Plan {self.route.name} {self.side} to {self.origin}>"


@dataclass(slots=True)
class _Way:
    """One side of a rule for one method and target."""

    side: RouteSide
    target: str
    start: bytes
    signed_type: bytes


@dataclass(slots=True)
class _Ways:
    """The common part of all requests of one method, target and caller on a migrated rule.

    *known* is the cached choice for weight and guard, *state*; None if the choice depends on more than the caller.
    """

    route: Route
    migration: RouteMigration
    method: str
    target: Target
    legacy: _Way | None = None
    modern: _Way | None = None
    state: tuple[int, bool] | None = None
    known: Choice | None = None

    def plan(self, side: Side, why: str, *, fallback: Plan | None, keyed: Keyed | None) -> Plan:
        """Return the plan for *side*."""
        if side is _LEGACY:
            way = self.legacy = self.legacy or _way(self.method, self.target, self.route, self.migration.legacy)
        else:
            way = self.modern = self.modern or _way(self.method, self.target, self.route, self.migration.modern)
        return Plan(self.route, way, side=side, why=why, fallback=fallback, keyed=keyed)


def plan(
    head: RequestHead, caller: Caller, table: RouteTable, side_cache: SideCache, *, request_id: str, now: float
) -> Plan:
    """Return the plan for the request *request_id*, which was received at *now*, in epoch seconds.

    Raises NoRoute, MethodNotAllowed, CallerNotAllowed, BadRequest if the path can match two rules, or SideUnknown if an
    earlier try may have gone to another side.
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
            return _of_side(both, head, caller, side_cache, request_id=request_id, now=now)
        found = _found(head.method, target, caller, table)
        remember(table.remembered if isinstance(found, Plan) else table.remembered_sides, key, found)
    if isinstance(found, Plan):
        return found
    return _of_side(found, head, caller, side_cache, request_id=request_id, now=now)


def outbound_target(target: Target, *, strip_prefix: str, prefix: str) -> str:
    """Return the upstream's *prefix*, the caller's path without *strip_prefix*, and its query, byte for byte."""
    path = target.path[len(strip_prefix) :] if strip_prefix else target.path
    return (prefix + path or "/") + target.query


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
    """Return the plan of the rule that matches the request, or its `_Ways` if the rule is migrated."""
    route = _route(method, target, caller, table)
    if route.migration is not None:
        return _Ways(route, route.migration, method, target)
    way = _way(method, target, route, route.own)
    return Plan(route, way, side="", why="the route's own credential")


def _way(method: str, target: Target, route: Route, side: RouteSide) -> _Way:
    outbound = outbound_target(target, strip_prefix=route.strip_prefix, prefix=side.prefix)
    signed_type = route.signed_type if method in SIGNED_METHODS else b""
    # Without a line end: `outbound_head` joins all lines of the head.
    start = f"{method} {outbound} HTTP/1.1\r\nHost: {side.host_header}".encode("ascii")
    return _Way(side, outbound, start, signed_type)


def _of_side(
    both: _Ways, head: RequestHead, caller: Caller, side_cache: SideCache, *, request_id: str, now: float
) -> Plan:
    policy = both.migration.policy
    header = _sticky_value(policy, head.passed)
    keyed: Keyed | None = None
    pinned: Side | None = None
    if head.method not in SAFE_METHODS:  # a retry of a safe method has no second effect: no pin needed
        named = retry_key([(line.name, line.value) for line in head.passed])
        if named:
            digest = retry_digest(policy.name, caller.name, named)
            keyed = Keyed(
                digest=digest,
                caller=caller.name,
                method=head.method,
                header=header,
                silences=side_cache.silences,
            )
            pinned = _earlier_side(both, side_cache, digest, now)
    state = (side_cache.weight(policy.name), side_cache.guard_pinned(policy.name, caller.name))
    # If only the caller decides, the choice is valid until weight or guard change; making it costs 2 us.
    choice = both.known if pinned is None and state == both.state else None
    if choice is None:
        choice = choose_side(
            policy,
            weight=state[0],
            caller=caller.name,
            method=head.method,
            header=header,
            # A retry has another id; the deciding value must be the same for it.
            request_id=request_id if keyed is None else keyed.digest,
            guard_pinned=state[1],
            retry=pinned,
        )
        if pinned is None and policy.sticky == "caller":
            both.state, both.known = state, choice
    if keyed is not None:
        _check_side(side_cache, policy, keyed, choice.side, now, pinned=pinned is not None)
    fallback = None
    if choice.side is _MODERN and policy.fallback and pinned is None:
        # Not if an earlier try may be known under modern's client id: legacy could execute it a second time.
        why = f"fallback from modern ({choice.why})"
        fallback = both.plan(_LEGACY, why, fallback=None, keyed=keyed)
    return both.plan(choice.side, choice.why, fallback=fallback, keyed=keyed)


def _earlier_side(both: _Ways, side_cache: SideCache, digest: str, now: float) -> Side | None:
    """Return the side of an earlier try of the request *digest*, None if none is known; raises SideUnknown."""
    earlier = side_cache.earlier_try(digest, now)
    if earlier is None:
        return None
    pinned, upstream = earlier
    side = both.migration.legacy if pinned is _LEGACY else both.migration.modern
    if upstream != side.upstream:
        raise SideUnknown(
            "An earlier try of this request went to an upstream that this route has no more; nothing was sent.",
            cause=f"pinned to {pinned} at {upstream}, which is now {side.upstream}",
            retry_after=_UPSTREAM_GONE_RETRY,
        )
    return pinned


def _check_side(side_cache: SideCache, policy: Policy, keyed: Keyed, side: Side, now: float, *, pinned: bool) -> None:
    """Raise SideUnknown if an earlier try may have gone to another side than *side*; *pinned*: its side is known."""
    doubt = side_cache.claim_doubt(keyed.digest, now) if pinned else side_cache.doubt(policy, keyed, side=side, now=now)
    if doubt:
        error = SideUnknown(
            "Whether an earlier try of this request went to another side can't be told now; nothing was sent.",
            cause=f"migration {policy.name}: {doubt}",
            retry_after=_SIDE_UNKNOWN_RETRY,
        )
        error.soon = doubt in SOON_OVER
        raise error


def _sticky_value(policy: Policy, headers: list[HeaderLine]) -> str | None:
    wanted = policy.sticky_header
    if not wanted:
        return None
    name = wanted.lower().encode("ascii")
    for line in headers:
        if line.value and line.name.lower() == name:
            return line.value.decode("latin-1")
    return None
