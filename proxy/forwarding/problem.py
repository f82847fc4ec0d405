"""What the proxy answers by itself (RFC 9457), and its Proxy-Status (RFC 9209)."""

import json
from typing import Final

from proxy.errors import (
    CallerTokenInvalid,
    CallerUnauthenticated,
    MethodNotAllowed,
    ProxyError,
)
from proxy.forwarding.exchange import Exchange

# RFC 9457 3.1.1: the page of payproxy's sources that explains each code, one section a code.
_ERRORS_PAGE: Final = "docs/errors.md"

# RFC 9209 2.3: the registered error types that say what the codes say; our own code stands beside them as details.
_ERROR_TYPES: Final = {
    "upstream_unreachable": "destination_unavailable",
    "upstream_reset": "connection_terminated",
    "upstream_bad_response": "http_protocol_error",
    "upstream_timeout": "connection_read_timeout",
    "overloaded": "connection_limit_reached",
    "draining": "proxy_internal_response",
    "internal_error": "proxy_internal_error",
    "log_unavailable": "proxy_internal_error",
    "side_unknown": "proxy_internal_response",
    "token_refused": "proxy_configuration_error",
    "token_unavailable": "proxy_internal_response",
    "body_too_large": "http_request_error",
    "headers_too_large": "http_request_error",
    "target_too_long": "http_request_error",
    "bad_request": "http_request_error",
}


def problem_document(error: ProxyError, exchange: Exchange) -> bytes:
    """Return the application/problem+json body for *error*; nothing in it comes from the bank or a secret."""
    return json.dumps(
        {
            "type": f"{_ERRORS_PAGE}#{error.code}",
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "code": error.code,
            "request_id": exchange.id,
            "sent_upstream": exchange.sent_upstream,
            "retryable": exchange.retryable,
        }
    ).encode()


def problem_headers(error: ProxyError) -> list[bytes]:
    """Return the header lines that belong to *error*: Retry-After, Allow, Proxy-Authenticate, WWW-Authenticate."""
    lines = []
    if error.retry_after is not None or error.status in {429, 503}:
        lines.append(b"Retry-After: %d\r\n" % max(1, error.retry_after or 1))
    if isinstance(error, MethodNotAllowed):
        lines.append(f"Allow: {', '.join(error.allowed)}\r\n".encode("ascii"))
    if isinstance(error, CallerUnauthenticated) and error.status == 407:
        lines.append(b'Proxy-Authenticate: Basic realm="payproxy", charset="UTF-8"\r\n')
    if isinstance(error, CallerTokenInvalid):
        lines.append(b'WWW-Authenticate: Bearer error="invalid_token"\r\n')  # RFC 6750 3
    return lines


def error_status(error: ProxyError) -> str:
    """Return the Proxy-Status parameters for an answer of the proxy's own."""
    return f'error={_ERROR_TYPES.get(error.code, "http_request_denied")}; details="{error.code}"'


def relay_status(exchange: Exchange) -> str:
    """Return the Proxy-Status parameters for a relayed answer; the note says what became of a refused token."""
    parameters = f"received-status={exchange.status}"
    if exchange.note or exchange.replayed:
        parameters += f'; details="{exchange.note or "replayed"}"'
    return parameters
