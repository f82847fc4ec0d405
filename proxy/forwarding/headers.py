"""Serializes heads: the request's for the bank, the response's for the caller; pure functions."""

from typing import Final

from proxy.forwarding.exchange import Exchange
from proxy.routing.plan import Plan
from proxy.routing.request_head import RequestHead
from proxy.tokens.token import AccessToken
from proxy.upstream.response_head import ResponseHead

REDACTED: Final = b"***"
_END: Final = b"\r\n"
# Idle connections are kept 90 s by Go, 100 by mono, 118 by curl, 120 by Erlang. The caller has to close first: else a
# request may be in flight when we close. Apache HttpClient, Node and undici obey Keep-Alive.
KEEP_ALIVE_SECONDS: Final = 120
CLOSES: Final = b"Connection: close\r\n\r\n"
# Keep-Alive is a hop-by-hop field, so Connection lists it (RFC 9110 7.6.1).
STAYS_OPEN: Final = b"Connection: keep-alive\r\nKeep-Alive: timeout=120\r\n\r\n"


def outbound_head(head: RequestHead, plan: Plan, token: AccessToken, *, held: int | None) -> bytes:
    """Return the request head for the bank: Host, the caller's headers, the bearer token (RFC 6750 2.1), the framing.

    *held* is the number of body bytes if the whole body is held, None if it is streamed as the caller frames it.
    """
    lines = [plan.start, *[line.raw for line in head.passed]]
    lines.append(b"Authorization: Bearer " + token.value.encoded)
    if held is not None:
        if held or head.content_length is not None or head.chunked:
            lines.append(b"Content-Length: " + str(held).encode("ascii"))
    elif head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    else:
        lines.append(b"Content-Length: " + str(head.content_length or 0).encode("ascii"))
    lines.append(_END)
    return b"\r\n".join(lines)


def relayed_head(head: ResponseHead, token: bytes) -> bytes:
    """Return the bank's status line and headers to relay, unchanged except that the token is redacted."""
    return b"\r\n".join([head.start, *head.passed, b""]).replace(token, REDACTED)


def added_headers(exchange: Exchange, proxy_status: str) -> bytes:
    """Return the two headers that the proxy adds to a response (RFC 9209 for Proxy-Status)."""
    return f"Payproxy-Request-Id: {exchange.id}\r\nProxy-Status: payproxy; {proxy_status}\r\n".encode("ascii")
