"""One request while it lives: the one mutable thing on the data path."""

import asyncio

from proxy.callers.caller import ANONYMOUS, Caller
from proxy.errors import ProxyError, Sent
from proxy.routing.head import RequestHead
from proxy.routing.plan import Plan

_NO, _YES, _UNKNOWN = Sent  # an enum's member costs a call each time it is looked up in its class
_WORST_LAST = (_NO, _YES, _UNKNOWN)


class Attempt:
    """One send to the bank, as records show it; times in epoch seconds (*started_wall*) and milliseconds."""

    __slots__ = (
        "connect_ms", "number", "plan", "refused", "sent", "started_wall", "status", "token_fingerprint", "wait_ms",
    )  # fmt: skip

    def __init__(
        self, number: int, *, plan: Plan, started_wall: float, token_fingerprint: str, connect_ms: float
    ) -> None:
        self.number = number
        self.plan = plan
        self.started_wall = started_wall
        self.token_fingerprint = token_fingerprint
        self.connect_ms = connect_ms
        self.wait_ms = 0.0
        self.status = 0
        self.sent: Sent = _NO
        self.refused = False  # the bank answered that the token is no good: it did nothing

    @property
    def upstream(self) -> str:
        """Return the name of the upstream it went to."""
        return self.plan.way.upstream

    @property
    def credential(self) -> str:
        """Return the name of the credential whose token it had."""
        return self.plan.token_key.credential

    @property
    def side(self) -> str:
        """Return legacy or modern where a migration applies."""
        return self.plan.side


class Exchange:
    """What is known of a request so far; `records` and `telemetry` read it once it has ended.

    *began* and *finished* are monotonic seconds, *began_wall* epoch seconds; *waited* counts the seconds that the
    proxy spent waiting for caller and bank, so that finished - began - waited is its own overhead. *given_up* is the
    plan for the modern side after *plan* became its fallback, *keeping* ends once retries are pinned to a side.
    """

    __slots__ = (
        "admitted", "attempts", "began", "began_wall", "body_hmac", "caller_left", "cause", "client_address", "code",
        "finished", "given_up", "head", "id", "index", "keeping", "method", "note", "origin", "plan", "replayed",
        "request_bytes", "response_bytes", "retryable", "status", "waited",
    )  # fmt: skip

    def __init__(self, exchange_id: str, *, began: float, began_wall: float, client_address: str, method: str) -> None:
        self.id = exchange_id
        self.began = began
        self.began_wall = began_wall
        self.finished = began
        self.waited = 0.0
        self.client_address = client_address
        self.method = method
        self.head: RequestHead | None = None
        self.admitted: Caller = ANONYMOUS
        self.plan: Plan | None = None
        self.given_up: Plan | None = None
        self.keeping: asyncio.Task[bool] | None = None
        self.attempts: list[Attempt] = []
        self.status = 0
        self.origin = "proxy"
        self.code = ""
        self.cause = ""
        self.retryable = False
        self.note = ""
        self.replayed = False
        self.caller_left = False
        self.request_bytes = 0
        self.body_hmac = ""  # stays empty where no key is set, there was no body, or it did not arrive whole
        self.response_bytes = 0
        self.index: tuple[tuple[str, str], ...] = ()

    @property
    def sent_upstream(self) -> Sent:
        """Return the worst over the attempts, not counting one that was answered by a refusal of the token."""
        attempts = self.attempts
        if len(attempts) == 1:  # nearly always; asked twice per request
            return _NO if attempts[0].refused else attempts[0].sent
        worst = Sent.NO
        for attempt in attempts:
            if not attempt.refused and _WORST_LAST.index(attempt.sent) > _WORST_LAST.index(worst):
                worst = attempt.sent
        return worst

    def failed(self, error: ProxyError) -> None:
        """Note that the caller gets *error* instead of the bank's answer."""
        self.origin = "proxy"
        self.code = error.code
        self.cause = error.cause
        self.status = error.status
        self.retryable = error.retryable and self.sent_upstream is Sent.NO

    @property
    def parties(self) -> tuple[str, str, str, str, str, str, str, str, str, str]:
        """Return caller, proof, address, method, route, upstream, credential, audience, side and why, at once."""
        caller, address, method, plan = self.admitted, self.client_address, self.method, self.plan
        if plan is None:
            return caller.name, caller.proof, address, method, "", "", "", "", "", ""
        key = plan.token_key
        return (
            caller.name, caller.proof, address, method,
            plan.route.name, plan.way.upstream, key.credential, key.audience, plan.side, plan.why,
        )  # fmt: skip

    @property
    def caller(self) -> str:
        """Return the caller's name, "" where it is not known."""
        return self.admitted.name

    @property
    def caller_proof(self) -> str:
        """Return by what the caller was recognised."""
        return self.admitted.proof

    @property
    def path(self) -> str:
        """Return the raw path without query, "" where the head was not understood."""
        return self.head.target.path if self.head else ""

    @property
    def query_keys(self) -> tuple[str, ...]:
        """Return the names in the query; their values never enter a record."""
        query = self.head.target.query[1:] if self.head else ""
        return tuple(pair.partition("=")[0] for pair in query.split("&")) if query else ()

    @property
    def route(self) -> str:
        """Return the rule's name, "" where none was found."""
        return self.plan.route.name if self.plan else ""

    @property
    def upstream(self) -> str:
        """Return the upstream's name."""
        return self.plan.way.upstream if self.plan else ""

    @property
    def credential(self) -> str:
        """Return the credential's name."""
        return self.plan.token_key.credential if self.plan else ""

    @property
    def audience(self) -> str:
        """Return the audience of the token."""
        return self.plan.token_key.audience if self.plan else ""

    @property
    def side(self) -> str:
        """Return legacy or modern where a migration applies."""
        return self.plan.side if self.plan else ""

    @property
    def why(self) -> str:
        """Return why the plan is as it is."""
        return self.plan.why if self.plan else ""

    @property
    def retry(self) -> str:
        """Return by what a retry of this is known again on a migrated route, "" where it needs no pin."""
        return self.plan.retry if self.plan else ""

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.method} {self.route or '-'} {self.status} sent={self.sent_upstream}>"
