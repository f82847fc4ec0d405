"""Parses the head of the bank's response: one strict grammar (RFC 9112 4 to 6), in one pass; pure functions.

A client may recover if two framings contradict each other (RFC 9112 6.3); here that is an error, because two readers
that recover differently allow response splitting.
"""

import re
from typing import Final

HEADERS_LIMIT: Final = 200  # aiohttp's limit is 128, nginx has none; the bank sends about 20

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: (.*))?")
_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})  # CR and LF too

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


class HeadRefused(Exception):
    """The head is invalid; the text names the rule and quotes no byte of the head."""


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


class _Lines:
    """Parses lines and caches the result: most lines of a server's responses are the same each time.

    Bounded, since the bank chooses the lines; cleared when full, so that lines that never repeat don't fill it.
    """

    def __init__(self) -> None:
        self._headers: dict[bytes, _Line] = {}
        self._starts: dict[bytes, _StatusLine] = {}

    def header(self, line: bytes) -> _Line:
        """Return the parsed header *line*; raises HeadRefused."""
        known = self._headers.get(line)
        return known if known is not None else self._header(line)

    def start(self, line: bytes) -> _StatusLine:
        """Return the parsed status *line*; raises HeadRefused."""
        known = self._starts.get(line)
        return known if known is not None else self._start(line)

    def _header(self, line: bytes) -> _Line:
        _check_text(line)
        name, colon, value = line.partition(b":")
        if not colon:
            raise HeadRefused("a header line has no colon (RFC 9112 5)")
        if not _TOKEN.fullmatch(name):
            raise HeadRefused("a header's name is no token (RFC 9110 5.6.2)")
        means = _MEANINGS.get(name.lower(), _PASSED)
        found = _Line(means, value.strip(b" \t") if means else b"")
        if len(line) <= 128:
            if len(self._headers) >= 2048:
                self._headers.clear()
            self._headers[line] = found
        return found

    def _start(self, line: bytes) -> _StatusLine:
        _check_text(line)
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise HeadRefused("not an HTTP/1.0 or HTTP/1.1 status line")
        status = int(match[2])
        if not 100 <= status <= 599:
            raise HeadRefused("the status is not in 200 to 599")
        found = _StatusLine(status, b"HTTP/1.1 %d %b" % (status, match[3] or b""), http_1_0=match[1] == b"0")
        if len(self._starts) < 256 and len(line) <= 64:
            self._starts[line] = found
        return found


_LINES: Final = _Lines()


class AnswerHead:
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
        return f"<AnswerHead {self.status}, {len(self.lines)} headers>"


def read_head(head: bytes) -> AnswerHead:
    """Parse *head* (without its empty line); raises HeadRefused."""
    lines = head.split(b"\r\n")
    start = _LINES.start(lines[0])
    del lines[0]
    if len(lines) > HEADERS_LIMIT:
        raise HeadRefused("too many headers")
    passed: list[bytes] = []
    judged: list[_Line] = []
    for line in lines:
        known = _LINES.header(line)
        means = known.means
        if means == _PASSED:
            passed.append(line)
        elif means != _DROPPED:
            judged.append(known)
            if means == _LENGTH:
                passed.append(line)
    answer = AnswerHead(start.status, start.start, lines, passed, persistent=not start.http_1_0)
    named = _judge(answer, judged, http_1_0=start.http_1_0)
    if start.status == 204 and answer.content_length is not None:
        named |= {b"content-length"}  # not allowed there (RFC 9110 8.6): some callers would wait for that body
    if named:
        answer.passed = [line for line in passed if line.partition(b":")[0].lower() not in named]
    return answer


def check_unfinished(start: bytes, fresh: bytes) -> None:
    """Raise HeadRefused if the received part of a head is already invalid.

    *start* are its first bytes, at most nine; *fresh* is the part not checked before and the byte before it. Another
    protocol is detected by its first bytes, not by a time-out.
    """
    if not (b"HTTP/1.1 ".startswith(start) or b"HTTP/1.0 ".startswith(start)):
        raise HeadRefused("not an HTTP/1.0 or HTTP/1.1 status line")
    fresh = fresh.removeprefix(b"\n")  # was checked with its CR
    fresh = fresh.removesuffix(b"\r")  # its LF may follow
    if len(fresh.translate(None, _CONTROLS)) != len(fresh) - 2 * fresh.count(b"\r\n"):
        raise HeadRefused("a control character, or a line that ends in something else than CRLF")


def _judge(answer: AnswerHead, judged: list[_Line], *, http_1_0: bool) -> frozenset[bytes]:
    """Set the body framing of *answer* and whether the connection persists; return the names listed in Connection."""
    named: frozenset[bytes] = _NO_NAMES
    for line in judged:
        if line.means == _CONNECTION:
            if line.names:
                named |= line.names
            if line.closes:
                answer.persistent = False
        elif answer.chunked or answer.content_length is not None:
            raise HeadRefused("more than one framing header")
        elif line.means == _LENGTH:
            answer.content_length = line.length
        elif http_1_0 or line.value.lower() != b"chunked":
            raise HeadRefused("Transfer-Encoding is not chunked")
        else:
            answer.chunked = True
    return named


def _check_text(line: bytes) -> None:
    if len(line.translate(None, _CONTROLS)) != len(line):
        raise HeadRefused("a control character, or a line that ends in something else than CRLF")
    if not line.isascii():
        _check_utf8(line)


def _check_utf8(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError:
        raise HeadRefused("the head is not UTF-8") from None


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19 or (length := int(value)) >= 1 << 63:
        raise HeadRefused("Content-Length is not a length")
    return length
