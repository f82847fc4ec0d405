"""The route table: finds the first rule that matches whole path segments and the method."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.credentials.token_key import TokenKey
from proxy.errors import MethodNotAllowed, NoRoute
from proxy.migration.side import Policy
from proxy.settings.worker_values import RemintValues

# Callers choose paths, so the cache is bounded in number and length of entries.
_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSide:
    """Where a rule sends and with which token.

    *upstream* is its name; *origin*, *upstream_host* and *host_header* its address; *prefix* is put before the path.
    *url* is origin and prefix: together with the token key's client_digest it says whose books a request is in.
    """

    upstream: str
    upstream_host: str
    host_header: str
    origin: str
    prefix: str
    token_key: TokenKey
    url: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.origin + self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMigration:
    """The two sides of a rule that is migrated from one credential to another."""

    policy: Policy
    legacy: RouteSide
    modern: RouteSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A rule; *own* is the side in the route's own settings: with a *migration*, it is one of the two sides.

    *signed_type* is the Content-Type of signed bodies, empty if the rule signs none.
    """

    name: str
    path: str
    methods: frozenset[str]
    callers: frozenset[str]
    own: RouteSide
    strip_prefix: str
    replay_limit: int
    remint_on: tuple[RemintValues, ...]
    migration: RouteMigration | None = None
    signed_type: bytes = b""

    @property
    def sides(self) -> tuple[RouteSide, ...]:
        """Return every side to which a request of this rule may go."""
        migration = self.migration
        return (self.own,) if migration is None else (self.own, migration.legacy, migration.modern)


@dataclass(slots=True)
class _Node:
    children: dict[str, "_Node"] = field(default_factory=dict)
    any_segment: "_Node | None" = None
    rules: list[tuple[int, Route]] = field(default_factory=list)


class RouteTable:
    """A tree of path segments, so that matching does not slow down with the number of rules."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        # Filled by `plan`, by method, path and caller: plans, and for migrated rules the part common to both sides.
        self.remembered: dict[tuple[str, str, str], Any] = {}
        self.remembered_sides: dict[tuple[str, str, str], Any] = {}
        self._root = _Node()
        for position, route in enumerate(self.routes):
            node = self._root
            for segment in route.path.strip("/").split("/") if route.path != "/" else ():
                if segment == "*":
                    node.any_segment = node.any_segment or _Node()
                    node = node.any_segment
                else:
                    node = node.children.setdefault(segment, _Node())
            node.rules.append((position, route))

    def match(self, method: str, path: str) -> Route:
        """Return the first rule that matches *path* and *method*; raises NoRoute (404) or MethodNotAllowed (405)."""
        best: tuple[int, Route] | None = None
        allowed: frozenset[str] = frozenset()
        for rule in self._rules_on(path):
            methods = rule[1].methods
            if methods and method not in methods:
                allowed |= methods
            elif best is None or rule[0] < best[0]:
                best = rule
        if best is not None:
            return best[1]
        if allowed:
            raise MethodNotAllowed("A rule takes this path, but not this method.", allowed=tuple(sorted(allowed)))
        raise NoRoute("No rule takes this path; `payproxy explain METHOD PATH` shows how the rules are read.")

    def covering(self, path: str) -> frozenset[int]:
        """Return the positions in `routes` of all rules whose path covers *path*, whatever their methods."""
        return frozenset([position for position, _ in self._rules_on(path)])

    def origins(self) -> dict[TokenKey, frozenset[str]]:
        """Return every token key that these rules may need, on either side, with its permitted origins."""
        origins: dict[TokenKey, frozenset[str]] = {}
        for route in self.routes:
            for side in route.sides:
                origins[side.token_key] = origins.get(side.token_key, frozenset()) | {side.origin}
        return origins

    def _rules_on(self, path: str) -> list[tuple[int, Route]]:
        """Return the rules whose path is *path* or a prefix of whole segments, with their positions."""
        rules = list(self._root.rules)
        nodes = [self._root]
        for segment in path.split("/")[1:]:
            below = []
            for node in nodes:
                child = node.children.get(segment)
                if child is not None:
                    below.append(child)
                    rules += child.rules
                if node.any_segment is not None and segment:
                    below.append(node.any_segment)
                    rules += node.any_segment.rules
            if not below:
                break
            nodes = below
        return rules

    def __repr__(self) -> str:
        return f"<RouteTable of {len(self.routes)} rules>"


def remember(cache: dict[tuple[str, str, str], Any], key: tuple[str, str, str], plan: object) -> None:
    """Cache *plan* in *cache* for the next request with the same *key*."""
    if sum(map(len, key)) <= _LONGEST_REMEMBERED:
        if len(cache) >= _REMEMBERED:
            cache.clear()
        cache[key] = plan
