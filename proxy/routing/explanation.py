"""What a request would get, and why, rule by rule: `payproxy explain` prints it, the console's rule tester shows it.

The plan is that of the data path. Nothing is sent, minted or recorded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.callers.caller import ANONYMOUS, Caller, Callers, Proofs
from proxy.errors import ProxyError
from proxy.migration.pin import retry_digest, retry_key
from proxy.migration.side_cache import SideCache
from proxy.routing.compile import head_limits
from proxy.routing.headers import HeaderLine
from proxy.routing.plan import Plan, plan
from proxy.routing.request_head import RawHead, RequestHead
from proxy.routing.table import Route, RouteTable
from proxy.settings.worker_values import Snapshot
from proxy.text import printable

# Requests that are spread individually are placed by their id, which only a real request has.
_NO_ID = "explain"
_LONGEST_SEGMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that could be sent; *target* as in the request line, *caller* a name of [callers] or ""."""

    method: str
    target: str
    caller: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def explain(
    question: Question,
    snapshot: Snapshot,
    table: RouteTable,
    *,
    sides: SideCache,
    body_keys: Mapping[str, str],
    now: float,
) -> dict[str, Any]:
    """Return what the request of *question* would get at *now* (epoch seconds), as a JSON object.

    *table* is that of *snapshot*; *body_keys* names, by route, the keys that sign bodies.

    With the member `code` it would be refused, with `facade` the facade would answer it. `rules` says for each rule why
    it does or does not take the request; it is empty if the request is refused by its head. A request without a caller
    is refused where callers are configured, unless its keys identify one that needs no other proof.
    """
    caller = Caller(question.caller, "") if question.caller else ANONYMOUS
    rules: list[dict[str, Any]] = []
    try:
        head = RequestHead.of(_raw(question), head_limits(snapshot))
        if snapshot.facade is not None and head.target.path in snapshot.facade.paths and not head.target.host:
            return {"facade": question.target}
        rules = list(_rules(table, head.method, head.target.path, caller))
        if not caller.name and (caller := _identified(head, snapshot)).name:
            rules = list(_rules(table, head.method, head.target.path, caller))
        found = plan(head, caller, table, sides, request_id=_NO_ID, now=now)
        if found.signed_type and head.named.get(b"content-length") != b"0":
            head.refuse_encoded()
    except ProxyError as error:
        refusal = {"code": error.code, "status": error.status, "detail": error.detail, "sent_upstream": "no"}
        return refusal | {"rules": rules}
    answer = _answer(found, sides, method=head.method, caller=caller.name)
    return answer | {"body": _body(found, body_keys.get(found.route.name, "")), "rules": rules}


def _identified(head: RequestHead, snapshot: Snapshot) -> Caller:
    """Return the caller that *head* alone identifies, anonymous if none is configured; raises CallerUnauthenticated."""
    absolute = head.target.host is not None
    proofs = Proofs(address="", keys=head.keys, certificate_subject="", absolute_form=absolute)
    return Callers(snapshot.callers).identify(proofs)


def retry_digests(question: Question, snapshot: Snapshot) -> list[str]:
    """Return the digests of the retry pins that can decide the side of *question*: one a migration, if it has a key."""
    named = retry_key([(line.name, line.value) for line in _lines(question)])
    return [retry_digest(one.name, question.caller, named) for one in snapshot.migrations] if named else []


def rule_of(route: Route) -> str:
    """Return methods and path of *route*, as a rule is named in words."""
    return f"{' '.join(sorted(route.methods)) or 'any method'} {route.path}"


def _raw(question: Question) -> RawHead:
    # HTTP/1.0 does not require Host, which need not be given.
    return RawHead(
        method=question.method.upper(), target=question.target, version=(1, 0), headers=list(_lines(question))
    )


def _lines(question: Question) -> Iterator[HeaderLine]:
    for name, value in question.headers:
        yield HeaderLine(name.encode(), value.encode(), None)


def _rules(table: RouteTable, method: str, path: str, caller: Caller) -> Iterator[dict[str, Any]]:
    """Yield each rule in the order of the table with whether it takes the request, and why or why not."""
    covering, segments = table.covering(path), path.removeprefix("/").split("/")
    taken: Route | None = None
    for position, route in enumerate(table.routes):
        takes = False
        if position not in covering:
            why = _other_path(route, segments)
        elif route.methods and method not in route.methods:
            why = f"the path fits, but the method is not one of {', '.join(sorted(route.methods))}"
        elif taken is not None:
            why = f"path and method fit, but the rule {taken.name} comes before it"
        else:
            takes, taken = True, route
            why = "the first rule whose path and method fit"
            if route.callers and caller.name not in route.callers:
                why += "; it does not list this caller, so the request is refused"
        yield {"route": route.name, "rule": rule_of(route), "takes": takes, "why": why}


def _other_path(route: Route, segments: list[str]) -> str:
    for number, wanted in enumerate(route.path.strip("/").split("/")):
        if number >= len(segments):
            return f"the path ends before segment {number + 1}, where the rule has {wanted}"
        if wanted == "*" and not segments[number]:
            return f"segment {number + 1} of the path is empty, and * stands for one that is not"
        if wanted not in {"*", segments[number]}:
            there = printable(segments[number], _LONGEST_SEGMENT) or "empty"
            return f"segment {number + 1} of the path is {there}, where the rule has {wanted}"
    return "the path does not fit"


def _answer(found: Plan, sides: SideCache, *, method: str, caller: str) -> dict[str, Any]:
    route, key, migration = found.route, found.token_key, found.route.migration
    answer = {
        "route": route.name,
        "rule": rule_of(route),
        "credential": key.credential,
        "audience": key.audience,
        "scope": key.scope,
        "token_url": key.token_url,
        "upstream": found.way.upstream,
        "url": url_of(found.origin, found.target),
        "side": found.side,
        "why": found.why,
    }
    if migration is None:
        return answer
    policy, other = migration.policy, found.fallback
    weight = sides.weight(policy.name)
    fallback = (
        f"{other.side}, {other.token_key.credential} at {url_of(other.origin, other.target)}"
        if other is not None
        else ""
    )
    answer |= {"migration": policy.name, "weight": str(weight), "fallback": fallback}
    fixed = caller in policy.pinned or sides.guard_pinned(policy.name, caller)
    if policy.sticky == "request" and method in policy.methods and 0 < weight < 100 and not fixed:
        answer["why"] = f"weight {weight}, each {method} by itself: this is one of them that goes to {found.side}"
    return answer


def _body(found: Plan, key: str) -> str:
    """Return what becomes of the body, and by which *key* it is signed."""
    if not key:
        return "as the caller sends it"
    if not found.signed_type:
        return "as the caller sends it: only those of POST and PUT are signed"
    return f"a JWS (RS256) by the key {key}, as {found.signed_type.decode()}; an empty one as it is"


def url_of(origin: str, target: str) -> str:
    """Return the URL of *target* at *origin*, without a port that is the default of HTTP or HTTPS."""
    return origin.removesuffix(":443").removesuffix(":80") + target
