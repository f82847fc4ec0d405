"""Heads as bytes: the request's to the bank, the answer's to the caller; pure."""

from collections.abc import Sequence

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
# Values of Connection that name no header that would be handed on otherwise.
_NAMELESS = frozenset({b"keep-alive", b"Keep-Alive"})

Headers = Sequence[tuple[bytes, bytes]]


class _Relayed(dict[bytes, bool]):
    """Spellings seen before: whether they are handed on. Bounded, since the bank chooses them."""

    def __missing__(self, name: bytes) -> bool:
        relayed = name.lower() not in _NOT_RELAYED
        if len(self) < 1024 and len(name) <= 64:
            self[name] = relayed
        return relayed


_RELAYED = _Relayed()


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
    shortest = len(secret)
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason.replace(secret, REDACTED) if secret in reason else reason)]
    relayed = _RELAYED
    named = b""
    for name, value in headers:
        if relayed[name]:
            lines += (name, b": ", value if len(value) < shortest else value.replace(secret, REDACTED), b"\r\n")
        elif value not in _NAMELESS and name.lower() == b"connection":
            named += b"," + value
    if named:
        also = frozenset(option.strip() for option in named.lower().split(b","))
        rest = [header for header in headers if header[0].lower() not in also and relayed[header[0]]]
        return relayed_lines(status, reason, rest, token)
    return lines


def added_headers(exchange: Exchange, proxy_status: str) -> bytes:
    """Return the two headers that the proxy adds to an answer (RFC 9209 for Proxy-Status)."""
    return f"Payproxy-Request-Id: {exchange.id}\r\nProxy-Status: payproxy; {proxy_status}\r\n".encode("ascii")
