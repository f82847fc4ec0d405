"""The validated head of a request: parsed once, strictly (RFC 9110, RFC 9112)."""

import re
from dataclasses import dataclass, field
from typing import Final

from proxy.callers.caller import key_in_basic
from proxy.errors import BadRequest, BodyEncoded, BrowserRefused, HeadersTooLarge, ProxyError
from proxy.http1.syntax import CONTROLS
from proxy.routing.headers import Header, HeaderLine, alike
from proxy.routing.target import HIGHEST_PORT, Target, parse_target

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9\-]{0,31}")
_MAX_HEADERS: Final = 1000
# List headers, whose lines are joined (RFC 9110 5.3); any other header that we read must not be repeated.
LISTS: Final = frozenset({b"connection", b"forwarded", b"x-forwarded-for"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})

# Cache of accepted values: callers choose them, so it is bounded, and targets with a query are not cached.
_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimits:
    """The limits for a head; *hosts* are lower-case names without port, empty for any.

    *targets* and *accepted_hosts* cache what these limits accepted.
    """

    max_header_bytes: int
    hosts: frozenset[str]
    allow_browsers: bool
    targets: dict[str, Target] = field(default_factory=dict, compare=False)
    accepted_hosts: set[bytes] = field(default_factory=set, compare=False)


class RawHead:
    """A head as parsed, its headers sorted; *fault* is what the parser found, *header_fault* what is wrong with those.

    *passed*: the headers to relay; *named*: the values that the proxy itself uses, by lower-case name; *size*: of all
    headers, in bytes. The parser sets *content_length* (None without one), *chunked*, and *closes*: the caller asks to
    close the connection.
    """

    __slots__ = (
        "chunked", "closes", "content_length", "fault", "header_fault", "headers", "method", "named", "passed", "size",
        "target", "version",
    )  # fmt: skip

    def __init__(
        self, method: str, target: str, version: tuple[int, int], headers: list[HeaderLine],
        fault: ProxyError | None = None,
    ) -> None:  # fmt: skip
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.content_length: int | None = None
        self.chunked = False
        self.closes = False
        self.fault = fault
        self.header_fault: ProxyError | None = None
        passed: list[HeaderLine] = []
        named: dict[bytes, bytes] = {}
        size = 0
        for line in headers:
            size += line.size
            header = line.header
            if header is None:
                header = self._unparsed(line)
                if header is None:
                    continue
            read = header.read
            if read is not None:
                if read not in named:
                    named[read] = line.value
                elif read in LISTS:
                    named[read] += b", " + line.value
                elif read in _FRAMING:
                    self.fault = BadRequest(f"{read.decode()} comes twice.")
                elif self.header_fault is None:
                    self.header_fault = BadRequest(f"The header {read.decode()} comes twice.")
            if not header.removed:
                passed.append(line)
        self.passed = passed
        self.named = named
        self.size = size

    def _unparsed(self, line: HeaderLine) -> Header | None:
        """Return the properties of a *line* that was not parsed, or whose name is invalid: then set the fault."""
        try:
            if len(line.value.translate(None, CONTROLS)) != len(line.value):
                raise BadRequest("A header value has a control character (RFC 9110 5.5).")
            line.header = Header(line.name)
        except BadRequest as error:
            self.header_fault = self.header_fault or error
        return line.header

    def __repr__(self) -> str:
        return f"<RawHead {self.method}, {len(self.headers)} headers>"


