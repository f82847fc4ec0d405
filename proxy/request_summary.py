"""The summary of a request: written by the data path, read by records and telemetry after the request."""

from typing import Final

from proxy.errors import Sent

# Looking up an enum member in its class costs a call each time.
_NO: Final = Sent.NO
_YES: Final = Sent.YES
_UNKNOWN: Final = Sent.UNKNOWN
_WORST_LAST: Final = (_NO, _YES, _UNKNOWN)


def word(sent: Sent) -> str:
    """Return *sent* as a plain string: an enum's own hash and text are Python functions, a comparison is none."""
    return "yes" if sent is _YES else "no" if sent is _NO else "unknown"


class Chosen:
    """The rule that matched a request and its result; *side* is legacy or modern if a migration applies.

    *upstream_url* and *client_digest* say where and as which client, whatever the names mean later. *rendered* is for
    the record writer: one object serves many requests.
    """

    __slots__ = (
        "audience", "client_digest", "credential", "rendered", "route", "side", "upstream", "upstream_url", "why",
    )  # fmt: skip

    def __init__(
        self, *, route: str = "", upstream: str = "", upstream_url: str = "", credential: str = "",
        client_digest: str = "", audience: str = "", side: str = "", why: str = "",
    ) -> None:  # fmt: skip
        self.route = route
        self.upstream = upstream
        self.upstream_url = upstream_url
        self.credential = credential
        self.client_digest = client_digest
        self.audience = audience
        self.side = side
        self.why = why
        self.rendered = ""

    def __repr__(self) -> str:
        return f"<Chosen {self.route or '-'} {self.side}>"


NOTHING_CHOSEN: Final = Chosen()


class Attempt:
    """One send to the bank; times in epoch seconds (*started_wall*) and milliseconds.

    *refused*: the bank refused the token, so it did nothing.
    """

    __slots__ = (
        "chosen", "connect_ms", "number", "refused", "sent", "started_wall", "status", "token_fingerprint", "wait_ms",
    )  # fmt: skip

    def __init__(
        self, number: int, *, chosen: Chosen, started_wall: float, token_fingerprint: str, connect_ms: float = 0.0
    ) -> None:
        self.number = number
        self.chosen = chosen
        self.started_wall = started_wall
        self.token_fingerprint = token_fingerprint
        self.connect_ms = connect_ms
        self.wait_ms = 0.0
        self.status = 0
        self.sent: Sent = _NO
        self.refused = False

    def __repr__(self) -> str:
        return f"<Attempt {self.number} {self.status} sent={self.sent}>"


class BodySignature:
    """How a body was signed: the *key*'s thumbprint (RFC 7638), and of the JWS its size in *bytes* and *body_hmac*.

    *body_hmac* is empty if no key for it is set.
    """

    __slots__ = ("body_hmac", "bytes", "key")

    def __init__(self, key: str, *, size: int, body_hmac: str) -> None:
        self.key = key
        self.bytes = size
        self.body_hmac = body_hmac

    def __repr__(self) -> str:
        return f"<BodySignature by {self.key}>"


class RequestSummary:
    """The data of one request for records and metrics.

    *started* and *finished* are monotonic seconds, *started_wall* epoch seconds; *waited* counts the seconds that the
    proxy waited for caller and bank, so that finished - started - waited is its own overhead. *path* is raw, without
    *query*; *retry* identifies a retry on a migrated route, "" if it needs no pin; *body_hmac* is empty if no key is
    set, there was no body, or it did not arrive completely; it and *request_bytes* are of what the caller sent, also if
    the body was signed, as *signature* says (None if not). *answer_lines* are the bank's header lines, *answer_index*
    those that the record keeps, *answer_token* is what they must not show. *rendered* and *rendered_for* are for the
    record writer. *left_at* is when the caller disconnected, in monotonic seconds, 0 if it did not or that was not
    noticed.
    """

    __slots__ = (
        "answer_index", "answer_lines", "answer_token", "attempts", "body_hmac", "caller", "caller_left",
        "caller_proof", "cause", "chosen", "client_address", "code", "finished", "id", "index", "left_at", "method",
        "note", "origin", "path", "query", "rendered", "rendered_for", "replayed", "request_bytes",
        "response_bytes", "retry", "signature", "started", "started_wall", "status", "waited",
    )  # fmt: skip

    def __init__(
        self, request_id: str, *, started: float, started_wall: float, client_address: str, method: str
    ) -> None:
        self.id = request_id
        self.started = started
        self.started_wall = started_wall
        self.finished = started
        self.waited = 0.0
        self.client_address = client_address
        self.method = method
        self.path = ""
        self.query = ""
        self.caller = ""
        self.caller_proof = ""
        self.chosen = NOTHING_CHOSEN
        self.retry = ""
        self.attempts: list[Attempt] = []
        self.status = 0
        self.origin = "proxy"
        self.code = ""
        self.cause = ""
        self.note = ""
        self.replayed = False
        self.caller_left = False
        self.left_at = 0.0
        self.request_bytes = 0
        self.body_hmac = ""
        self.signature: BodySignature | None = None
        self.response_bytes = 0
        self.index: tuple[tuple[str, str], ...] = ()
        self.answer_lines: list[bytes] = []
        self.answer_token = b""
        self.answer_index: tuple[tuple[str, str], ...] = ()
        self.rendered = ""
        self.rendered_for: Chosen | None = None

    @property
    def sent_upstream(self) -> Sent:
        """Return the worst value of all attempts, without those whose token was refused."""
        attempts = self.attempts
        if len(attempts) == 1:  # the usual case; called twice per request
            return _NO if attempts[0].refused else attempts[0].sent
        worst: Sent = _NO
        for attempt in attempts:
            if not attempt.refused and _WORST_LAST.index(attempt.sent) > _WORST_LAST.index(worst):
                worst = attempt.sent
        return worst

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.method} {self.chosen.route or '-'} {self.status}>"
