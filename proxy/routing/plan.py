"""All that can be decided about a request without I/O; the data path executes it, `explain` prints it."""

from dataclasses import dataclass

from proxy.callers.caller import Caller
from proxy.credentials.key import TokenKey
from proxy.errors import BadRequest, CallerNotAllowed, NoRoute, ProxyError
from proxy.routing.table import Route, RouteTable
from proxy.routing.target import Target


@dataclass(slots=True)
class Plan:
    """What will be done: *target* goes to *origin* with a token for *token_key*; *why* says how the side came about."""

    route: Route
    token_key: TokenKey
    origin: str
    target: str
    side: str
    why: str


def plan(method: str, target: Target, caller: Caller, table: RouteTable) -> Plan:
    """Return the plan for a request.

    Raises NoRoute, MethodNotAllowed, CallerNotAllowed, or BadRequest where the path can be read as two rules.
    """
    key = (method, target.path, caller.name)
    ordinary = not target.query and target.host is None
    if ordinary:
        known: Plan | None = table.remembered.get(key)
        if known is not None:
            return known
    route = table.match(method, target.path)
    if target.other_reading is not target.path and _other_rule(method, target, table) is not route:
        raise BadRequest("The path can be read in two ways that belong to different rules; send it without escapes.")
    if target.host is not None and target.host != route.upstream_host:
        raise NoRoute("The rule that takes this path does not send to this host.")
    if route.callers and caller.name not in route.callers:
        raise CallerNotAllowed(f"The route {route.name} does not list this caller.")
    made = Plan(route, route.token_key, route.origin, outbound_target(target, route), "", "the route's own credential")
    if ordinary:
        table.remember(key, made)
    return made


def outbound_target(target: Target, route: Route) -> str:
    """Return the upstream's path prefix plus the caller's path minus strip_prefix plus its query, byte for byte."""
    path = target.path[len(route.strip_prefix) :] if route.strip_prefix else target.path
    return (route.prefix + path or "/") + target.query


def _other_rule(method: str, target: Target, table: RouteTable) -> Route | None:
    try:
        return table.match(method, target.other_reading)
    except ProxyError:
        return None
