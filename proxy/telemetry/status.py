"""The keeper's state at one instant, as a plain value: health, metrics and pages interpret it."""

import dataclasses
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from proxy.telemetry.error_meanings import meaning_of, next_step_of
from proxy.telemetry.expiry import expiry_step, expiry_words
from proxy.times import recent

# RFC 6749 5.2, and invalid_resource (RFC 8707 calls it invalid_target), which the legacy ADFS endpoint sends.
_OAUTH = {
    "invalid_request": "a form field is missing or not understood: look at audience, scope and extra_parameters",
    "invalid_client": "the client is not known or could not prove itself: look at client_id, the secret, or key, kid "
    "and the certificate registered at the bank's portal, and at the clock",
    "invalid_grant": "the assertion was not accepted: look at assertion_audience, the clock and the certificate "
    "registered at the bank's portal",
    "unauthorized_client": "the client may not use client_credentials here: the bank has to enable it",
    "unsupported_grant_type": "this is not the token endpoint for client_credentials: look at token_url",
    "invalid_scope": "the scope is unknown or not granted to this client: look at scope",
    "invalid_resource": "the resource is unknown or not granted to this client: look at the route's audience",
    "invalid_target": "the audience is unknown or not granted to this client: look at the route's audience",
}

# How far back `callers` and `errors` go.
RECENT_SECONDS: Final = 3600

_WORD = re.compile("[a-z_]+")

_CODES = {
    "token_refused": "the token endpoint refused the credential",
    "token_unavailable": "the token endpoint could not be reached, was too busy, or its answer made no sense; or "
    "the key's token or program could not sign",
}


class TokenState(StrEnum):
    """NONE: no token yet, or the last one expired and was dropped; the others are states of an access token."""

    NONE = "none"
    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


