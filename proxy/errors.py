"""The exception hierarchy: each class has its status and code, and its base class tells whose fault it is."""

from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final

# What reading JSON can raise that somebody else has written, or a failing disk has changed: members that are missing or
# of another type, 1e999, thousands of brackets.
MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class Sent(StrEnum):
    """Whether the bank may have a request: `no` until its first byte is written to a connected socket."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class ProxyError(Exception):
    """An error response of the proxy instead of the bank's.

    *detail* is sent to the caller and contains no secret; *cause* goes to record and log only.
    *retry_after* is in seconds.
    """

    status: int = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The proxy failed"
    retryable: ClassVar[bool] = False
    sent: Sent = Sent.NO

    def __init__(self, detail: str, *, cause: str = "", retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cause = cause
        self.retry_after = retry_after


class CallerFault(ProxyError):
    """The caller has to change something."""


class UpstreamFault(ProxyError):
    """The bank, its token endpoint or the network to them failed."""


class OwnFault(ProxyError):
    """The proxy can't serve the request now."""


class BadRequest(CallerFault):
    """Target, framing, header, Host, method, expectation or version are not acceptable (RFC 9110, RFC 9112)."""

    status = 400
    code = "bad_request"
    title = "The request can't be accepted"

    def __init__(self, detail: str, *, status: int = 400, cause: str = "") -> None:
        super().__init__(detail, cause=cause)
        self.status = status


class BrowserRefused(CallerFault):
    """The request has Origin or Sec-Fetch-Site: a web page must not be able to pay."""

    status = 403
    code = "browser_refused"
    title = "Requests from browsers are refused"


class CallerUnauthenticated(CallerFault):
    """No configured caller matches the proofs of this request."""

    status = 403
    code = "caller_unauthenticated"
    title = "The caller is not known"

    def __init__(self, detail: str, *, status: int = 403, cause: str = "") -> None:
        super().__init__(detail, cause=cause)
        self.status = status


class CallerTokenInvalid(CallerFault):
    """The bearer is an expired or unknown token of the facade, or a foreign one: the only 401 that the proxy generates.

    Clients that request tokens themselves request a new one on 401 only (RFC 6750 3.1).
    """

    status = 401
    code = "caller_token_invalid"
    title = "The access token is expired or unknown"

    def __init__(self, *, cause: str = "") -> None:
        super().__init__("Get a new access token where the last came from, and send the request again.", cause=cause)


class CallerNotAllowed(CallerFault):
    """The route does not list this caller."""

    status = 403
    code = "caller_not_allowed"
    title = "The caller may not use this route"


class NoRoute(CallerFault):
    """No rule matches the path."""

    status = 404
    code = "no_route"
    title = "No rule matches this path"


class MethodNotAllowed(CallerFault):
    """A rule matches the path, none the method; *allowed* goes into Allow (RFC 9110 15.5.6)."""

    status = 405
    code = "method_not_allowed"
    title = "No rule allows this method here"

    def __init__(self, detail: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.allowed = allowed


class BodyTooLarge(CallerFault):
    """The body exceeds max_body_bytes, or replay_body_bytes of a rule that signs bodies."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class BodyEncoded(CallerFault):
    """The body has a Content-Encoding, and its rule signs bodies: the bank would have to verify compressed bytes."""

    status = 415
    code = "body_encoded"
    title = "The body is compressed and can't be signed"


class HeadersTooLarge(CallerFault):
    """The header section exceeds max_header_bytes."""

    status = 431
    code = "headers_too_large"
    title = "The headers are too large"


class TargetTooLong(CallerFault):
    """The request target is too long."""

    status = 414
    code = "target_too_long"
    title = "The request target is too long"


class RateLimited(CallerFault):
    """The caller exceeds its max_requests_per_second."""

    status = 429
    code = "rate_limited"
    title = "Too many requests from this caller"
    retryable = True


class Overloaded(OwnFault):
    """A limit of the proxy is reached: requests in flight, body memory or connections to the bank."""

    status = 503
    code = "overloaded"
    title = "The proxy is at its limit"
    retryable = True


class Draining(OwnFault):
    """The proxy is stopping."""

    status = 503
    code = "draining"
    title = "The proxy is stopping"
    retryable = True


class LogUnavailable(OwnFault):
    """The journal can't be written, so nothing is sent."""

    status = 503
    code = "log_unavailable"
    title = "The request log can't be written"
    retryable = True


class SideUnknown(OwnFault):
    """An earlier try of this request may have gone to another side of a migration, and that can't be determined.

    *soon*: it can in a moment.
    """

    soon = False

    status = 503
    code = "side_unknown"
    title = "The side of this request is not known"
    retryable = True


class SignatureUnavailable(OwnFault):
    """The key of the rule did not sign the body: it can't be used, its device is away or slow, or too many wait."""

    status = 503
    code = "signature_unavailable"
    title = "The body can't be signed now"
    retryable = True


class InternalError(OwnFault):
    """A defect of the proxy."""

    @classmethod
    def of(cls, error: Exception) -> "InternalError":
        """Return the response for *error*; its cause has type and line, never the text, which may quote data."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
        return cls(
            "The proxy has a defect; its operator finds the cause by the request id.",
            cause=f"{type(error).__name__}{place}",
        )


class TokenRefused(UpstreamFault):
    """The token endpoint refused the request (RFC 6749 5.2)."""

    status = 502
    code = "token_refused"
    title = "The token endpoint refused the credential"


class TokenUnavailable(UpstreamFault):
    """No token is available: 429, 5xx, a time-out or a malformed response of the token endpoint; or no signature."""

    status = 503
    code = "token_unavailable"
    title = "No access token is available now"
    retryable = True


class UpstreamUnreachable(UpstreamFault):
    """DNS, connect or TLS failed: certainly nothing was sent."""

    status = 502
    code = "upstream_unreachable"
    title = "The bank can't be reached"
    retryable = True


class UpstreamReset(UpstreamFault):
    """The connection broke after the first byte was written."""

    status = 502
    code = "upstream_reset"
    title = "The connection to the bank broke"
    sent = Sent.UNKNOWN


class UpstreamBadResponse(UpstreamFault):
    """The bank's answer is not acceptable HTTP/1.1 (RFC 9112)."""

    status = 502
    code = "upstream_bad_response"
    title = "The bank's answer can't be understood"
    sent = Sent.UNKNOWN


class UpstreamTimedOut(UpstreamFault):
    """The bank did not respond, or did not read the body, in time."""

    status = 504
    code = "upstream_timeout"
    title = "The bank did not answer in time"
    sent = Sent.UNKNOWN
