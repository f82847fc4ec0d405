"""The head of the bank's answer: one strict grammar (RFC 9112 4 to 6), read in one pass; pure.

A client may recover where two framings contradict each other (RFC 9112 6.3); here that is refused, since two readers
that recover differently are how one answer becomes two.
"""

import re

HEADERS_LIMIT = 200  # aiohttp stops at 128 and nginx has no such limit; the bank sends about 20

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: (.*))?")
_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09})  # CR and LF too

_LENGTH, _CODING, _CONNECTION, _DROPPED = 1, 2, 3, 4
_MEANINGS = {b"content-length": _LENGTH, b"transfer-encoding": _CODING, b"connection": _CONNECTION} | dict.fromkeys(
    # Hop-by-hop (RFC 9110 7.6.1), and the one name that only we may use towards callers.
    b"keep-alive proxy-connection te trailer upgrade proxy-authenticate payproxy-request-id".split(),
    _DROPPED,
)
# Values of Connection that name no header.
_NAMELESS = frozenset({b"keep-alive", b"Keep-Alive", b"close", b"Close"})


class HeadRefused(Exception):
    """It is no head; the text names the rule and repeats no byte of it."""


class _Lines(dict[bytes, tuple[int, bytes] | None]):
    """Header lines seen before: None for one that is just handed on, else what it is and its value.

    Most lines of a server's answers are the same each time, and a known one costs no call. Bounded, since the bank
    chooses them; emptied when full, so that lines that never come again don't keep the others out.
    """

    def __missing__(self, line: bytes) -> tuple[int, bytes] | None:
        name, colon, value = line.partition(b":")
        if not colon:
            raise HeadRefused("a header line has no colon (RFC 9112 5)")
        if not _TOKEN.fullmatch(name):
            raise HeadRefused("a header's name is no token (RFC 9110 5.6.2)")
        meaning = _MEANINGS.get(name.lower())
        found = (meaning, value.strip(b" \t")) if meaning is not None else None
        if len(line) <= 128:
            if len(self) >= 2048:
                self.clear()
            self[line] = found
        return found


class _StatusLines(dict[bytes, tuple[int, bytes, bool]]):
    """Status lines seen before: status, the line as HTTP/1.1 has it, and whether the answer is HTTP/1.0's; bounded."""

    def __missing__(self, line: bytes) -> tuple[int, bytes, bool]:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise HeadRefused("not an HTTP/1.0 or HTTP/1.1 status line")
        status = int(match[2])
        if not 100 <= status <= 599:
            raise HeadRefused("the status is not in 200 to 599")
        found = (status, b"HTTP/1.1 %d %b" % (status, match[3] or b""), match[1] == b"0")
        if len(self) < 256 and len(line) <= 64:
            self[line] = found
        return found


_meaning_of = _Lines().__getitem__
_status_lines = _StatusLines()


class AnswerHead:
    """A head that has one meaning.

    *start* is the status line as an HTTP/1.1 answer has it. *lines* are all header lines, *passed* those to hand on:
    not the hop-by-hop ones, not Transfer-Encoding, no length of a 204; both as the bank wrote them. *persistent*: the
    connection stays open after the answer (RFC 9112 9.3).
    """

    __slots__ = ("chunked", "content_length", "lines", "passed", "persistent", "start", "status")

    def __init__(  # noqa: PLR0917 - by position: 0.2 us less, once per request
        self,
        status: int,
        start: bytes,
        lines: list[bytes],
        passed: list[bytes],
        content_length: int | None,
        chunked: bool,  # noqa: FBT001
        persistent: bool,  # noqa: FBT001
    ) -> None:
        self.status = status
        self.start = start
        self.lines = lines
        self.passed = passed
        self.content_length = content_length
        self.chunked = chunked
        self.persistent = persistent

    @property
    def reason(self) -> bytes:
        """Return what the bank says beside the status, perhaps nothing."""
        return self.start[13:]

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
    if len(head.translate(None, _CONTROLS)) != len(head) - 2 * len(lines) + 2:
        raise HeadRefused("a control character, or a line that ends in something else than CRLF")
    if not head.isascii():
        _check_utf8(head)
    status, start, http10 = _status_lines[lines[0]]
    del lines[0]
    if len(lines) > HEADERS_LIMIT:
        raise HeadRefused("too many headers")
    passed = []
    judged = []
    for line, meaning in zip(lines, map(_meaning_of, lines), strict=True):
        if meaning is None:
            passed.append(line)
        elif meaning[0] != _DROPPED:
            judged.append(meaning)
            if meaning[0] == _LENGTH:
                passed.append(line)
    length, chunked, persistent, named = _judge(judged, http10=http10)
    if status == 204 and length is not None:
        named |= {b"content-length"}  # none may be said there (RFC 9110 8.6): some callers would wait for that body
    if named:
        passed = [line for line in passed if line.partition(b":")[0].lower() not in named]
    return AnswerHead(status, start, lines, passed, length, chunked, persistent)


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


def _judge(judged: list[tuple[int, bytes]], *, http10: bool) -> tuple[int | None, bool, bool, frozenset[bytes]]:
    """Return content length, whether chunked, whether the connection stays open, and the names Connection lists."""
    length: int | None = None
    chunked, persistent = False, not http10
    named: frozenset[bytes] = frozenset()
    for meaning, value in judged:
        if meaning == _CONNECTION:
            if value not in _NAMELESS:
                named |= {option.strip(b" \t") for option in value.lower().split(b",")} - {b"content-length"}
            if b"close" in value.lower():  # taking "closed" for it would only cost a reuse
                persistent = False
        elif chunked or length is not None:
            raise HeadRefused("more than one framing header")
        elif meaning == _LENGTH:
            length = _length(value)
        elif http10 or value.lower() != b"chunked":
            raise HeadRefused("Transfer-Encoding is not chunked")
        else:
            chunked = True
    return length, chunked, persistent, named


def _check_utf8(head: bytes) -> None:
    try:
        head.decode()
    except UnicodeDecodeError:
        raise HeadRefused("the head is not UTF-8") from None


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 19 or (length := int(value)) >= 1 << 63:
        raise HeadRefused("Content-Length is not a length")
    return length
