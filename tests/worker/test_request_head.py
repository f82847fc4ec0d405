"""Heads read in one pass: sorted by the parser or by `RequestHead.of`, they mean the same."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import ProxyError
from proxy.routing.headers import HeaderLine
from proxy.routing.request_head import RawHead, RequestHead
from proxy.worker.request_head import HeadParser
from tests.routing.support import limits, pairs

NAMES = [
    b"Host", b"host", b"Accept", b"X-A", b"Connection", b"Forwarded", b"X-Forwarded-For", b"Content-Length",
    b"Transfer-Encoding", b"Expect", b"Origin", b"Authorization", b"X_Forwarded_Host", b"bad name", b"",
]  # fmt: skip
VALUES = [b"localhost", b" a ", b"", b"5", b"chunked", b"close, X-A", b"100-continue", b"Basic dTp0d28="]
lines = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)


def understood(raw: RawHead, size: int) -> tuple[object, ...]:
    """Return what `RequestHead.of` makes of *raw*: all of a head, or a refusal."""
    try:
        head = RequestHead.of(raw, limits(max_header_bytes=size))
    except ProxyError as error:
        return type(error), error.status, error.detail
    return (
        head.method, head.target, head.http_1_0, pairs(head.passed), head.content_length, head.chunked,
        head.expects_continue, head.named,
    )  # fmt: skip


def unparsed(raw: RawHead) -> RawHead:
    """Return *raw* with headers that no parser has read, as `payproxy explain` has them."""
    headers = [HeaderLine(line.name, line.value, None) for line in raw.headers]
    found = RawHead(raw.method, raw.target, raw.version, headers, raw.fault)
    found.content_length, found.chunked, found.closes = raw.content_length, raw.chunked, raw.closes
    return found


@example([(b"Host", b"localhost"), (b"X-A", b"a"), (b"Connection", b"close, X-A")], b"1.1", 200)
@given(lines, st.sampled_from([b"1.1", b"1.0"]), st.integers(1, 200))
def test_headers_that_were_not_parsed_are_read_as_strictly(
    headers: list[tuple[bytes, bytes]], version: bytes, size: int
) -> None:
    """Whatever the parser has read is accepted, passed on or refused exactly as without it."""
    head = b"\r\n".join([b"GET /a HTTP/" + version, *(name + b":" + value for name, value in headers)])
    raw = HeadParser().parse(head)

    assert understood(raw, size) == understood(unparsed(raw), size)


@given(lines)
def test_what_was_seen_before_is_read_the_same(headers: list[tuple[bytes, bytes]]) -> None:
    """Remembered names and request lines change nothing."""
    head = b"\r\n".join([b"GET /a HTTP/1.1", *(name + b":" + value for name, value in headers)])
    parser = HeadParser()
    first, again, fresh = parser.parse(head), parser.parse(head), HeadParser().parse(head)
    for one in (first, again):
        assert (one.method, one.target, pairs(one.headers)) == (fresh.method, fresh.target, pairs(fresh.headers))
        assert (pairs(one.passed), one.named, str(one.fault)) == (pairs(fresh.passed), fresh.named, str(fresh.fault))


def test_request_lines_are_remembered_in_bounds() -> None:
    """Callers choose them: neither their number nor their length may fill the memory, and no query is kept."""
    parser = HeadParser()
    for number in range(3000):
        parser.parse(b"GET /%d HTTP/1.1\r\nHost: x" % number)
    kept = len(parser._lines)
    parser.parse(b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\nHost: x")
    parser.parse(b"GET /?account=1 HTTP/1.1\r\nHost: x")

    assert len(parser._lines) == kept <= 1024


@pytest.mark.parametrize("line", [b"GET /a HTTP/1.1 ", b"GET  /a HTTP/1.1", b"GET /a HTTP/1.1\x0b", b"GET /a http/1.1"])
def test_a_bad_line_is_refused_each_time(line: bytes) -> None:
    """Only what was understood is remembered."""
    parser = HeadParser()
    parser.parse(b"GET /a HTTP/1.1\r\nHost: x")
    for _ in range(2):
        assert parser.parse(line + b"\r\nHost: x").fault is not None
