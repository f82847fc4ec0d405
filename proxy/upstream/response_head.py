"""Parses the head of the bank's response: one strict grammar (RFC 9112 4 to 6), in one pass; pure functions.

A client may recover if two framings contradict each other (RFC 9112 6.3); here that is an error, because two readers
that recover differently allow response splitting.
"""

import re
from typing import Final

from proxy.errors import UpstreamBadResponse
from proxy.http1.syntax import CONTROLS, TOKEN

HEAD_LIMIT: Final = 65536  # bytes of one head: a usual limit of servers for request heads, far above any response's
HEADERS_LIMIT: Final = 200  # aiohttp's limit is 128, nginx has none; the bank sends about 20

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: (.*))?")

_PASSED: Final = 0
_LENGTH: Final = 1
_CODING: Final = 2
_CONNECTION: Final = 3
_DROPPED: Final = 4
_MEANINGS: Final[dict[bytes, int]] = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
} | dict.fromkeys(
    # Hop-by-hop (RFC 9110 7.6.1), and the one name reserved for our responses to callers.
    b"keep-alive proxy-connection te trailer upgrade proxy-authenticate payproxy-request-id".split(),
    _DROPPED,
)
# Values of Connection that name no header.
_NAMELESS: Final = frozenset({b"keep-alive", b"Keep-Alive", b"close", b"Close"})
_NO_NAMES: Final[frozenset[bytes]] = frozenset()


BODILESS: Final = frozenset({204, 304})


class _Line:
    """A header line: what it *means* for us, its *value* if it is relevant, and what that says.

    *length* is that of Content-Length. For Connection: whether it *closes*, and which other *names* it lists.
    """

    __slots__ = ("closes", "length", "means", "names", "value")

    def __init__(self, means: int, value: bytes) -> None:
        self.means = means
        self.value = value
        self.length = 0
        self.closes = False
        self.names: frozenset[bytes] = _NO_NAMES
        if means == _LENGTH:
            self.length = _length(value)
        elif means == _CONNECTION:
            self.closes = b"close" in value.lower()  # matching "closed" too would only cost a reuse
            if value not in _NAMELESS:
                self.names = frozenset([option.strip(b" \t") for option in value.lower().split(b",")]) - {
                    b"content-length"
                }


class _StatusLine:
    """A status line: the *status*, the line in its HTTP/1.1 form, and whether the response is HTTP/1.0."""

    __slots__ = ("http_1_0", "start", "status")

    def __init__(self, status: int, start: bytes, *, http_1_0: bool) -> None:
        self.status = status
        self.start = start
        self.http_1_0 = http_1_0


# Parsed lines: most lines of a server's responses are the same each time. Bounded, since the bank chooses the lines;
# cleared when full, so that lines that never repeat don't fill it.
_LINES: Final[dict[bytes, _Line]] = {}
_STATUS_LINES: Final[dict[bytes, _StatusLine]] = {}


