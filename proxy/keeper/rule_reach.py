"""Find requests of a migration's rules that other rules would match in a new configuration; pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import zip_longest

from proxy.credentials.token_key import TokenKey
from proxy.errors import ProxyError
from proxy.migration.state import Rule
from proxy.routing.table import Route, RouteSide, RouteTable
from proxy.settings.methods import SAFE_METHODS

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Placeholder: matching does not use the route's side.
_NOWHERE = RouteSide(
    upstream="",
    upstream_host="",
    host_header="",
    origin="",
    prefix="",
    token_key=TokenKey(
        token_url="",
        client_id="",
        auth_method="",
        audience_parameter="",
        audience="",
        scope="",
        extra_parameters=(),
        credential="",
    ),
)


def taken_away(before: Sequence[Rule], after: Sequence[Rule], *, left: Collection[str], kept: Collection[str]) -> str:
    """Return a request that the rules *left* matched before and a rule not in *kept* matches now, "" if none.

    Checks the paths where rules overlap, for unsafe methods: between these paths nothing changes.
    """
    old, new = _table(before), _table(after)
    methods = sorted({*_UNSAFE, *(method for rule in (*before, *after) for method in rule.methods)} - SAFE_METHODS)
    for ours in (rule for rule in before if rule.name in left):
        for path in _places(ours.path, (rule.path for rule in (*before, *after))):
            for method in methods:
                taker = _taker(new, method, path)
                if taker and taker not in kept and _taker(old, method, path) in left:
                    return f"{method} {path} would go to the rule {taker}"
    return ""


def _places(path: str, others: Iterable[str]) -> Iterator[str]:
    for other in dict.fromkeys(others):
        parts = []
        for one, two in zip_longest(_parts(path), _parts(other)):
            if one is not None and two is not None and one != two and "*" not in (one, two):
                break  # no path matches both
            literal = [part for part in (one, two) if part not in (None, "*")]
            parts.append(literal[0] if literal else "x")
        else:
            place = "/" + "/".join(filter(None, parts))
            yield place
            yield f"{place.rstrip('/')}/x"


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/") if path != "/" else []


def _taker(table: RouteTable, method: str, path: str) -> str:
    try:
        return table.match(method, path).name
    except ProxyError:
        return ""


def _table(rules: Iterable[Rule]) -> RouteTable:
    return RouteTable(
        Route(
            name=rule.name,
            path=rule.path,
            methods=frozenset(rule.methods),
            callers=frozenset(),
            own=_NOWHERE,
            strip_prefix="",
            replay_limit=0,
            remint_on=(),
        )
        for rule in rules
    )
