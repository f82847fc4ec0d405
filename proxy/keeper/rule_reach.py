"""Which requests of a migration's rules other rules take in a new configuration: pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import zip_longest

from proxy.credentials.token_key import TokenKey
from proxy.errors import ProxyError
from proxy.migration.state import Rule
from proxy.routing.table import Route, RouteSide, RouteTable
from proxy.settings.methods import SAFE_METHODS

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Matching needs no place to send to.
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
    """Return what of the requests that the rules *left* took another rule than *kept* takes now, "" if nothing.

    Looked at are the places where rules meet, for the methods that change something: between them nothing changes.
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
                break  # nothing lies below both
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
