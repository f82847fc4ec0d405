"""Heads as bytes: the request's to the bank, the answer's to the caller; pure."""

from collections.abc import Iterable

from proxy.forwarding.exchange import Exchange
from proxy.routing.head import RequestHead
from proxy.routing.plan import Plan
from proxy.tokens.token import AccessToken

# Hop-by-hop in an answer (RFC 9110 7.6.1), the framing that the answer gets anew, and a name that only we may use.
_NOT_RELAYED = frozenset(
    b"""connection keep-alive proxy-connection te trailer transfer-encoding upgrade proxy-authenticate content-length
    payproxy-request-id""".split()
)
REDACTED = b"***"

Headers = Iterable[tuple[bytes, bytes]]


def outbound_head(head: RequestHead, plan: Plan, token: AccessToken, *, held: int | None) -> bytes:
    """Return the request head for the bank: Host, the caller's headers, the bearer token (RFC 6750 2.1), the framing.

    *held* is the number of body bytes when the body is held whole, None when it is streamed as the caller frames it.
    """
    route = plan.route
    lines = [f"{head.method} {plan.target} HTTP/1.1\r\nHost: {route.host_header}\r\n".encode("ascii")]
    lines += [b"%b: %b\r\n" % header for header in head.passed]
    lines.append(f"Authorization: Bearer {token.value.reveal()}\r\n".encode("ascii"))
    if held is not None:
        if held or head.content_length is not None or head.chunked:
            lines.append(b"Content-Length: %d\r\n" % held)
    elif head.chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    else:
        lines.append(b"Content-Length: %d\r\n" % (head.content_length or 0))
    lines.append(b"\r\n")
    return b"".join(lines)


def relayed_lines(status: int, reason: bytes, headers: Headers, token: AccessToken) -> list[bytes]:
    """Return the bank's status line and headers to hand on: none of them hop-by-hop, the token in none of them."""
    secret = token.value.reveal().encode("ascii")
    named = b",".join(value for name, value in headers if name.lower() == b"connection").lower()
    also = frozenset(option.strip() for option in named.split(b",")) if named else frozenset()
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason.replace(secret, REDACTED) if secret in reason else reason)]
    lines += [
        b"%b: %b\r\n" % (name, value.replace(secret, REDACTED) if len(value) >= len(secret) else value)
        for name, value in headers
        if (plain := name.lower()) not in _NOT_RELAYED and plain not in also
    ]
    return lines


def added_headers(exchange: Exchange, proxy_status: str) -> bytes:
    """Return the two headers that the proxy adds to an answer (RFC 9209 for Proxy-Status)."""
    return f"Payproxy-Request-Id: {exchange.id}\r\nProxy-Status: payproxy; {proxy_status}\r\n".encode("ascii")
