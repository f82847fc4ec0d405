"""Explains why a mint failed: the kind of answer and its likely causes, confirmed ones first; pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from proxy.checks import likely_causes
from proxy.checks.likely_causes import Evidence, LikelyCause
from proxy.settings.credential import PRESETS
from proxy.settings.findings import Complaint, Key, Severity

# Report a larger skew; a smaller one affects no assertion.
SKEW_WORTH_SAYING_SECONDS = 5.0

# More would not be read; the first is right in every case that could be distinguished.
_MOST_CAUSES = 4

_STATUS = re.compile(r"\d{3}\b")


class RefusalKind(Enum):
    """The subject of an answer, or of a missing one."""

    CLIENT_ID = "the endpoint does not know the client id"
    PROOF = "the endpoint does not accept the client's proof of who it is"
    AUDIENCE = "the endpoint does not accept the audience"
    SCOPE = "the endpoint does not accept the scope"
    ENTITLEMENT = "the client may not have this token: the bank has to grant it"
    REQUEST = "the endpoint does not accept the request"
    ADDRESS = "there is no token endpoint at this address"
    INTERMEDIARY = "something other than the token endpoint answered, most likely a corporate proxy"
    BUSY = "the endpoint asks for fewer requests"
    OUTAGE = "the endpoint has a fault of its own"
    SLOW = "the endpoint did not answer in time"
    MALFORMED = "the endpoint's answer can't be used"


# Kinds that concern the whole client: other audiences would fail too, and the bank sees every failed attempt.
OF_THE_CLIENT = frozenset(RefusalKind) - {
    RefusalKind.AUDIENCE,
    RefusalKind.SCOPE,
    RefusalKind.ENTITLEMENT,
    RefusalKind.REQUEST,
}

# Kinds that can end without a change on this machine: the certificate is uploaded or becomes active, a fault is mended.
_PASSING = frozenset({RefusalKind.PROOF, RefusalKind.BUSY, RefusalKind.OUTAGE, RefusalKind.SLOW})

# Microsoft's error numbers are more precise than the RFC's codes.
_NUMBERS = {
    "MSIS9607": RefusalKind.CLIENT_ID,
    "MSIS9622": RefusalKind.PROOF,
    "MSIS9344": RefusalKind.PROOF,
    "MSIS9602": RefusalKind.AUDIENCE,
    "MSIS9321": RefusalKind.ENTITLEMENT,
}
_ERRORS = {
    "invalid_client": RefusalKind.PROOF,
    "invalid_grant": RefusalKind.PROOF,
    "invalid_resource": RefusalKind.AUDIENCE,
    "invalid_target": RefusalKind.AUDIENCE,
    "invalid_scope": RefusalKind.SCOPE,
    "unauthorized_client": RefusalKind.ENTITLEMENT,
    "access_denied": RefusalKind.ENTITLEMENT,
    "invalid_request": RefusalKind.REQUEST,
    "unsupported_grant_type": RefusalKind.ADDRESS,
}
_STATUSES = {
    200: RefusalKind.MALFORMED,
    400: RefusalKind.REQUEST,
    401: RefusalKind.ENTITLEMENT,
    403: RefusalKind.ENTITLEMENT,
    429: RefusalKind.BUSY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failed mint: *error* is the endpoint's error code or "", *cause* the text for the operator.

    *required_by* is the key of the rule, or of a migration's side, that requires *audience* and *scope*. The endpoint
    was not asked if the assertion could not be *signed*.
    """

    error: str
    cause: str
    audience: str = ""
    scope: str = ""
    required_by: Key = ("routes", 0)
    signed: bool = True

    @property
    def kind(self) -> RefusalKind:
        """Return the kind of the refusal."""
        status = _STATUS.match(self.cause)
        return _kind(self.error, self.cause, int(status[0]) if status else 0)


def diagnose(refusal: Refusal, evidence: Evidence, *, proxy_variable: str = "") -> Complaint:
    """Return *refusal* with explanation; *proxy_variable* is a set variable such as HTTPS_PROXY, "" if none is."""
    if not refusal.signed:
        what, _, fix = refusal.cause.rpartition("; ")
        return Complaint(key=evidence.at(next(iter(evidence.section.key_settings), "")), what=what, fix=fix)
    kind = refusal.kind
    ranked = sorted(_causes(kind, refusal, evidence, proxy_variable), key=lambda one: not one.confirmed)[:_MOST_CAUSES]
    asked = refusal.audience or refusal.scope
    what = f"no token{f' for {asked}' if asked else ''}: {kind.value} ({refusal.cause})"
    if not ranked:
        return Complaint(
            key=evidence.at("token_url"), what=what, fix="wait, then try again; report it to the bank if it persists"
        )
    number = [f"{at}. " if len(ranked) > 1 else "" for at in range(1, len(ranked) + 1)]
    causes = "; ".join(
        f"{place}{one.what}{' (the configuration confirms it)' if one.confirmed else ''}"
        for place, one in zip(number, ranked, strict=True)
    )
    return Complaint(key=ranked[0].key, what=f"{what}; likely: {causes}", fix=ranked[0].fix)


def may_pass(refusal: Refusal, evidence: Evidence, *, proxy_variable: str = "") -> bool:
    """Return whether a later mint can succeed though nothing is changed here; *proxy_variable* as in `diagnose`."""
    if refusal.kind is RefusalKind.PROOF and evidence.section.auth_method.startswith("client_secret"):
        return False  # no upload is waited for
    causes = _causes(refusal.kind, refusal, evidence, proxy_variable)
    return refusal.signed and refusal.kind in _PASSING and not any(one.confirmed for one in causes)


