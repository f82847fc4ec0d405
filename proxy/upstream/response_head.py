"""The head of the bank's answer: one strict grammar (RFC 9112 4 to 6), read in one pass; pure.

A client may recover where two framings contradict each other (RFC 9112 6.3); here that is refused, since two readers
that recover differently are how one answer becomes two.
"""

import re
from typing import Final

HEADERS_LIMIT: Final = 200  # aiohttp stops at 128 and nginx has no such limit; the bank sends about 20

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
    # Hop-by-hop (RFC 9110 7.6.1), and the one name that only we may use towards callers.
    b"keep-alive proxy-connection te trailer upgrade proxy-authenticate payproxy-request-id".split(),
    _DROPPED,
)
# Values of Connection that name no header.
_NAMELESS: Final = frozenset({b"keep-alive", b"Keep-Alive", b"close", b"Close"})
_NO_NAMES: Final[frozenset[bytes]] = frozenset()


class HeadRefused(Exception):
    """It is no head; the text names the rule and repeats no byte of it."""


class _Line:
    """A header line: what it *means* for us, its *value* if it means anything, and what that says.

    *length* is that of Content-Length. Of Connection: whether it *closes*, and which other *names* it lists.
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
            self.closes = b"close" in value.lower()  # taking "closed" for it would only cost a reuse
            if value not in _NAMELESS:
                self.names = frozenset([option.strip(b" \t") for option in value.lower().split(b",")]) - {
                    b"content-length"
                }


class _StatusLine:
    """A status line: the *status*, the line as HTTP/1.1 has it, and whether the answer is HTTP/1.0's."""

    __slots__ = ("http_1_0", "start", "status")

    def __init__(self, status: int, start: bytes, *, http_1_0: bool) -> None:
        self.status = status
        self.start = start
        self.http_1_0 = http_1_0


class _Lines:
    """Reads lines and remembers what it read: most lines of a server's answers are the same each time.

    Bounded, since the bank chooses them; emptied when full, so that lines that never come again don't keep others out.
    """

    def __init__(self) -> None:
        self._headers: dict[bytes, _Line] = {}
        self._starts: dict[bytes, _StatusLine] = {}

    def header(self, line: bytes) -> _Line:
        """Return what the header *line* is; raises HeadRefused."""
        known = self._headers.get(line)
        return known if known is not None else self._header(line)

    def start(self, line: bytes) -> _StatusLine:
        """Return what the status *line* says; raises HeadRefused."""
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
    """A head that has one meaning.

    *start* is the status line as an HTTP/1.1 answer has it. *lines* are all header lines, *passed* those to hand on:
    not the hop-by-hop ones, not Transfer-Encoding, no length of a 204; both as the bank wrote them. *persistent*: the
    connection stays open after the answer (RFC 9112 9.3).
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
    """Return what *head*, which ends before its empty line, says; raises HeadRefused."""
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
        named |= {b"content-length"}  # none may be said there (RFC 9110 8.6): some callers would wait for that body
    if named:
        answer.passed = [line for line in passed if line.partition(b":")[0].lower() not in named]
    return answer


def check_unfinished(start: bytes, fresh: bytes) -> None:
    """Raise HeadRefused if what has come shows already that it becomes no head.

    *start* are its first bytes, at most nine; *fresh* is what was not seen before and the byte before it. What speaks
    something else is found out by its first bytes, not by a time-out.
    """
    if not (b"HTTP/1.1 ".startswith(start) or b"HTTP/1.0 ".startswith(start)):
        raise HeadRefused("not an HTTP/1.0 or HTTP/1.1 status line")
    fresh = fresh.removeprefix(b"\n")  # was seen with its CR
    fresh = fresh.removesuffix(b"\r")  # its LF may be on the way
    if len(fresh.translate(None, _CONTROLS)) != len(fresh) - 2 * fresh.count(b"\r\n"):
        raise HeadRefused("a control character, or a line that ends in something else than CRLF")


def _judge(answer: AnswerHead, judged: list[_Line], *, http_1_0: bool) -> frozenset[bytes]:
    """Set how the body of *answer* is framed and whether the connection stays open; return what Connection names."""
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
