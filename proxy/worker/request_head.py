"""Strict HTTP/1.1 parsing of caller requests (RFC 9112): heads, framing, chunks; pure functions.

aiohttp's own parser (llhttp) is lenient where two servers can read one message differently: it skips spaces in the
request line, takes a chunked body's last trailer for a header of the next request, and drops what follows an offered
upgrade. A grammar without recovery is small, unambiguous, and costs less.
"""

import re
from typing import Final

from proxy.errors import BadRequest, HeadersTooLarge, TargetTooLong
from proxy.http1.syntax import CONTROLS, control_fault
from proxy.routing.headers import HeaderLines
from proxy.routing.request_head import RawHead
from proxy.routing.target import MAX_TARGET_BYTES

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
_VERSIONS: Final = {b"%d.%d" % (major, minor): (major, minor) for major in range(10) for minor in range(10)}
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]+)?")
_TRAILER: Final = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
_MOST_DIGITS: Final = 18
# Cached request lines: a known one needs no match. Lines with a query are not cached, since they rarely repeat.
_LINES: Final = 1024
_LONGEST_LINE: Final = 256

LONGEST_CHUNK_LINE: Final = 1024
# Limit of bytes for chunk sizes, extensions and trailers; a body in chunks of one byte needs 5 for each.
CHUNK_OVERHEAD_BYTES: Final = 16384
CHUNK_OVERHEAD_FACTOR: Final = 8
# RFC 9112 2.2: servers skip at least one empty line before a request line.
EMPTY_LINES: Final = 4


class HeadParser:
    """Parses the heads of one listener's connections; caches parsed header lines and request lines."""

    def __init__(self) -> None:
        self._headers = HeaderLines()
        self._lines: dict[bytes, tuple[str, str, tuple[int, int]]] = {}

    def parse(self, head: bytes) -> RawHead:
        """Return the parsed *head* (without its empty line), or a RawHead whose *fault* says why it is invalid."""
        try:
            return self._parse(head)
        except (BadRequest, TargetTooLong) as fault:
            return refused(fault)

    def _parse(self, head: bytes) -> RawHead:
        lines = head.split(b"\r\n")
        known = self._lines.get(lines[0])
        method, target, version = known if known is not None else self._request_line(lines[0])
        read = self._headers.read
        raw = RawHead(method, target, version, [read(lines[index]) for index in range(1, len(lines))])
        if raw.fault is not None:
            raise raw.fault
        named = raw.named
        raw.closes = version[0] < 1 or version == (1, 0)
        if len(named) > 1 or b"host" not in named:
            _frame(raw, named.get(b"content-length"), named.get(b"transfer-encoding"))
            if b"connection" in named:
                options = named[b"connection"].lower()
                raw.closes = b"close" in options or (raw.closes and b"keep-alive" not in options)
        return raw

    def _request_line(self, line: bytes) -> tuple[str, str, tuple[int, int]]:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            if len(line.translate(None, CONTROLS)) != len(line):
                raise control_fault(line)
            raise request_line_fault(line)
        found = (match[1].decode("ascii"), match[2].decode("ascii"), _VERSIONS[match[3]])
        if len(line) <= _LONGEST_LINE and b"?" not in line:
            if len(self._lines) >= _LINES:
                self._lines.clear()
            self._lines[line] = found
        return found


def _frame(raw: RawHead, length: bytes | None, coding: bytes | None) -> None:
    """Set the body's length or that it is chunked; raises BadRequest if the framing is ambiguous (RFC 9112 6)."""
    if coding is not None:
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if raw.version == (1, 0):
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != b"chunked":
            raise BadRequest("The only Transfer-Encoding served is chunked.", status=501)
        raw.chunked = True
    elif length is not None:
        if not length.isdigit() or len(length) > _MOST_DIGITS:
            raise BadRequest("Content-Length is not a number of bytes.")
        raw.content_length = int(length)


def refused(fault: BadRequest | HeadersTooLarge | TargetTooLong) -> RawHead:
    """Return a RawHead that holds only *fault*."""
    return RawHead(method="-", target="", version=(1, 1), headers=[], fault=fault)


def request_line_fault(line: bytes) -> BadRequest | TargetTooLong:
    """Return the error for *line*, which is no valid request line (RFC 9112 3)."""
    if len(line) > MAX_TARGET_BYTES:
        return TargetTooLong(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
    return BadRequest("The request line is not METHOD SP TARGET SP HTTP/1.1, or this is not HTTP.")


def unfinished_fault(rest: bytes, data: bytes, *, limit: int) -> BadRequest | HeadersTooLarge | TargetTooLong | None:
    """Return the error, if any, in an unfinished head of which *rest* and now *data* have been received."""
    seen = rest[-1:] + data
    ends = seen.count(b"\r\n")
    if seen.count(b"\n", len(rest[-1:])) != ends or seen.count(b"\r", 0, len(seen) - 1) != ends:
        return BadRequest("A line of the head ends in something else than CRLF (RFC 9112 2.2).")
    if rest.find(b"\r\n") < 0:
        head = rest + data
        line, ended, _ = head.partition(b"\r\n")
        if ended and not _REQUEST_LINE.fullmatch(line):
            return request_line_fault(line)
        if not ended and (len(line) > MAX_TARGET_BYTES or not _begins_well(line)):
            return request_line_fault(line)
    if len(rest) + len(data) > limit:
        return HeadersTooLarge("The request's head does not end within the limit.")
    return None


def chunk_size(line: bytes) -> int:
    """Return the size in a chunk's first *line*, ignoring its extensions (RFC 9112 7.1); raises BadRequest."""
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise BadRequest("A chunk's size is not a number (RFC 9112 7.1).")
    size = int(match[1], 16)
    if size >= 1 << 62:
        raise BadRequest("A chunk's size is beyond all bounds.")
    return size


def check_trailer(line: bytes) -> None:
    """Raise BadRequest unless *line* is a valid header line; trailers are dropped, but must be well-formed."""
    if not _TRAILER.fullmatch(line):
        raise BadRequest("A trailer is no header line (RFC 9112 7.1.2).")


def _begins_well(line: bytes) -> bool:
    method, space, rest = line.partition(b" ")
    if not re.fullmatch(rb"%b|" % _TOKEN, method) or (space and not method):
        return bool(not space and re.fullmatch(rb"\r?", line))
    target, space, version = rest.partition(b" ")
    return bool(
        re.fullmatch(rb"[\x21-\x7e]*", target)
        and (target or not space)
        and b"HTTP/".startswith(version[:5])
        and re.fullmatch(rb"(HTTP/?[0-9.]*\r?)?|H|HT|HTT", version)
    )
