"""The head of a request: understood once, strictly, or refused (RFC 9110, RFC 9112)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.callers.caller import key_in_basic
from proxy.errors import BadRequest, BrowserRefused, HeadersTooLarge, ProxyError
from proxy.routing.target import Target, parse_target

RawHeaders = Sequence[tuple[bytes, bytes]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_METHOD = re.compile(r"[A-Z][A-Z0-9\-]{0,31}")
_MAX_HEADERS = 1000

# Never handed on: hop-by-hop (RFC 9110 7.6.1), what only proxies may say, what reroutes inside other servers.
_REMOVED = frozenset(
    b"""connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings proxy-authenticate
    host content-length authorization proxy-authorization x-payproxy-key expect forwarded via
    x-original-url x-rewrite-url x-http-method-override x-method-override x-http-method""".split()
)
# Servers read `_` and `.` in a name as `-`, or drop what they don't like in it: compared are letters and digits alone.
_PUNCTUATION = b"!#$%&'*+-.^_`|~"
_SQUASHED = frozenset(name.translate(None, _PUNCTUATION) for name in _REMOVED)
_SQUASHED_PREFIX = b"xforwarded"
_READ = frozenset(
    b"""host expect connection content-length transfer-encoding authorization proxy-authorization x-payproxy-key
    origin sec-fetch-site forwarded x-forwarded-for""".split()
)
# What was accepted before is remembered: callers choose what they send, so within bounds, and nothing with a query.
_REMEMBERED = 1024
_LONGEST_REMEMBERED = 256


def _alike(name: bytes) -> bytes:
    return name.replace(b"_", b"-").replace(b".", b"-")


class _Header:
    """What a name means, computed once per spelling."""

    __slots__ = ("alike", "read", "removed")

    def __init__(self, name: bytes) -> None:
        if not _NAME.fullmatch(name):
            raise BadRequest("A header name has a character that is not allowed (RFC 9110 5.1).")
        plain = name.lower()
        squashed = plain.translate(None, _PUNCTUATION)
        self.removed = squashed in _SQUASHED or squashed.startswith(_SQUASHED_PREFIX)
        self.alike = _alike(plain)
        self.read = plain if plain in _READ else None


class HeaderNames(dict[bytes, _Header]):
    """Names seen before; bounded, since callers choose them. A dict, so that a known name costs no call."""

    def __missing__(self, name: bytes) -> _Header:
        """Return what *name* means; raises BadRequest for one that is not allowed."""
        header = _Header(name)
        if len(self) < 2048 and len(name) <= 64:
            self[name] = header
        return header


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """What a head is checked against; *hosts* are lower-case names without port, empty for any.

    *names*, *targets* and *accepted_hosts* remember what these limits let pass.
    """

    max_header_bytes: int
    hosts: frozenset[str]
    allow_browsers: bool
    names: HeaderNames = field(default_factory=HeaderNames, compare=False)
    targets: dict[str, Target] = field(default_factory=dict, compare=False)
    accepted_hosts: set[bytes] = field(default_factory=set, compare=False)


@dataclass(slots=True)
class RawHead:
    """A head as the parser gave it, or the *fault* that it found.

    *content_length* (None without one) and *chunked* are how the body comes; *closes* asks to end the connection.
    *sorted_size* is at least the size of all headers in bytes if *passed* and *named* hold them sorted as `RequestHead`
    has them, else 0: then `RequestHead.of` sorts and, where there is a reason, refuses.
    """

    method: str
    target: str
    version: tuple[int, int]
    headers: RawHeaders
    content_length: int | None = None
    chunked: bool = False
    closes: bool = False
    fault: ProxyError | None = None
    passed: list[tuple[bytes, bytes]] = field(default_factory=list)
    named: dict[bytes, bytes] = field(default_factory=dict)
    sorted_size: int = 0


@dataclass(slots=True)
class RequestHead:
    """A head that has one meaning.

    *passed* are the headers to hand on, in order and spelling; *content_length* is None without one; *chunked* says how
    the body comes; *named* has the values that the proxy itself reads, by lower-case name.
    """

    method: str
    target: Target
    http_1_0: bool
    passed: list[tuple[bytes, bytes]]
    content_length: int | None
    chunked: bool
    expects_continue: bool
    named: dict[bytes, bytes]

    @classmethod
    def of(cls, raw: RawHead, limits: HeadLimits) -> "RequestHead":
        """Return the head in *raw*.

        Raises BadRequest (400, 405, 417, 421, 501, 505), TargetTooLong (414), HeadersTooLarge (431), BrowserRefused.
        """
        if raw.fault is not None:
            raise raw.fault
        http_1_0 = raw.version != (1, 1) and _check_version(raw.version)
        if raw.method not in _ORDINARY_METHODS:
            _check_method(raw.method)
        target = limits.targets.get(raw.target) or _target(raw.target, limits)
        if 0 < raw.sorted_size <= limits.max_header_bytes and len(raw.headers) <= _MAX_HEADERS:
            passed, named = raw.passed, raw.named
        else:
            passed, named = _sort(raw.headers, limits)
        host = named.get(b"host")
        if host not in limits.accepted_hosts:
            _check_host(host, target, limits, http_1_0=http_1_0)
        expects = False
        if len(named) > 1 or host is None:
            if b"connection" in named:
                passed = _without_named(passed, named[b"connection"], limits)
            if not limits.allow_browsers and (b"origin" in named or b"sec-fetch-site" in named):
                raise BrowserRefused(
                    "The request comes from a web page (Origin or Sec-Fetch-Site); see server.allow_browsers."
                )
            expects = b"expect" in named and _expects_continue(named[b"expect"], http_1_0=http_1_0)
        return cls(raw.method, target, http_1_0, passed, raw.content_length, raw.chunked, expects, named)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return what may be the caller's key: X-Payproxy-Key, or a Basic password (RFC 7617)."""
        named = self.named
        found = [named[b"x-payproxy-key"]] if b"x-payproxy-key" in named else []
        for name in (b"authorization", b"proxy-authorization"):
            password = key_in_basic(named[name]) if name in named else None
            if password is not None:
                found.append(password)
        return tuple(found)

    @property
    def has_body(self) -> bool:
        """Return whether a body comes with this head."""
        return self.chunked or bool(self.content_length)


