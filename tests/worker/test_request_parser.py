"""Bytes of callers, cut into requests: one reading, whatever the split."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ProxyError
from proxy.routing.request_head import RawHead
from proxy.worker.request_parser import Message, Payload, RequestParser
from tests.routing.support import pairs

MAX_HEAD = 17000


@dataclass
class Seen:
    """A request as it came out: its head, what that says, its body, and what broke the body."""

    head: RawHead = field(compare=False)
    says: tuple[object, ...]
    body: bytes
    whole: bool
    broken: bool


def seen(*segments: bytes, waiting: int = 100) -> list[Seen]:
    """Return the requests in *segments*."""
    loop = asyncio.new_event_loop()
    try:
        parser = RequestParser(BaseProtocol(loop), loop, max_head=MAX_HEAD, max_waiting=waiting, read_buffer=1 << 20)
        messages: list[Message] = []
        for segment in segments:
            new = parser.feed_data(segment)
            messages += new
        return [_seen(head, payload) for head, payload in messages]
    finally:
        loop.close()


def _seen(head: RawHead, payload: Payload) -> Seen:
    broken = payload.exception() is not None
    body = b"" if broken else payload.read_nowait()
    says = (
        head.method, head.target, head.version, pairs(head.headers), head.content_length, head.chunked, head.closes,
        repr(head.fault), pairs(head.passed), head.named, head.size,
    )  # fmt: skip
    return Seen(head, says, body, payload.is_eof(), broken)


def status(*segments: bytes) -> int:
    """Return the status of the fault that the last request in *segments* is, 0 if it is none."""
    fault = seen(*segments)[-1].head.fault
    return fault.status if fault is not None else 0


GET = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\nAccept:  */* \r\n\r\n"
LENGTH = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: x\r\ntransfer-encoding: Chunked\r\n\r\n"
    b'5;name="v"\r\nhello\r\n1\r\n!\r\n0\r\nX-Trailer: dropped\r\n\r\n'
)


def test_a_head_comes_out_as_it_was_sent() -> None:
    """Method, target, version, and headers in their order and spelling; white space around values is not theirs."""
    (one,) = seen(GET)

    assert (one.head.method, one.head.target, one.head.version) == ("GET", "/a?b=1", (1, 1))
    assert pairs(one.head.headers) == [(b"Host", b"x"), (b"Accept", b"*/*")]


def test_bodies_of_both_framings_come_out_whole() -> None:
    """A length and chunks give the same bytes, and a trailer is no header of anything."""
    length, chunked, after = seen(LENGTH + CHUNKED + GET)

    assert (length.body, length.whole) == (b"hello", True)
    assert (chunked.body, chunked.whole) == (b"hello!", True)
    assert pairs(after.head.headers) == [(b"Host", b"x"), (b"Accept", b"*/*")]


@given(st.lists(st.integers(0, len(LENGTH + CHUNKED + GET)), max_size=12))
def test_a_split_changes_nothing(cuts: list[int]) -> None:
    """However the bytes are cut into segments, the requests are the same."""
    whole = LENGTH + CHUNKED + GET
    edges = [0, *sorted(cuts), len(whole)]
    parts = [whole[begin:end] for begin, end in pairwise(edges)]

    assert seen(*parts) == seen(whole)


def test_byte_by_byte_is_the_same() -> None:
    """A caller that sends single bytes is served."""
    whole = b"\r\n" + CHUNKED + LENGTH

    assert seen(*(whole[i : i + 1] for i in range(len(whole)))) == seen(whole)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    """Whatever comes, it is a request, a fault or not enough yet."""
    for one in seen(data):
        assert one.head.fault is None or isinstance(one.head.fault, ProxyError)


@given(st.binary(max_size=60))
def test_no_body_bytes_break_it(data: bytes) -> None:
    """Whatever stands where chunks should, the body is whole, broken or not at its end yet."""
    (one, *_) = seen(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    assert one.head.fault is None
    assert not (one.whole and one.broken)


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b" GET / HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET /", b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.10", b"GET / HTTP/01.1", b"GET / http/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"GET /\x00 HTTP/1.1",
        b"\x00GET / HTTP/1.1", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\x0b", b"GE(T / HTTP/1.1",
    ],
)  # fmt: skip
def test_a_line_that_is_no_request_line_is_refused(line: bytes) -> None:
    """Exactly METHOD SP TARGET SP HTTP/D.D and nothing else is a request line."""
    assert status(line + b"\r\nHost: x\r\n\r\n") == 400


@pytest.mark.parametrize(
    "header",
    [
        b"no colon", b"X: a\nTransfer-Encoding: chunked", b"X: a\rb", b"X: a\x00b", b"X: \x7f", b"X: a\x01",
        b"Content-Length: 1\r\nContent-Length: 1", b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Content-Length: +1", b"Content-Length: 0x1", b"Content-Length: 1_0", b"Content-Length: 1, 1",
        b"Content-Length: ", b"Content-Length: 1e3", b"Content-Length: 9223372036854775808",
        b"Content-Length: \xc2\xb2", b"Content-Length: -1",
    ],
)  # fmt: skip
def test_a_head_that_can_be_read_in_two_ways_is_refused(header: bytes) -> None:
    """Line ends, controls and framing have one form each."""
    assert status(b"POST / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "coding",
    [b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked", b"", b'"chunked"', b"chunked;q=1", b", chunked"],
)
def test_only_chunked_is_a_transfer_encoding(coding: bytes) -> None:
    """Any other coding can't be decoded by everyone on the way."""
    assert status(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + coding + b"\r\n\r\n") == 501


