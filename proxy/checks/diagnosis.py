"""Explains why a mint failed: the kind of answer and its likely causes, confirmed ones first; pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from proxy.checks import likely_causes
from proxy.checks.likely_causes import Evidence, LikelyCause, Verdict
from proxy.settings.credential import PRESETS
from proxy.settings.findings import Complaint, Key, Severity

# Report a larger skew; a smaller one affects no assertion.
SKEW_WORTH_SAYING_SECONDS = 5.0

# More would not be read; the first is right in every case that could be distinguished.
_MOST_SUSPECTS = 4

_STATUS = re.compile(r"\d{3}\b")


class Kind(Enum):
    """The subject of an answer, or of a missing one."""

    CLIENT_ID = "the endpoint does not know the client id"
    PROOF = "the endpoint does not accept the client's proof of who it is"
    AUDIENCE = "the endpoint does not accept the audience"
    SCOPE = "the endpoint does not accept the scope"
    ENTITLEMENT = "the client may not have this token: the bank has to grant it"
    REQUEST = "the endpoint does not accept the request"
    ADDRESS = "there is no token endpoint at this address"
    STRANGER = "something other than the token endpoint answered, most likely a corporate proxy"
    BUSY = "the endpoint asks for fewer requests"
    OUTAGE = "the endpoint has a fault of its own"
    SLOW = "the endpoint did not answer in time"
    NONSENSE = "the endpoint's answer can't be used"


# Kinds that concern the whole client: other audiences would fail too, and the bank sees every failed attempt.
OF_THE_CLIENT = frozenset(Kind) - {Kind.AUDIENCE, Kind.SCOPE, Kind.ENTITLEMENT, Kind.REQUEST}

# Microsoft's error numbers are more precise than the RFC's codes.
_NUMBERS = {
    "MSIS9607": Kind.CLIENT_ID,
    "MSIS9622": Kind.PROOF,
    "MSIS9344": Kind.PROOF,
    "MSIS9602": Kind.AUDIENCE,
    "MSIS9321": Kind.ENTITLEMENT,
}
_ERRORS = {
    "invalid_client": Kind.PROOF,
    "invalid_grant": Kind.PROOF,
    "invalid_resource": Kind.AUDIENCE,
    "invalid_target": Kind.AUDIENCE,
    "invalid_scope": Kind.SCOPE,
    "unauthorized_client": Kind.ENTITLEMENT,
    "access_denied": Kind.ENTITLEMENT,
    "invalid_request": Kind.REQUEST,
    "unsupported_grant_type": Kind.ADDRESS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failed mint: *error* is the endpoint's error code or "", *cause* the text for the operator.

    *place* is the key of the rule, or of a migration's side, that requires *audience* and *scope*.
    """

    error: str
    cause: str
    audience: str = ""
    scope: str = ""
    place: Key = ("routes", 0)

    @property
    def kind(self) -> Kind:
        """Return the kind of the refusal."""
        status = _STATUS.match(self.cause)
        return _kind(self.error, self.cause, int(status[0]) if status else 0)


def diagnose(refusal: Refusal, evidence: Evidence, *, proxy_variable: str = "") -> Complaint:
    """Return *refusal* with explanation; *proxy_variable* is a set variable such as HTTPS_PROXY, "" if none is."""
    kind = refusal.kind
    ranked = sorted(_suspects(kind, refusal, evidence, proxy_variable), key=lambda one: one.verdict)[:_MOST_SUSPECTS]
    asked = refusal.audience or refusal.scope
    what = f"no token{f' for {asked}' if asked else ''}: {kind.value} ({refusal.cause})"
    if not ranked:
        return Complaint(
            key=evidence.at("token_url"), what=what, fix="wait, then try again; report it to the bank if it persists"
        )
    number = [f"{at}. " if len(ranked) > 1 else "" for at in range(1, len(ranked) + 1)]
    causes = "; ".join(
        f"{place}{one.what}{' (the configuration confirms it)' if one.verdict is Verdict.CONFIRMED else ''}"
        for place, one in zip(number, ranked, strict=True)
    )
    return Complaint(key=ranked[0].key, what=f"{what}; likely: {causes}", fix=ranked[0].fix)


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


