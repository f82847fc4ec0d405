"""Addresses of listeners, URLs and paths of rules, and which names and addresses mean this machine only."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

# RFC 1123 2.1 and RFC 5890: labels of letters, digits and hyphens; Docker's service names also use underscores.
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]/]+):(?P<port>[0-9]{1,5})")

# RFC 3986 unreserved and sub-delims characters without ";": all servers read such a segment alike.
_SEGMENT = re.compile(r"[A-Za-z0-9\-._~!$&'()+,=:@]+")

MAX_PORT = 65535

# sockaddr_un has 108 bytes on Linux and 104 on macOS, the last one a NUL.
MAX_UNIX_PATH_BYTES = 103


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """A host (a name, or an IP address without brackets) and a port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Return whether only this machine can connect."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """The absolute path of a Unix socket."""

    path: str

    @property
    def loopback(self) -> bool:
        """Return True: only this machine can connect."""
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


def listen_address(text: str) -> TcpAddress | UnixAddress:
    """Parse *text*: host:port, [v6]:port or unix:/path; raise ValueError for anything else."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode()) > MAX_UNIX_PATH_BYTES:
            raise ValueError(f"not unix:/path with an absolute path of at most {MAX_UNIX_PATH_BYTES} bytes")
        return UnixAddress(path=path)
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"]) > MAX_PORT:
        raise ValueError("not host:port, [v6]:port or unix:/path")
    host = match["host"]
    if host.startswith("["):
        host = host[1:-1]
        if ":" not in host or not is_ip_address(host):
            raise ValueError("not an IPv6 address in brackets")
    elif not is_host(host):
        raise ValueError("not a host name or an IP address")
    return TcpAddress(host=host, port=int(match["port"]))


def is_host(text: str) -> bool:
    """Return whether *text* is a host name or an IP address without brackets; `10.1` and `300.1.1.1` are neither."""
    if is_ip_address(text):
        return True
    # A numeric last label makes it an IPv4 address for some parsers (WHATWG URL 3.5), so it is no name.
    return bool(_HOST_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdigit()


def is_ip_address(text: str) -> bool:
    """Return whether *text* is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether *host* (a name, or an address without brackets) is this machine (RFC 6761 6.3, RFC 6890)."""
    if is_ip_address(host):
        address = ip_address(host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


class UrlParts(NamedTuple):
    """An http or https URL: *host* lower-case without brackets, *port* always given, *path* without a final slash."""

    scheme: str
    host: str
    port: int
    path: str


def url_parts(url: str) -> UrlParts:
    """Return the parts of *url*; raise ValueError with the reason if it is no plain http or https URL."""
    if not url.isascii() or any(character <= " " or character in '\x7f\\"<>^`{|}' for character in url):
        raise ValueError("has a character that a URL can't have")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if split.scheme not in {"http", "https"} or not split.hostname:
        raise ValueError("is not a URL that starts with https://HOST")
    if "@" in split.netloc:
        raise ValueError("has a user name or password in it")
    if not is_host(split.hostname):
        raise ValueError("has no valid host name")
    if "?" in url or "#" in url:
        raise ValueError("has a query or a fragment")
    if (port is not None and not 1 <= port <= MAX_PORT) or split.netloc.endswith(":"):
        raise ValueError("has no valid port")
    default_port = 443 if split.scheme == "https" else 80
    return UrlParts(split.scheme, split.hostname.lower(), port or default_port, split.path.rstrip("/"))


def segments(path: str) -> tuple[str, ...] | None:
    """Return the segments of *path* ("/" has none), or None if it is not made of whole, safe segments."""
    if path == "/":
        return ()
    if not path.startswith("/"):
        return None
    parts = tuple(path[1:].split("/"))
    safe = all(part == "*" or (_SEGMENT.fullmatch(part) and part not in {".", ".."}) for part in parts)
    return parts if safe else None
