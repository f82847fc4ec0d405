"""One request as the simulator's endpoints see it."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from proxy.simulator.received import RawHeaders, Received


@dataclass(slots=True, kw_only=True)
class Call:
    """A request; *token* is its bearer token or "", *peer* the x5t#S256 thumbprint of its TLS certificate or "".

    *body* holds at most what the server keeps; *size* and *sha256* are of the whole.
    """

    method: str
    target: str
    path: str
    headers: RawHeaders
    peer: str
    received: Received
    token: str = ""
    body: bytes = b""
    size: int = 0
    sha256: str = ""

    def header(self, name: str) -> str | None:
        """Return the first value of header *name*, any case, as Latin-1, or None."""
        return self.received.header(name)

    def query(self, name: str, default: str = "") -> str:
        """Return the first value of query parameter *name*."""
        for key, value in parse_qsl(self.target.partition("?")[2], keep_blank_values=True):
            if key == name:
                return value
        return default