def test_http_1_0_has_no_chunks() -> None:
    """A version without Transfer-Encoding can't be framed by it."""
    assert status(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400


@pytest.mark.parametrize(
    "chunks",
    [
        b"+5\r\nhello", b" 5\r\nhello", b"0x5\r\nhello", b"5_\r\nhello", b"\r\nhello", b"g\r\n", b"5 \r\nhello",
        b"10000000000000000\r\n", b"4000000000000000\r\n", b"5\nhello", b"5\rhello", b"5\r\nhelloXX", b"5\r\nhello\n",
        b"5;a\nb\r\nhello", b"5;a\x00\r\nhello", b"0\r\nno colon\r\n\r\n", b"0\r\n bad: x\r\n\r\n",
        b"5;" + b"x" * 2000, b"5;" + b"x" * 2000 + b"\r\nhello", b"\xef\xbc\x95\r\nhello",
    ],
)  # fmt: skip
def test_broken_chunks_break_the_body(chunks: bytes) -> None:
    """A reader of the body is told, and nothing behind it is taken for a request."""
    (one,) = seen(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, GET)

    assert one.broken


def test_trailers_are_bounded() -> None:
    """200 KB of trailers are not read to their end."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    (one,) = seen(head + b"X: y\r\n" * 30000)

    assert one.broken


def test_nothing_behind_a_fault_or_connect_is_a_request() -> None:
    """A refused head ends the connection's requests, and so does CONNECT, whose tail is no HTTP."""
    assert len(seen(b"GET  / HTTP/1.1\r\n\r\n" + GET)) == 1
    assert len(seen(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + GET)) == 1


def test_an_offered_upgrade_changes_nothing() -> None:
    """What comes behind a request that offers h2c or websocket is the next request."""
    offer = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"

    assert [one.head.target for one in seen(offer + GET)] == ["/", "/a?b=1"]


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\rX", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\rX", 400),
        (b"\x16\x03\x01", 400),
        (b"GET /\r\n", 400),
        (b"GET /" + b"a" * 20000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 20000, 431),
    ],
)
def test_a_head_that_can_only_be_refused_is_not_waited_for(begun: bytes, expected: int) -> None:
    """Where the end of a head can't mend it, the answer comes at once; byte by byte too."""
    assert status(begun) == expected
    assert status(*(begun[i : i + 1] for i in range(len(begun)))) == expected


@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"GET",
        b"GET ",
        b"GET /",
        b"GET / ",
        b"GET / H",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r",
        b"\r",
        b"\r\n",
        b"",
    ],
)
def test_a_head_that_may_still_become_one_is_waited_for(begun: bytes) -> None:
    """A slow beginning is no fault."""
    assert seen(begun) == []


def test_no_more_than_the_bound_is_parsed_ahead() -> None:
    """A caller that pipelines thousands of requests has the rest wait as bytes."""
    assert len(seen(GET * 100, waiting=32)) == 32
