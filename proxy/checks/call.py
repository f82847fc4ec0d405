"""One harmless call of the bank's API, sent directly to the upstream, to test whether it accepts the token."""

import json
from dataclasses import dataclass, fields

from proxy.clock import Clock
from proxy.errors import MethodNotAllowed, NoRoute, Overloaded, UpstreamFault
from proxy.routing.plan import outbound_target
from proxy.routing.table import Route, RouteSide, RouteTable
from proxy.routing.target import parse_target
from proxy.secret import Secret
from proxy.settings.findings import Complaint, Key
from proxy.settings.worker_values import UpstreamValues
from proxy.upstream.opener import Upstream
from proxy.upstream.single_get import SingleAnswer, get_once
from proxy.upstream.tls import TlsUnusable

# It changes nothing: the bank offers it for a first test.
METHOD, PATH = "GET", "/payment/helloworld"

# Upper limit: a slower answer is not worth waiting for.
SECONDS = 15.0

_LOOKED_AT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """The result of a call: a *complaint*, or a *note* if it succeeded."""

    complaint: Complaint | None = None
    note: str = ""


def takes_test_call(route: Route) -> bool:
    """Return whether *route* alone would match the test call."""
    try:
        RouteTable([route]).match(METHOD, route.strip_prefix + PATH)
    except (NoRoute, MethodNotAllowed):
        return False
    return True


async def call(
    route: Route, side: RouteSide, upstream: UpstreamValues, token: Secret, *, key: Key, clock: Clock
) -> Called:
    """Send the test call through *route* on *side*, configured at *key*, within 15 s."""
    target = outbound_target(
        parse_target(route.strip_prefix + PATH), strip_prefix=route.strip_prefix, prefix=side.prefix
    )
    at_url: Key = ("upstreams", upstream.name, "url")
    try:
        answer = await get_once(
            _upstream(upstream), target, host_header=side.host_header, token=token.encoded, clock=clock,
            seconds=SECONDS, most_bytes=_LOOKED_AT_BYTES,
        )  # fmt: skip
    except TlsUnusable as error:
        complaint = Complaint(key=("upstreams", upstream.name), what=str(error), fix="correct the file or its path")
        return Called(complaint=complaint)
    except (UpstreamFault, Overloaded) as error:
        cause = f" ({error.cause})" if error.cause else ""
        what = f"{METHOD} {target} got no answer: {error.detail}{cause}"
        return Called(complaint=Complaint(key=at_url, what=what, fix="look at url, egress_proxy and the firewall"))
    summary = f"{METHOD} {target} with {side.token_key.credential} through route {route.name}: {answer.status}"
    if answer.status < 300 and not _is_page(answer):
        return Called(note=summary)
    return Called(complaint=_complaint(answer.status, summary, key=key, at_url=at_url, page=_is_page(answer)))


def _complaint(status: int, summary: str, *, key: Key, at_url: Key, page: bool) -> Complaint:
    at_audience: Key = (*key, "audience")
    if page:
        what = f"{summary}, an HTML page: a corporate proxy answered for the bank"
        return Complaint(key=at_url, what=what, fix="get the bank's host allowed there, or set egress_proxy")
    if status == 401:
        what = f"{summary}: the API refuses a token that was minted a moment ago"
        fix = "check that audience and upstream belong to the same product and environment"
        return Complaint(key=at_audience, what=what, fix=fix)
    if status == 403:
        what = f"{summary}: the client is not entitled to this API"
        return Complaint(key=at_audience, what=what, fix="ask your representative at the bank to entitle this client")
    if status == 404:
        what = f"{summary}: this host has no such path"
        return Complaint(key=at_url, what=what, fix="look at url and strip_prefix; not every product has this path")
    if status >= 500 or status == 429:
        return Complaint(key=at_url, what=f"{summary}: the bank's side has a fault or is busy", fix="try again later")
    return Complaint(key=at_url, what=f"{summary}, which is not expected", fix="look at url")


def _is_page(answer: SingleAnswer) -> bool:
    if "html" in answer.content_type.lower():
        return True
    try:
        json.loads(answer.body)
    except (ValueError, RecursionError):
        return answer.body.lstrip()[:1] == b"<"
    return False


def _upstream(values: UpstreamValues) -> Upstream:
    return Upstream(**{field.name: getattr(values, field.name) for field in fields(Upstream)})