_ORDINARY_OPTIONS = frozenset({b"", b"close", b"keep-alive", b"upgrade", b"http2-settings", b"te"})


_ORDINARY_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# These may come in several lines, which then read as one list (RFC 9110 5.3); any other that we read must be single.
LISTS = frozenset({b"connection", b"forwarded", b"x-forwarded-for"})


def _sort(headers: RawHeaders, limits: HeadLimits) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """Return the headers to hand on and the values that the proxy reads."""
    passed: list[tuple[bytes, bytes]] = []
    named: dict[bytes, bytes] = {}
    size = 0
    for pair in headers:
        name, value = pair
        size += len(name) + len(value) + 4
        if _BAD_VALUE.search(value):
            raise BadRequest("A header value has a control character (RFC 9110 5.5).")
        header = limits.names[name]
        if header.read is not None:
            if header.read in named:
                if header.read not in LISTS:
                    raise BadRequest(f"The header {header.read.decode()} comes twice.")
                named[header.read] += b", " + value
            else:
                named[header.read] = value
        if not header.removed:
            passed.append(pair)
    if size > limits.max_header_bytes or len(headers) > _MAX_HEADERS:
        raise HeadersTooLarge(f"The headers exceed {limits.max_header_bytes} bytes or {_MAX_HEADERS} lines.")
    return passed, named


def _without_named(
    passed: list[tuple[bytes, bytes]], connection: bytes, limits: HeadLimits
) -> list[tuple[bytes, bytes]]:
    """Return *passed* without the headers that *connection*, the value of Connection, names (RFC 9110 7.6.1)."""
    options = frozenset(option.strip() for option in connection.lower().split(b","))
    if not options - _ORDINARY_OPTIONS:
        return passed
    gone = {_alike(option) for option in options}
    return [header for header in passed if limits.names[header[0]].alike not in gone]


def _target(raw: str, limits: HeadLimits) -> Target:
    target = parse_target(raw)
    if len(raw) <= _LONGEST_REMEMBERED and "?" not in raw:
        if len(limits.targets) >= _REMEMBERED:
            limits.targets.clear()
        limits.targets[raw] = target
    return target


def _check_version(version: tuple[int, int]) -> bool:
    if version == (1, 1):
        return False
    if version == (1, 0):
        return True
    raise BadRequest("Only HTTP/1.0 and HTTP/1.1 are served.", status=505)


def _check_method(method: str) -> None:
    if method in {"CONNECT", "TRACE"}:
        raise BadRequest(f"{method} is not served: it would open a tunnel or echo the access token.", status=405)
    if not _METHOD.fullmatch(method):
        raise BadRequest("The method is not known.", status=501)


def _check_host(host: bytes | None, target: Target, limits: HeadLimits, *, http_1_0: bool) -> None:
    if host is None:
        if not http_1_0:
            raise BadRequest("HTTP/1.1 demands a Host header (RFC 9112 3.2).")
        return
    match = _HOST.fullmatch(host.decode("latin-1"))
    if match is None:
        raise BadRequest("The Host header is not a host name with an optional port.")
    if target.host is None and limits.hosts and match["name"].lower() not in limits.hosts:
        raise BadRequest("This Host name is not served here; see server.hosts.", status=421)
    if target.host is None and len(host) <= _LONGEST_REMEMBERED:  # with a host in the target, less was checked
        if len(limits.accepted_hosts) >= _REMEMBERED:
            limits.accepted_hosts.clear()
        limits.accepted_hosts.add(host)


def _expects_continue(expect: bytes, *, http_1_0: bool) -> bool:
    if expect.lower() != b"100-continue":
        raise BadRequest("The only expectation that can be met is 100-continue.", status=417)
    return not http_1_0
