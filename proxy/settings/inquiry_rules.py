"""Checks of `inquiry`: it is answered by the rule's own upstream and token, and asks with values that the log keeps."""

from collections.abc import Iterator

from proxy.settings.findings import Complaint, Key, did_you_mean
from proxy.settings.inquiry import InquirySection, header_names
from proxy.settings.model import RouteSection
from proxy.settings.route_rules import covers
from proxy.settings.valid import Valid


def inquiries(valid: Valid) -> Iterator[Complaint]:
    """Check the inquiry of every rule that has one."""
    for number, route in valid.routes.items():
        key: Key = ("routes", number, "inquiry")
        if not route.inquiry.path:
            if route.inquiry != InquirySection():
                yield Complaint(key=key, what="has no path", fix="write the path of the GET that asks the bank")
            continue
        yield from _values(valid, route.inquiry, key)
        yield from _answers(route.inquiry, key)
        if not any(one[0] == "routes" for one in valid.faulty):
            yield from _way(valid, route, key)


def _values(valid: Valid, inquiry: InquirySection, key: Key) -> Iterator[Complaint]:
    if ("request_log",) in valid.faulty:
        return
    kept = valid.settings.request_log.index_headers
    for name in header_names(inquiry.path):
        if name.lower() not in {one.lower() for one in kept}:
            yield Complaint(
                key=(*key, "path"),
                what=f"the log keeps no values of the header {name}",
                fix=f"add it to request_log.index_headers, or correct it: {did_you_mean(name, kept)}",
            )


def _answers(inquiry: InquirySection, key: Key) -> Iterator[Complaint]:
    found, missing = inquiry.found, inquiry.not_found
    if not (missing.member or missing.body):
        yield Complaint(
            key=(*key, "not_found"),
            what="a status alone does not say that the bank has no such payment: a wrong path gives the same",
            fix='name a member that is empty then, or text of the answer: {status = 404, body = "..."}',
        )
    if found.status == missing.status and not (found.member or found.body):
        yield Complaint(
            key=(*key, "found"),
            what="every answer that means not found would mean found too",
            fix="name the member that a found payment is in, or text of the answer",
        )


def _way(valid: Valid, route: RouteSection, key: Key) -> Iterator[Complaint]:
    """Check that a GET of that path would be served, and in the same way: an inquiry is no way around a rule."""
    path = route.inquiry.path.partition("?")[0]
    taker = next(
        (one for one in valid.routes.values() if covers(one.path, path) and (not one.methods or "GET" in one.methods)),
        None,
    )
    if taker is None:
        yield Complaint(
            key=(*key, "path"),
            what="no rule serves a GET of this path",
            fix="correct it; a caller could ask the same, so a rule must take it",
        )
    elif _served_by(valid, taker) != _served_by(valid, route):
        yield Complaint(
            key=(*key, "path"),
            what=f'rule "{taker.name}" takes it, with another upstream, credential, audience, scope or migration',
            fix="let the inquiry go where the requests of its own rule go",
        )


def _served_by(valid: Valid, route: RouteSection) -> tuple[str, ...]:
    migration = next((name for name, one in valid.settings.migrations.items() if route.name in one.routes), "")
    return (route.upstream, route.credential, route.audience, route.scope, migration)
