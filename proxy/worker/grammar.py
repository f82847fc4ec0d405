"""The strict part of HTTP/1.1 that callers are held to (RFC 9112): heads, framing, chunks; pure.

aiohttp's own parser (llhttp) is lenient where two servers can read one message differently: it skips spaces in the
request line, takes a chunked body's last trailer for a header of the next request, and forgets what stands behind an
offered upgrade. A grammar without recovery is small, has one reading, and costs less.
"""

import re

from proxy.errors import BadRequest, HeadersTooLarge, TargetTooLong
from proxy.routing.head import RawHead
from proxy.routing.target import MAX_TARGET_BYTES

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]+)?")
_TRAILER = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0D})
# What decides framing and the connection's end; only names of their lengths need lower().
_JUDGED = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_JUDGED_LENGTHS = frozenset(map(len, _JUDGED))

LONGEST_CHUNK_LINE = 1024
# What chunk sizes, extensions and trailers may take beside the data; a body in chunks of one byte needs 5 for each.
CHUNK_OVERHEAD_BYTES = 16384
CHUNK_OVERHEAD_FACTOR = 8
# RFC 9112 2.2 has servers skip at least one empty line before a request line.
EMPTY_LINES = 4


def parse_head(head: bytes) -> RawHead:
    """Return the head in *head*, which ends before its empty line, or one whose *fault* says why it is none."""
    try:
        return _head(head)
    except (BadRequest, TargetTooLong) as fault:
        return refused(fault)


def _head(head: bytes) -> RawHead:
    lines = head.split(b"\r\n")
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks:
        raise BadRequest("A line of the head ends in something else than CRLF (RFC 9112 2.2).")
    if len(head.translate(None, _CONTROLS)) != len(head):
        raise BadRequest("The head has a control character (RFC 9110 5.5).")
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise request_line_fault(lines[0])
    method, target, major, minor = match.groups()
    version = (int(major), int(minor))
    raw = RawHead(method=method.decode("ascii"), target=target.decode("ascii"), version=version, headers=())
    named: dict[bytes, bytes] = {}
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadRequest("A header line has no colon (RFC 9112 5).")
        value = value.strip(b" \t")
        headers.append((name, value))
        if len(name) in _JUDGED_LENGTHS and (plain := name.lower()) in _JUDGED:
            if plain in named and plain != b"connection":
                raise BadRequest(f"{plain.decode()} comes twice.")
            named[plain] = named[plain] + b"," + value if plain in named else value
    raw.headers = headers
    _frame(raw, length=named.get(b"content-length"), coding=named.get(b"transfer-encoding"))
    options = named.get(b"connection", b"").lower()
    raw.closes = b"close" in options or (version < (1, 1) and b"keep-alive" not in options)
    return raw


def _frame(raw: RawHead, *, length: bytes | None, coding: bytes | None) -> None:
    """Note on *raw* how its body comes; raises BadRequest where servers could read it differently (RFC 9112 6)."""
    if coding is not None:
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if raw.version == (1, 0):
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != b"chunked":
            raise BadRequest("The only Transfer-Encoding served is chunked.", status=501)
        raw.chunked = True
    elif length is not None:
        if not _DIGITS.fullmatch(length):
            raise BadRequest("Content-Length is not a number of bytes.")
        raw.content_length = int(length)


def refused(fault: BadRequest | HeadersTooLarge | TargetTooLong) -> RawHead:
    """Return a head that is nothing but *fault*."""
    return RawHead(method="-", target="", version=(1, 1), headers=(), fault=fault)


def request_line_fault(line: bytes) -> BadRequest | TargetTooLong:
    """Return why *line* is no request line (RFC 9112 3)."""
    if len(line) > MAX_TARGET_BYTES:
        return TargetTooLong(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
    return BadRequest("The request line is not METHOD SP TARGET SP HTTP/1.1, or this is not HTTP.")


def unfinished_fault(rest: bytes, data: bytes, *, limit: int) -> BadRequest | HeadersTooLarge | TargetTooLong | None:
    """Return what is wrong already with a head of which *rest* and now *data* have come, without its end."""
    seen = rest[-1:] + data
    if seen.count(b"\n", len(rest[-1:])) != seen.count(b"\r\n"):
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
    """Return the size that a chunk's first *line* says, without its extensions (RFC 9112 7.1); raises BadRequest."""
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise BadRequest("A chunk's size is not a number (RFC 9112 7.1).")
    size = int(match[1], 16)
    if size >= 1 << 62:
        raise BadRequest("A chunk's size is beyond all bounds.")
    return size


def check_trailer(line: bytes) -> None:
    """Raise BadRequest unless *line* is a header line; trailers are dropped, but not anything may stand there."""
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