class ResponseHead:
    """A validated, unambiguous head.

    *start* is the status line in its HTTP/1.1 form. *lines* are all header lines, *passed* those to relay: without
    hop-by-hop headers, Transfer-Encoding and the length of a 204; both as the bank wrote them. *persistent*: the
    connection stays open after the response (RFC 9112 9.3).
    """

    __slots__ = ("chunked", "content_length", "lines", "passed", "persistent", "start", "status")

    def __init__(self, status: int, start: bytes, lines: list[bytes], passed: list[bytes], *, persistent: bool) -> None:
        self.status = status
        self.start = start
        self.lines = lines
        self.passed = passed
        self.content_length: int | None = None
        self.chunked = False
        self.persistent = persistent

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return names and values in their order and spelling."""
        pairs = [line.partition(b":") for line in self.lines]
        return tuple((name, value.strip(b" \t")) for name, _, value in pairs)

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}, {len(self.lines)} headers>"


def malformed(cause: str) -> UpstreamBadResponse:
    """Return the error for a response that breaks the rule *cause*, which contains no byte of the response."""
    return UpstreamBadResponse("The bank's answer is not acceptable HTTP/1.1", cause=cause)


def read_head(head: bytes) -> ResponseHead:
    """Parse *head* (without its empty line); raises UpstreamBadResponse."""
    lines = head.split(b"\r\n")
    first = lines.pop(0)
    start = _STATUS_LINES.get(first) or _status_line(first)
    if len(lines) > HEADERS_LIMIT:
        raise malformed("too many headers")
    passed: list[bytes] = []
    meant: list[_Line] = []
    for line in lines:
        known = _LINES.get(line) or _header_line(line)
        means = known.means
        if means == _PASSED:
            passed.append(line)
        elif means != _DROPPED:
            meant.append(known)
            if means == _LENGTH:
                passed.append(line)
    response = ResponseHead(start.status, start.start, lines, passed, persistent=not start.http_1_0)
    named = _frame(response, meant, http_1_0=start.http_1_0)
    if start.status == 204 and response.content_length is not None:
        named |= {b"content-length"}  # not allowed there (RFC 9110 8.6): some callers would wait for that body
    if named:
        response.passed = [line for line in passed if line.partition(b":")[0].lower() not in named]
    return response


def check_unfinished(start: bytes, fresh: bytes) -> None:
    """Raise UpstreamBadResponse if the received part of a head is already invalid.

    *start* are its first bytes, at most nine; *fresh* is the part not checked before and the byte before it. Another
    protocol is detected by its first bytes, not by a time-out.
    """
    if not (b"HTTP/1.1 ".startswith(start) or b"HTTP/1.0 ".startswith(start)):
        raise malformed("not an HTTP/1.0 or HTTP/1.1 status line")
    fresh = fresh.removeprefix(b"\n")  # was checked with its CR
    fresh = fresh.removesuffix(b"\r")  # its LF may follow
    if len(fresh.translate(None, CONTROLS)) != len(fresh) - 2 * fresh.count(b"\r\n"):
        raise malformed("a control character, or a line that ends in something else than CRLF")


def _frame(response: ResponseHead, meant: list[_Line], *, http_1_0: bool) -> frozenset[bytes]:
    """Set the body framing of *response* and whether the connection persists; return the names listed in Connection."""
    named: frozenset[bytes] = _NO_NAMES
    for line in meant:
        if line.means == _CONNECTION:
            if line.names:
                named |= line.names
            if line.closes:
                response.persistent = False
        elif response.chunked or response.content_length is not None:
            raise malformed("more than one framing header")
        elif line.means == _LENGTH:
            response.content_length = line.length
        elif http_1_0 or line.value.lower() != b"chunked":
            raise malformed("Transfer-Encoding is not chunked")
        else:
            response.chunked = True
    return named


def _header_line(line: bytes) -> _Line:
    _check_text(line)
    name, colon, value = line.partition(b":")
    if not colon:
        raise malformed("a header line has no colon (RFC 9112 5)")
    if not TOKEN.fullmatch(name):
        raise malformed("a header's name is no token (RFC 9110 5.6.2)")
    means = _MEANINGS.get(name.lower(), _PASSED)
    found = _Line(means, value.strip(b" \t") if means else b"")
    if len(line) <= 128:
        if len(_LINES) >= 2048:
            _LINES.clear()
        _LINES[line] = found
    return found


def _status_line(line: bytes) -> _StatusLine:
    _check_text(line)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise malformed("not an HTTP/1.0 or HTTP/1.1 status line")
    status = int(match[2])
    if not 100 <= status <= 599:
        raise malformed("the status is not in 200 to 599")
    found = _StatusLine(status, b"HTTP/1.1 %d %b" % (status, match[3] or b""), http_1_0=match[1] == b"0")
    if len(_STATUS_LINES) < 256 and len(line) <= 64:
        _STATUS_LINES[line] = found
    return found


def _check_text(line: bytes) -> None:
    if len(line.translate(None, CONTROLS)) != len(line):
        raise malformed("a control character, or a line that ends in something else than CRLF")
    if not line.isascii():
        _check_utf8(line)


def _check_utf8(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError:
        raise malformed("the head is not UTF-8") from None


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19 or (length := int(value)) >= 1 << 63:
        raise malformed("Content-Length is not a length")
    return length