def _kind(error: str, cause: str, status: int) -> Kind:
    if "instead of JSON" in cause or 300 <= status < 400:
        return Kind.STRANGER
    for number, kind in _NUMBERS.items():
        if number in cause:
            return kind
    if error in _ERRORS:
        return _ERRORS[error]
    by_status = {400: Kind.REQUEST, 401: Kind.ENTITLEMENT, 403: Kind.ENTITLEMENT, 429: Kind.BUSY, 200: Kind.NONSENSE}
    if status in by_status:
        return by_status[status]
    if status:
        return Kind.OUTAGE if status >= 500 else Kind.ADDRESS
    return Kind.SLOW if "no complete answer within" in cause else Kind.OUTAGE


def _suspects(kind: Kind, refusal: Refusal, evidence: Evidence, proxy_variable: str) -> Iterator[LikelyCause]:
    audience_at: Key = (*refusal.place, "audience")
    match kind:
        case Kind.CLIENT_ID:
            yield from likely_causes.client_id(evidence)
        case Kind.PROOF:
            yield from _proof(refusal, evidence)
        case Kind.AUDIENCE:
            yield from likely_causes.audience(evidence, asked=refusal.audience, at=audience_at)
        case Kind.SCOPE:
            yield _scope(refusal)
        case Kind.ENTITLEMENT:
            yield from _confirmed(likely_causes.client_id(evidence))
            yield LikelyCause(
                key=audience_at,
                what="the client is not entitled to this audience, or this machine's address is not on the bank's list",
                fix="ask your representative at the bank to entitle this client",
            )
        case Kind.REQUEST:
            yield from _request(refusal, evidence, audience_at)
        case Kind.ADDRESS | Kind.NONSENSE:
            yield _address(evidence)
        case Kind.STRANGER:
            yield from _stranger(evidence, proxy_variable)
        case Kind.SLOW:
            what = "the connection is established, but no answer arrives: the endpoint or a proxy in between is slow"
            yield LikelyCause(
                key=evidence.at("timeout"), what=what, fix="try again; then ask who operates the network in between"
            )


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
        yield LikelyCause(key=evidence.at("extra_parameters"), what=what, fix="remove them one by one")
    yield _address(evidence)


def _scope(refusal: Refusal) -> LikelyCause:
    at: Key = (*refusal.place, "scope")
    if not refusal.scope:
        return LikelyCause(key=at, what="the route names no scope, and this client has no default one", fix="set scope")
    return LikelyCause(
        key=at,
        what=f'the bank does not know the scope "{refusal.scope}", or has not granted it to this client',
        fix="correct it, or remove scope if the bank named none",
    )


def _address(evidence: Evidence) -> LikelyCause:
    usual = str(PRESETS[evidence.section.flavor].get("token_url", ""))
    other_path = bool(usual) and urlsplit(usual).path != urlsplit(evidence.section.token_url).path.rstrip("/")
    return LikelyCause(
        key=evidence.at("token_url"),
        what=f"token_url has another path than the bank's {usual}" if other_path else "token_url is not right",
        fix="remove token_url: the flavor sets it" if other_path else "copy it from what the bank gave you",
        verdict=Verdict.CONFIRMED if other_path else Verdict.POSSIBLE,
    )


def _stranger(evidence: Evidence, proxy_variable: str) -> Iterator[LikelyCause]:
    proxied = bool(evidence.section.egress_proxy)
    what = "egress_proxy answered itself" if proxied else "a proxy or portal in between answered for the bank"
    fix = "get the bank's host allowed there" if proxied else "get this machine's access to the bank allowed there"
    if proxy_variable and not proxied:
        what = f"{what}; {proxy_variable} is set here, which payproxy does not read"
        fix = "set egress_proxy to that proxy"
    confirmed = proxied or bool(proxy_variable)
    verdict = Verdict.CONFIRMED if confirmed else Verdict.POSSIBLE
    yield LikelyCause(key=evidence.at("egress_proxy"), what=what, fix=fix, verdict=verdict)
    yield _address(evidence)


def _confirmed(found: Iterable[LikelyCause]) -> Iterator[LikelyCause]:
    return (one for one in found if one.verdict is Verdict.CONFIRMED)