class WorkerState(StrEnum):
    """The state of a worker process; UNRESPONSIVE: it is alive, but its heartbeats are missing."""

    STARTING = "starting"
    SERVING = "serving"
    UNRESPONSIVE = "unresponsive"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatus:
    """One token slot in displayable form, never the token.

    *tried*: its first mint has ended, successfully or not. *minter* is the replica that minted the token, "" for this
    one. *minted* and *expires* are epoch seconds, 0 without a token.
    *error_code* is "" after a successful mint, else token_refused or token_unavailable; *error* is the endpoint's text,
    for the operator; *retry_in* is in seconds. *refused* is when the bank last refused a token of it, 0 for never.
    """

    credential: str
    audience: str
    scope: str = ""
    state: TokenState
    tried: bool
    fingerprint: str = ""
    minter: str = ""
    seconds_left: float = 0.0
    minted: float = 0.0
    expires: float = 0.0
    error_code: str = ""
    error: str = ""
    retry_in: float = 0.0
    refused: float = 0.0

    @property
    def usable(self) -> bool:
        """Return whether requests can be sent with it."""
        return self.state in (TokenState.FRESH, TokenState.STALE)

    @property
    def meaning(self) -> str:
        """Return what the last error means, "" if there is none."""
        return meaning(self.error_code, self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """A certificate in use: *name* of its table, *use* such as "credential", "server", "upstream"; epoch seconds.

    *warning* is "expires in 13 days" from 30 days before its end on, "" before.
    """

    name: str
    use: str
    subject: str
    expires: float
    warning: str = ""

    def at(self, now: float) -> Self:
        """Return this status at *now*, epoch seconds."""
        near = expiry_step(self.expires, now=now) is not None
        return dataclasses.replace(self, warning=expiry_words(self.expires, now=now) if near else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A live worker process; *started* in epoch seconds; *full*: it lacked descriptors for new callers a second ago.

    *in_flight* requests and *connections* of callers are the last reported values. *late* requests have waited long for
    the bank's answer; *late_seconds* and *late_route* are of the oldest.
    """

    worker: int
    pid: int
    state: WorkerState
    started: float
    full: bool = False
    in_flight: int = 0
    connections: int = 0
    late: int = 0
    late_seconds: float = 0.0
    late_route: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    """A migration at one instant: *weight* of 100 callers are on modern; *when* it was set, in epoch seconds.

    *phase* is legacy, ramp or modern. A rollback goes to *last_good*; *guard_pinned* are the callers that the guard
    keeps on legacy. *retry_pins* counts the valid ones. *unsettled* names what the last change still waits for;
    *unsaved* and *unshared* why it is not on disk or not sent to other replicas, "" if all is well. *silent_replicas*
    were not heard of; those in *gone_without* are silent, and the last change, by force, did not wait for them. A
    side's token is at hand if requests could be sent with it now; *modern_tokens* have the details.
    """

    name: str
    weight: int
    version: int
    who: str
    when: float
    reason: str
    phase: str
    last_good: int
    guard_pinned: tuple[str, ...] = ()
    finished: bool = False
    retry_pins: int = 0
    retry_pins_in_words: str = ""
    unsettled: str = ""
    unsaved: str = ""
    unshared: str = ""
    silent_replicas: str = ""
    gone_without: tuple[str, ...] = ()
    legacy_token_at_hand: bool = False
    modern_token_at_hand: bool = False
    modern_tokens: tuple[TokenStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerStatus:
    """Numbers of requests of the caller *name* ("" if anonymous) within RECENT_SECONDS; *last* in epoch seconds.

    *failed*: the bank, a token endpoint or the way there failed; *held_back*: the proxy refused them. *sent_unknown*
    are also counted among the others.
    """

    name: str
    requests: int
    fine: int
    client_errors: int
    failed: int
    held_back: int
    other: int
    sent_unknown: int
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatus:
    """One kind of error within RECENT_SECONDS: by code and route, or by status of the bank's answer (*code* is "").

    *caller*, *id*, *cause* and *sent_upstream* are those of the last request; *last* is its time in epoch seconds.
    """

    code: str
    status: int
    route: str
    count: int
    last: float
    caller: str
    id: str
    cause: str
    sent_upstream: str

    @property
    def meaning(self) -> str:
        """Return what happened, in words."""
        return meaning_of(self.code, self.status)

    @property
    def next_step(self) -> str:
        """Return what to do, in words."""
        return next_step_of(self.code, self.sent_upstream)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """A sink of the request log: records it has not taken yet, those it refused for good, why it fails now or ""."""

    name: str
    backlog: int
    dropped: int
    failing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The keeper at one instant.

    *config_digest* is "" until a configuration is in force. *uptime* is in seconds. A problem is a sentence for the
    operator, "" if there is none; *reload_problem* is that of the last reload. *shares_tokens*: with other replicas.
    *routes* are the names of the rules; *facade*: there is a token endpoint for callers. *time* is when, in epoch
    seconds. *callers* and *errors* are those of the last RECENT_SECONDS where the status is shown; they take up to
    7 ms, so probes and metrics do without. *replicas* are the other ones that are alive; *shared*: there is a [state]
    to share with them.
    """

    environment: str
    instance: str
    version: str
    config_digest: str
    uptime: float
    draining: bool = False
    key_problems: tuple[str, ...] = ()
    journal_problem: str = ""
    reload_problem: str = ""
    workers_wanted: int
    workers: tuple[WorkerStatus, ...] = ()
    tokens: tuple[TokenStatus, ...] = ()
    ready_requires: tuple[str, ...] = ()
    certificates: tuple[CertificateStatus, ...] = ()
    migrations: tuple[MigrationStatus, ...] = ()
    migration_problem: str = ""
    shares_tokens: bool = False
    sharing_problem: str = ""
    routes: tuple[str, ...] = ()
    signed_routes: tuple[str, ...] = ()
    facade: bool = False
    time: float = 0.0
    callers: tuple[CallerStatus, ...] = ()
    errors: tuple[ErrorStatus, ...] = ()
    sinks: tuple[SinkStatus, ...] = ()
    shared: bool = False
    replicas: tuple[str, ...] = ()

    @property
    def journal_backlog(self) -> int:
        """Return the records that the slowest sink has not taken yet."""
        return max((sink.backlog for sink in self.sinks), default=0)

    @property
    def log_dropped(self) -> dict[str, int]:
        """Return by sink the records that it refused for good."""
        return {sink.name: sink.dropped for sink in self.sinks}

    @property
    def recent(self) -> str:
        """Return the time that *callers* and *errors* are of, in words: they are empty after a start."""
        return recent(RECENT_SECONDS, uptime=self.uptime)

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON values, each error with its meaning, and what is left of each certificate."""
        values = dataclasses.asdict(self)
        values["tokens"] = [dataclasses.asdict(token) | {"meaning": token.meaning} for token in self.tokens]
        values["certificates"] = [
            dataclasses.asdict(one) | {"seconds_left": one.expires - self.time} for one in self.certificates
        ]
        values["errors"] = [
            dataclasses.asdict(error) | {"meaning": error.meaning, "next_step": error.next_step}
            for error in self.errors
        ]
        values["recent_seconds"] = RECENT_SECONDS
        values["journal_backlog"], values["log_dropped"] = self.journal_backlog, self.log_dropped
        return values


def meaning(code: str, error: str) -> str:
    """Return what our *code*, or the first known word in the endpoint's *error*, means; "" without a code."""
    if code == "token_refused":
        for word in _WORD.findall(error):
            if word in _OAUTH:
                return _OAUTH[word]
    return _CODES.get(code, code)
