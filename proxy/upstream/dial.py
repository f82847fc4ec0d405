"""Opens a socket to the bank, directly or through an egress proxy."""

import asyncio
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.upstream.resolver import Address

_REPLY_LIMIT = 16384  # bytes of the egress proxy's reply to CONNECT; usually under 200
_ACCEPTED = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9][ \r]")


class TunnelRefused(OSError):
    """The egress proxy refused the tunnel; the text holds at most the status of its response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """A proxy that opens tunnels with CONNECT (RFC 9110 9.3.6)."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Egress | None":
        """Parse *url* (`http://host:port`); return None if it is empty; raises ValueError."""
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.username is not None:
            raise ValueError("an egress proxy is given as http://host:port")
        return cls(host=parts.hostname, port=parts.port or 80)


async def dial(address: Address, *, tunnel_to: str = "") -> socket.socket:
    """Return a socket connected to *address*, or through it to *tunnel_to* (`host:port`); raises OSError."""
    connected = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connected.settimeout(0)  # not blocking
        await asyncio.get_running_loop().sock_connect(connected, address.target)
        if tunnel_to:
            await _open_tunnel(connected, tunnel_to)
    except BaseException:
        connected.close()
        raise
    return connected


async def _open_tunnel(proxy: socket.socket, tunnel_to: str) -> None:
    """Send CONNECT to the egress proxy and read its reply; raises TunnelRefused."""
    loop = asyncio.get_running_loop()
    proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await loop.sock_sendall(proxy, f"CONNECT {tunnel_to} HTTP/1.1\r\nHost: {tunnel_to}\r\n\r\n".encode())
    reply = b""
    while b"\r\n\r\n" not in reply:
        piece = await loop.sock_recv(proxy, 4096)
        reply += piece
        if not piece or len(reply) > _REPLY_LIMIT:
            raise TunnelRefused("the egress proxy did not answer CONNECT")
    if not _ACCEPTED.match(reply):
        status = reply[9:12].decode("ascii", "replace")
        raise TunnelRefused(
            f"the egress proxy answered CONNECT with {status if status.isdigit() else 'a malformed status line'}"
        )
    if not reply.endswith(b"\r\n\r\n") or reply.count(b"\r\n\r\n") > 1:
        # In TLS and in HTTP, the server behind the tunnel does not send first.
        raise TunnelRefused("the egress proxy sent more than its answer to CONNECT")
