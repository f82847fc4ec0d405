"""One GET of the proxy's own on a connection of its own: for tests of a route and for inquiries."""

from dataclasses import dataclass, replace

from proxy.clock import Clock
from proxy.upstream.opener import Upstream
from proxy.upstream.pool import Pool
from proxy.upstream.upload import send


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleAnswer:
    """The answer to a GET; *content_type* as sent, "" if none, *body* its first bytes.

    *encoded*: it is compressed, or otherwise encoded, although that was not asked for (RFC 9110 8.4).
    """

    status: int
    content_type: str
    body: bytes
    encoded: bool = False


async def get_once(
    upstream: Upstream, target: str, *, host_header: str, token: bytes, clock: Clock, seconds: float, most_bytes: int
) -> SingleAnswer:
    """Send a GET of *target* with the bearer *token*; return the answer with at least *most_bytes* of a longer body.

    No wait takes longer than *seconds*. Raises UpstreamFault, Overloaded, and TlsUnusable for files of our own.
    """
    head = _head(target, host_header, token)
    bounded = replace(
        upstream,
        connect_timeout=min(upstream.connect_timeout, seconds),
        response_timeout=min(upstream.response_timeout, seconds),
        max_connections=1,
    )
    pool = Pool(bounded, clock=clock)
    try:
        connection = await pool.connect()
        deadline = clock.monotonic() + seconds
        answer = await send(connection, head, b"", method="GET", now=clock.monotonic(), deadline=deadline)
        body = b""
        while len(body) < most_bytes and (piece := await answer.read()):
            body += piece
    finally:
        await pool.close()
    kind = next((value for name, value in answer.headers if name.lower() == b"content-type"), b"")
    encoded = any(
        value.lower() not in {b"", b"identity"} for name, value in answer.headers if name.lower() == b"content-encoding"
    )
    return SingleAnswer(status=answer.status, content_type=kind.decode("latin-1"), body=body, encoded=encoded)


def _head(target: str, host_header: str, token: bytes) -> bytes:
    """Return a whole head: lines that each end in CRLF, and an empty one (RFC 9112 2.1)."""
    lines = (
        f"GET {target} HTTP/1.1".encode("ascii"),
        b"Host: " + host_header.encode("ascii"),
        b"Accept: application/json",
        b"Accept-Encoding: identity",
        b"Authorization: Bearer " + token,
    )
    return b"\r\n".join([*lines, b"", b""])