def clock_off(name: str, skew: float | None) -> Complaint | None:
    """Return a warning about a clock skew that is corrected for, None if the skew is small or unknown."""
    if skew is None or abs(skew) <= SKEW_WORTH_SAYING_SECONDS:
        return None
    return Complaint(
        key=("credentials", name),
        what=f"{likely_causes.clock_words(skew)}; assertions are corrected for it, up to 10 min",
        fix="let NTP set this machine's clock",
        severity=Severity.WARNING,
    )


def _kind(error: str, cause: str, status: int) -> RefusalKind:
    if "instead of JSON" in cause or 300 <= status < 400:
        return RefusalKind.INTERMEDIARY
    for number, kind in _NUMBERS.items():
        if number in cause:
            return kind
    if error in _ERRORS:
        return _ERRORS[error]
    if status in _STATUSES:
        return _STATUSES[status]
    if status:
        return RefusalKind.OUTAGE if status >= 500 else RefusalKind.ADDRESS
    return RefusalKind.SLOW if "no complete answer within" in cause else RefusalKind.OUTAGE


def _causes(kind: RefusalKind, refusal: Refusal, evidence: Evidence, proxy_variable: str) -> Iterator[LikelyCause]:
    audience_at: Key = (*refusal.required_by, "audience")
    match kind:
        case RefusalKind.CLIENT_ID:
            yield from likely_causes.client_id(evidence)
        case RefusalKind.PROOF:
            yield from _proof(refusal, evidence)
        case RefusalKind.AUDIENCE:
            yield from likely_causes.audience(evidence, asked=refusal.audience, at=audience_at)
        case RefusalKind.SCOPE:
            yield _scope(refusal)
        case RefusalKind.ENTITLEMENT:
            yield from _confirmed(likely_causes.client_id(evidence))
            what = "the client is not entitled to this audience, or this machine's address is not on the bank's list"
            yield LikelyCause(audience_at, what, "ask your representative at the bank to entitle this client")
        case RefusalKind.REQUEST:
            yield from _request(refusal, evidence, audience_at)
        case RefusalKind.ADDRESS | RefusalKind.MALFORMED:
            yield _address(evidence)
        case RefusalKind.INTERMEDIARY:
            yield from _intermediary(evidence, proxy_variable)
        case RefusalKind.SLOW:
            what = "the connection is established, but no answer arrives: the endpoint or a proxy in between is slow"
            yield LikelyCause(evidence.at("timeout"), what, "try again; then ask who operates the network in between")


def _proof(refusal: Refusal, evidence: Evidence) -> Iterator[LikelyCause]:
    match evidence.section.auth_method:
        case "private_key_jwt":
            yield from likely_causes.key_id(evidence)
            yield from likely_causes.assertion_audience(evidence)
            yield from likely_causes.unproven_key(evidence)
            yield from likely_causes.validity(evidence)
            yield from likely_causes.clock(evidence)
            known = "MSIS" in refusal.cause  # ADFS says MSIS9607 for an unknown one
            unusual = not (known or likely_causes.usual_client_id(evidence))
            # An id in the bank's usual form was copied from its page; more often the upload was forgotten.
            yield from likely_causes.client_id(evidence) if unusual else ()
            yield from likely_causes.registration(evidence)
            yield from likely_causes.client_id(evidence) if not (known or unusual) else ()
            yield from likely_causes.tls_identity(evidence)
        case "tls_client_auth":
            yield from likely_causes.tls_identity(evidence)
            yield from likely_causes.client_id(evidence)
        case _:
            yield from likely_causes.secret(evidence)
            yield from likely_causes.client_id(evidence)


def _request(refusal: Refusal, evidence: Evidence, audience_at: Key) -> Iterator[LikelyCause]:
    yield from _confirmed(likely_causes.audience(evidence, asked=refusal.audience, at=audience_at))
    if evidence.section.extra_parameters:
        what = "extra_parameters has fields that this endpoint does not accept"
        yield LikelyCause(evidence.at("extra_parameters"), what, "remove them one by one")
    yield _address(evidence)


def _scope(refusal: Refusal) -> LikelyCause:
    at: Key = (*refusal.required_by, "scope")
    if not refusal.scope:
        return LikelyCause(at, "the route names no scope, and this client has no default one", "set scope")
    what = f'the bank does not know the scope "{refusal.scope}", or has not granted it to this client'
    return LikelyCause(at, what, "correct it, or remove scope if the bank named none")


def _address(evidence: Evidence) -> LikelyCause:
    usual = str(PRESETS[evidence.section.flavor].get("token_url", ""))
    other_path = bool(usual) and urlsplit(usual).path != urlsplit(evidence.section.token_url).path.rstrip("/")
    what = f"token_url has another path than the bank's {usual}" if other_path else "token_url is not right"
    fix = "remove token_url: the flavor sets it" if other_path else "copy it from what the bank gave you"
    return LikelyCause(evidence.at("token_url"), what, fix, confirmed=other_path)


def _intermediary(evidence: Evidence, proxy_variable: str) -> Iterator[LikelyCause]:
    proxied = bool(evidence.section.egress_proxy)
    what = "egress_proxy answered itself" if proxied else "a proxy or portal in between answered for the bank"
    fix = "get the bank's host allowed there" if proxied else "get this machine's access to the bank allowed there"
    if proxy_variable and not proxied:
        what = f"{what}; {proxy_variable} is set here, which payproxy does not read"
        fix = "set egress_proxy to that proxy"
    yield LikelyCause(evidence.at("egress_proxy"), what, fix, confirmed=proxied or bool(proxy_variable))
    yield _address(evidence)


def _confirmed(found: Iterable[LikelyCause]) -> Iterator[LikelyCause]:
    return (one for one in found if one.confirmed)