class RequestHead:
    """A validated, unambiguous head.

    *passed* are the headers to relay, in order and spelling; *content_length* is None without one; *chunked*: the body
    is chunked; *named* has the values that the proxy itself uses, by lower-case name.
    """

    __slots__ = (
        "chunked", "content_length", "expects_continue", "has_body", "http_1_0", "method", "named", "passed", "target",
    )  # fmt: skip

    def __init__(self, raw: RawHead, target: Target, *, http_1_0: bool) -> None:
        self.method = raw.method
        self.target = target
        self.http_1_0 = http_1_0
        self.passed = raw.passed
        self.content_length = raw.content_length
        self.chunked = raw.chunked
        self.has_body = raw.chunked or bool(raw.content_length)
        self.expects_continue = False
        self.named = raw.named

    def __repr__(self) -> str:
        return f"<RequestHead {self.method}, {len(self.passed)} headers handed on>"

    @staticmethod
    def of(raw: RawHead, limits: HeadLimits) -> "RequestHead":
        """Validate *raw* and return its head.

        Raises BadRequest (400, 405, 417, 421, 501, 505), TargetTooLong (414), HeadersTooLarge (431), BrowserRefused.
        """
        if raw.fault is not None:
            raise raw.fault
        http_1_0 = raw.version != (1, 1) and _check_version(raw.version)
        if raw.method not in _ORDINARY_METHODS:
            _check_method(raw.method)
        target = limits.targets.get(raw.target) or _target(raw.target, limits)
        head = RequestHead(raw, target, http_1_0=http_1_0)
        if raw.header_fault is not None:
            raise raw.header_fault
        if raw.size > limits.max_header_bytes or len(raw.headers) > _MAX_HEADERS:
            raise HeadersTooLarge(f"The headers exceed {limits.max_header_bytes} bytes or {_MAX_HEADERS} lines.")
        named = head.named
        host = named.get(b"host")
        if host is None or host not in limits.accepted_hosts:
            _check_host(host, target, limits, http_1_0=http_1_0)
        if len(named) > 1 or host is None:
            if b"connection" in named:
                head.passed = _without_named(head.passed, named[b"connection"])
            if not limits.allow_browsers and (b"origin" in named or b"sec-fetch-site" in named):
                raise BrowserRefused(
                    "The request comes from a web page (Origin or Sec-Fetch-Site); see server.allow_browsers."
                )
            if b"expect" in named:
                head.expects_continue = _expects_continue(named[b"expect"], http_1_0=http_1_0)
        return head

    def refuse_encoded(self) -> None:
        """Raise BodyEncoded for a Content-Encoding, also in a spelling that only some servers take for that name."""
        for line in self.passed:
            named = line.header is not None and line.header.alike == b"content-encoding"
            if named and line.value.lower() != b"identity":
                raise BodyEncoded("This rule signs bodies: send the body as it is, without Content-Encoding.")

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return possible keys of the caller: X-Payproxy-Key, or a Basic password (RFC 7617)."""
        named = self.named
        found = [named[b"x-payproxy-key"]] if b"x-payproxy-key" in named else []
        for name in (b"authorization", b"proxy-authorization"):
            password = key_in_basic(named[name]) if name in named else None
            if password is not None:
                found.append(password)
        return tuple(found)


_ORDINARY_OPTIONS: Final = frozenset({b"", b"close", b"keep-alive", b"upgrade", b"http2-settings", b"te"})


_ORDINARY_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _without_named(passed: list[HeaderLine], connection: bytes) -> list[HeaderLine]:
    """Return *passed* without the headers that *connection*, the value of Connection, names (RFC 9110 7.6.1)."""
    options = frozenset([option.strip() for option in connection.lower().split(b",")])
    if not options - _ORDINARY_OPTIONS:
        return passed
    gone = {alike(option) for option in options}
    return [line for line in passed if line.header is not None and line.header.alike not in gone]


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
    if match is None or int(match["port"] or 0) > HIGHEST_PORT:
        raise BadRequest("The Host header is not a host name with an optional port.")
    if target.host is None and limits.hosts and match["name"].lower() not in limits.hosts:
        raise BadRequest("This Host name is not served here; see server.hosts.", status=421)
    if target.host is None and len(host) <= _LONGEST_REMEMBERED:  # absolute-form: limits.hosts was not checked
        if len(limits.accepted_hosts) >= _REMEMBERED:
            limits.accepted_hosts.clear()
        limits.accepted_hosts.add(host)


def _expects_continue(expect: bytes, *, http_1_0: bool) -> bool:
    if expect.lower() != b"100-continue":
        raise BadRequest("The only expectation that can be met is 100-continue.", status=417)
    return not http_1_0
