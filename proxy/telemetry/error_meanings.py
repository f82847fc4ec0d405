"""What each error code means and what to do about it, in a sentence or two: docs/errors.md has all of it."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class ErrorMeaning(NamedTuple):
    """What happened, and the next step; a test compares both with docs/errors.md, whose sections begin with them."""

    meaning: str
    next_step: str


_ASK = "Ask the bank whether it has the request, by request id or Idempotency-Key, before it is sent again."

MEANINGS: Final[Mapping[str, ErrorMeaning]] = {
    "bad_request": ErrorMeaning(
        "Target, framing, header, Host, method, expectation or version of the request can be read in two ways, or"
        " not at all.",
        "Correct the request as `detail` says.",
    ),
    "browser_refused": ErrorMeaning(
        "A web page must not be able to pay through the proxy.",
        "Send it from a program.",
    ),
    "caller_unauthenticated": ErrorMeaning(
        "No configured caller, or more than one, matches the request.",
        "`payproxy logs show ID` shows the address.",
    ),
    "caller_token_invalid": ErrorMeaning(
        "Only with a `[facade]`: the bearer token is expired or unknown, and nothing else proves a caller.",
        "None: the client fetches a new token and sends the request again, as after a 401 of the bank.",
    ),
    "caller_not_allowed": ErrorMeaning(
        "The rule that takes path and method has a list of callers, and this caller is not in it.",
        "`payproxy explain METHOD PATH --caller NAME`; add the caller to the rule, or put a rule for it before.",
    ),
    "no_route": ErrorMeaning(
        "No rule takes the path; or the request came by `HTTP_PROXY=` and its host is not the rule's upstream.",
        "`payproxy explain METHOD PATH` shows how the rules are read.",
    ),
    "method_not_allowed": ErrorMeaning(
        "A rule takes the path, but none takes the method.",
        "Add the method to the rule, or a rule for it.",
    ),
    "body_too_large": ErrorMeaning(
        "The body is above server.max_body_bytes, or the rule signs bodies and it is above replay_body_bytes.",
        "Raise the limit.",
    ),
    "body_encoded": ErrorMeaning(
        "The body has a Content-Encoding other than `identity`, and its rule signs bodies.",
        "Turn compression of requests off in the client.",
    ),
    "headers_too_large": ErrorMeaning(
        "The header section is above server.max_header_bytes, or has too many lines.",
        "Remove them, or raise the limit.",
    ),
    "target_too_long": ErrorMeaning(
        "Path and query have more than 16384 bytes.",
        "Send less.",
    ),
    "rate_limited": ErrorMeaning(
        "The caller is above its max_requests_per_second.",
        "The caller waits as `Retry-After` says and sends again; nothing was sent. Or raise the limit.",
    ),
    "overloaded": ErrorMeaning(
        "A limit of the proxy is reached.",
        "Look at `http_client_request_duration_seconds` (is the bank slow?) and `payproxy_requests_in_flight`.",
    ),
    "draining": ErrorMeaning(
        "The instance is stopping.",
        "The load balancer sends the caller to another instance; else send again in a moment.",
    ),
    "side_unknown": ErrorMeaning(
        "Only on a migrated rule: an earlier try of this request may have gone to the other side, and which one "
        "can't be determined now. It is not sent, because it could pay twice.",
        "The caller sends again as `Retry-After` says. If it lasts: `payproxy migration status` and "
        "`/readyz?verbose` name the replica or the file.",
    ),
    "signature_unavailable": ErrorMeaning(
        "The rule signs bodies, and this one could not be signed, so it was not sent.",
        "The caller sends again as `Retry-After` says.",
    ),
    "log_unavailable": ErrorMeaning(
        "The journal can't be written, so nothing is sent, reads included.",
        "`/readyz?verbose` and the log say which. Free disk space, repair the sink, or raise request_log.spool_bytes.",
    ),
    "internal_error": ErrorMeaning(
        "A defect of payproxy.",
        'Report it with `cause` and `payproxy --version`. If `sent_upstream` is not "no", ask the bank before the '
        "request is sent again.",
    ),
    "token_refused": ErrorMeaning(
        "The token endpoint answered, and the answer was no (400, 401 or 403).",
        "`payproxy check --online` names the likely cause.",
    ),
    "token_unavailable": ErrorMeaning(
        "The token endpoint gave no usable answer: 429, 5xx, a time-out, no connection, or something that is not "
        "a token.",
        "It is tried again automatically, after 1 second, then after twice the time, up to 60 seconds. While a "
        "token is valid, no request fails. If it lasts: `payproxy check --online` from the same machine.",
    ),
    "upstream_unreachable": ErrorMeaning(
        "DNS, connect or TLS failed.",
        "`payproxy check --online` tests DNS and TLS.",
    ),
    "upstream_reset": ErrorMeaning(
        "The connection broke after the first byte was handed to it. The outcome is unknown; payproxy does not "
        "send it again.",
        _ASK,
    ),
    "upstream_bad_response": ErrorMeaning(
        "The bank's answer is not acceptable HTTP/1.1 (RFC 9112). The outcome is unknown.",
        _ASK,
    ),
    "upstream_timeout": ErrorMeaning(
        "The bank did not answer, or took no more of the body, within upstreams.NAME.response_timeout. The "
        "outcome is unknown.",
        _ASK,
    ),
}

# The facade's token endpoint answers in OAuth's words (RFC 6749 5.2).
_FACADE: Final = ErrorMeaning(
    "The facade's token endpoint refused a token request.", "`payproxy logs show ID` shows what was wrong with it."
)


def meaning_of(code: str, status: int = 0) -> str:
    """Return what an error with our *code* means, or, with code "", an answer of the bank with *status*, 0 for none."""
    if code:
        return MEANINGS.get(code, _FACADE).meaning
    return (
        f"The bank answered {status}."
        if status
        else "No answer is on record: the caller left, or the worker process was killed."
    )


def next_step_of(code: str, sent_upstream: str) -> str:
    """Return what to do after an error with our *code*, "" for an answer of the bank or none."""
    if code:
        return MEANINGS.get(code, _FACADE).next_step
    if sent_upstream == "unknown":
        return _ASK
    return "`payproxy logs show ID` shows the answer's ids, by which the bank can find it."
