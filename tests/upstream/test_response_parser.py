import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamBadResponse
from proxy.upstream.response import whole_response
from proxy.upstream.response_head import HEAD_LIMIT, HEADERS_LIMIT, ResponseHead
from proxy.upstream.response_parser import FRAMING_LIMIT, ResponseParser

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def parsed(*pieces: bytes, head: bool = False) -> ResponseParser:
    """Feed *pieces* to a new parser."""
    parser = ResponseParser(to_head=head)
    for piece in pieces:
        parser.feed(piece)
    return parser


def head_of(*pieces: bytes) -> ResponseHead:
    """Return the head that *pieces* have."""
    head = parsed(*pieces).head
    assert head is not None
    return head


def with_header(line: bytes) -> bytes:
    """Return an answer without body that has *line* among its headers."""
    return b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n"


def test_head_and_body_of_a_usual_answer_are_told() -> None:
    """Status, reason, headers in their order and spelling, and the body come out as they were."""
    parser = parsed(b"HTTP/1.1 201 Created\r\nX-b:  one \t\r\nx-A: two\r\nX-b:\r\ncontent-length: 5\r\n\r\nhello")

    assert parser.head is not None
    assert (parser.head.status, parser.head.start) == (201, b"HTTP/1.1 201 Created")
    assert parser.head.headers == ((b"X-b", b"one"), (b"x-A", b"two"), (b"X-b", b""), (b"content-length", b"5"))
    assert (parser.complete, parser.surplus, parser.head.persistent) == (True, False, True)
    assert parser.take() == b"hello"


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 "])
def test_a_reason_may_be_missing(line: bytes) -> None:
    """Servers that send no reason are understood."""
    assert head_of(line + b"\r\nContent-Length: 0\r\n\r\n").start == b"HTTP/1.1 200 "


@pytest.mark.parametrize("value", [b"caf\xc3\xa9", b"a\tb", b'"; , \\ ~'])
def test_text_in_values_is_kept(value: bytes) -> None:
    """UTF-8, tabs and punctuation pass as they are."""
    assert head_of(with_header(b"X: " + value)).headers[0] == (b"X", value)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/0.9 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/11 200 OK",
        b"http/1.1 200 OK",
        b"RTSP/1.0 200 OK",
        b"ICE/1.0 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 99 OK",
        b"HTTP/1.1 1000 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 999 OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\x1bK",
        b"HTTP/1.1 200 O\x7fK",
        b"HTTP/1.1 200 O\xe9K",
        b"HTTP/1.1 200 O\rK",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"\r\n\r\nHTTP/1.1 200 OK",
        b"GET / HTTP/1.1",
        b"<html>",
        b"\x16\x03\x01",
    ],
)
def test_bad_status_lines_are_refused(line: bytes) -> None:
    """Versions, statuses and reasons that a proxy must not hand on, and what is no HTTP at all (bad-inputs 84)."""
    with pytest.raises(UpstreamBadResponse):
        parsed(line + b"\r\nContent-Length: 0\r\n\r\n")


def test_no_http_is_refused_before_any_line_ends() -> None:
    """A server that speaks something else first is found out at once, not by a time-out."""
    with pytest.raises(UpstreamBadResponse):
        parsed(b"220 smtp ready")


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\x00b",
        b"X: a\rb",
        b"X: a\r",
        b"X: a\x0bb",
        b"X: a\x7fb",
        b"X: caf\xe9",
        b"X: a\xff",
        b"X: a\r\n b",
        b"X:\r\n\tb",
        b" X: a",
        b"X : a",
        b"X\t: a",
        b": a",
        b"X",
        b"X\xc3\xa9: a",
        b"X\x00: a",
        b"X(: a",
        b"X: a\nY: b",
        b"Y: b\n",
    ],
)
def test_bad_headers_are_refused(line: bytes) -> None:
    """NUL, bare CR and LF, controls, 8-bit, folds, spaces around names: nothing that could split (bad-inputs 85)."""
    with pytest.raises(UpstreamBadResponse):
        parsed(with_header(line))


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte != 0x09 and not 0x20 <= byte < 0x7F])
def test_no_control_or_lone_8_bit_byte_passes_in_a_value(byte: int) -> None:
    """Each single byte that is neither printable ASCII nor a tab is refused."""
    with pytest.raises(UpstreamBadResponse):
        parsed(with_header(b"X: a" + bytes([byte]) + b"b"))


@pytest.mark.parametrize("byte", range(256))
def test_only_token_characters_pass_in_a_name(byte: int) -> None:
    """A header name is a token (RFC 9110 5.6.2)."""
    answer = with_header(b"X" + bytes([byte]) + b"Y: a")
    token = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    if byte in token:
        assert head_of(answer).headers[0][1] == b"a"
    elif byte == ord(":"):
        assert head_of(answer).headers[0] == (b"X", b"Y: a")
    else:
        with pytest.raises(UpstreamBadResponse):
            parsed(answer)


@pytest.mark.parametrize(
    "framing",
    [
        b"X: none",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 5",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 5.0",
        b"Content-Length: 5 5",
        b"Content-Length: 5\xc2\xb2",
        b"Content-Length:",
        b"Content-Length : 5",
        b"Content-Length: 9223372036854775808",
        b"Content-Length: 18446744073709551621",
        b"Content-Length: 0000000000000000000005",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked;q=1",
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: \xe2\x84\xaachunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ],
)
@pytest.mark.parametrize("head", [False, True])
def test_anything_but_one_exact_framing_is_refused(framing: bytes, *, head: bool) -> None:
    """Both, none, twice, or another spelling of a length: two readers could disagree (bad-inputs 82, 83)."""
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\nhello"
    if head and framing == b"X: none":
        assert parsed(answer[:-5], head=True).complete
        return
    with pytest.raises(UpstreamBadResponse):
        parsed(answer, head=head)


def test_chunked_in_an_http_10_answer_is_refused() -> None:
    """HTTP/1.0 knows no Transfer-Encoding (RFC 9112 6.1)."""
    with pytest.raises(UpstreamBadResponse):
        parsed(CHUNKED.replace(b"1.1", b"1.0"))


def test_the_largest_length_that_fits_is_taken() -> None:
    """2^63 - 1 is a length; the limit is not one off."""
    assert head_of(b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n").content_length == 2**63 - 1


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX\x00: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    ],
)
def test_bad_chunks_are_refused(chunks: bytes) -> None:
    """Sizes, line ends and trailers are read strictly (bad-inputs 81)."""
    with pytest.raises(UpstreamBadResponse):
        parsed(CHUNKED + chunks)


def test_chunks_extensions_and_trailers_leave_only_the_body() -> None:
    """Extensions and trailers are dropped, and no trailer becomes a header."""
    parser = parsed(CHUNKED + b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nAuthorization: x\r\nDate: y\r\n\r\n")

    assert parser.take() == b"hello!"
    assert (parser.complete, parser.surplus) == (True, False)
    assert parser.head is not None
    assert parser.head.headers == ((b"Transfer-Encoding", b"chunked"),)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", [b"", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_answers_without_body_by_status_end_with_the_head(status: int, framing: bytes) -> None:
    """204 and 304 have no body whatever their headers say (RFC 9112 6.3)."""
    parser = parsed(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, framing))

    assert (parser.complete, parser.bodiless, parser.surplus) == (True, True, False)


@pytest.mark.parametrize(
    ("status", "passed"), [(204, []), (304, [b"Content-Length: 9"]), (200, [b"Content-Length: 9"])]
)
def test_a_length_that_no_body_can_have_is_not_handed_on(status: int, passed: list[bytes]) -> None:
    """Content-Length may not stand in a 204 (RFC 9110 8.6), and a caller may wait for what it promises."""
    head = parsed(b"HTTP/1.1 %d X\r\nX-A: b\r\nContent-Length: 9\r\n\r\n" % status).head

    assert head is not None
    assert head.passed == [b"X-A: b", *passed]


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_answer_to_head_ends_with_the_head(framing: bytes) -> None:
    """A length in it is the length that GET would have."""
    parser = parsed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n", head=True)

    assert (parser.complete, parser.bodiless) == (True, True)
    assert parser.head is not None
    assert parser.head.content_length == (9 if b"9" in framing else None)


@pytest.mark.parametrize(
    ("answer", "head"),
    [
        (EMPTY, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\r\n", False),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", False),
        (CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", False),
        (b"HTTP/1.1 204 N\r\n\r\n", False),
        (b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", True),
    ],
)
@pytest.mark.parametrize(
    "more",
    [
        b"x",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"HTT",
        EMPTY,
        b"HTTP/1.1 100 C\r\n\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nx",
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_bytes_after_the_end_are_noticed(answer: bytes, head: bool, more: bytes, *, apart: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Surplus of any kind, with the answer or after it, marks the connection as not usable again (bad-inputs 89)."""
    pieces = (answer, more) if apart else (answer + more,)
    parser = parsed(*pieces, head=head)

    assert (parser.complete, parser.surplus) == (True, True)
    assert not parsed(answer, head=head).surplus


def test_informational_answers_are_swallowed() -> None:
    """100 and 103 come before the answer and leave nothing behind."""
    parser = parsed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + EMPTY)

    assert parser.head is not None
    assert (parser.head.status, parser.head.start) == (200, b"HTTP/1.1 200 OK")
    assert parser.head.headers == ((b"Content-Length", b"0"),)


def test_a_flood_of_informational_answers_is_refused() -> None:
    """Sixteen are enough for anybody (bad-inputs 90)."""
    informational = b"HTTP/1.1 102 Processing\r\n\r\n"

    assert parsed(informational * 16 + EMPTY).complete
    with pytest.raises(UpstreamBadResponse):
        parsed(informational * 17)


@pytest.mark.parametrize("more", [b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"])
def test_101_is_refused(more: bytes) -> None:
    """Nobody asked for another protocol (bad-inputs 90)."""
    with pytest.raises(UpstreamBadResponse):
        parsed(b"HTTP/1.1 101 Switching\r\n" + more + b"\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        with_header(b"Connection: close"),
        with_header(b"connection: Keep-Alive, CLOSE"),
    ],
)
def test_answers_that_end_the_connection_say_so(answer: bytes) -> None:
    """After HTTP/1.0 or Connection: close no further request is sent."""
    assert not head_of(answer).persistent


def test_heads_up_to_the_limit_pass_and_larger_ones_do_not() -> None:
    """64 KiB of head and 200 headers are the bound, in one piece or in many (bad-inputs 86)."""
    longest = with_header(b"X: " + b"a" * (HEAD_LIMIT - len(with_header(b"X: "))))
    assert len(longest) == HEAD_LIMIT
    most = b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (HEADERS_LIMIT - 1) + b"Content-Length: 0\r\n\r\n"

    assert parsed(longest).complete
    assert parsed(longest[:1000], longest[1000:]).complete
    assert parsed(most).complete
    for answer in (longest.replace(b"X: ", b"X: a"), most.replace(b"OK\r\n", b"OK\r\nX: a\r\n")):
        with pytest.raises(UpstreamBadResponse):
            parsed(answer)
        with pytest.raises(UpstreamBadResponse):
            parsed(answer[:1000], answer[1000:])


def test_an_endless_head_is_refused_at_the_limit() -> None:
    """A head without end costs 64 KiB, not more."""
    parser = parsed(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(HEAD_LIMIT // 1000):
        parser.feed(b"a" * 1000)
    with pytest.raises(UpstreamBadResponse):
        parser.feed(b"a" * 1000)


@pytest.mark.parametrize("start", [b"5;", b"0\r\nX: "])
def test_endless_extensions_and_trailers_are_refused(start: bytes) -> None:
    """What is neither head nor body is bounded too."""
    parser = parsed(CHUNKED + start)
    for _ in range(FRAMING_LIMIT // 1000):
        parser.feed(b"a" * 1000)
    with pytest.raises(UpstreamBadResponse):
        parser.feed(b"a" * 1000)


def test_tiny_pieces_count_with_their_overhead() -> None:
    """A body of one-byte pieces reaches the reader's limit long before its bytes do."""
    parser = parsed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", *[b"ab"] * 1000)

    assert parser.buffered > 60_000
    assert parser.take() == b"ab" * 1000
    assert parser.buffered == 0


def test_many_chunks_in_one_packet_make_one_piece() -> None:
    """The chunks of one packet are merged, so that they cost the memory of their bytes."""
    parser = parsed(CHUNKED + b"1\r\na\r\n" * 1000)

    assert parser.buffered < 2000
    assert parser.take() == b"a" * 1000


def test_refusals_never_quote_the_bank() -> None:
    """Neither detail nor cause hold bytes of the answer (bad-inputs 84)."""
    for answer in (b"CANARY", with_header(b"X: CANARY\x00"), with_header(b"CANARY : x"), b"HTTP/1.1 CANARY\r\n\r\n"):
        with pytest.raises(UpstreamBadResponse) as refusal:
            parsed(answer)
        assert "CANARY" not in f"{refusal.value.detail} {refusal.value.cause} {refusal.value!r}"
        assert refusal.value.__cause__ is None


VALID = [
    b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 Fine\r\nA: b\r\nA:\r\nContent-Length: 11\r\n\r\nhello world",
    CHUNKED + b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: x\r\n\r\n",
    CHUNKED + b"B\r\nhello world\r\n00\r\n\r\n",
    b"HTTP/1.0 404\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world",
]


@given(answer=st.sampled_from(VALID), cuts=st.lists(st.integers(0, 150), max_size=12), drip=st.booleans())
def test_any_split_of_an_answer_gives_the_same_result(answer: bytes, cuts: list[int], *, drip: bool) -> None:
    """However the network cuts it, the answer is the same (RFC 9112 is about bytes, not packets)."""
    at = range(len(answer)) if drip else sorted({min(cut, len(answer)) for cut in cuts})
    edges = [0, *at, len(answer)]
    pieces = [answer[start:end] for start, end in itertools.pairwise(edges) if start < end]
    split, together = parsed(*pieces), parsed(answer)

    for parser in (split, together):
        assert parser.take() == b"hello world"
    assert (split.complete, split.surplus) == (together.complete, together.surplus)
    heads = [parser.head for parser in (split, together) if parser.head is not None]
    for name in ("status", "start", "lines", "passed", "content_length", "chunked", "persistent"):
        assert getattr(heads[0], name) == getattr(heads[1], name)


@given(answer=st.sampled_from([*VALID, EMPTY, EMPTY + b"x"]), junk=st.binary(max_size=4), at=st.integers(0, 150))
def test_the_short_way_says_what_the_parser_says(answer: bytes, junk: bytes, at: int) -> None:
    """An answer that came whole is the same without a parser; what it leaves open, the parser tells."""
    data = answer[:at] + junk + answer[at + len(junk) :]
    try:
        found = whole_response(data, to_head=False)
    except UpstreamBadResponse:
        with pytest.raises(UpstreamBadResponse):
            parsed(data)
        return
    if found is not None:
        parser = parsed(data)
        assert parser.head is not None
        assert (parser.complete, parser.surplus, parser.take()) == (True, False, found[1])
        assert (parser.head.start, parser.head.lines) == (found[0].start, found[0].lines)


@given(junk=st.binary(max_size=200), answer=st.sampled_from(VALID), at=st.integers(0, 150), size=st.integers(0, 10))
def test_damaged_answers_are_refused_or_well_formed(junk: bytes, answer: bytes, at: int, size: int) -> None:
    """Random damage ends in a refusal or in an answer that can be written down again safely; never in another error."""
    damaged = answer[:at] + junk[:size] + answer[at + size :]
    parser = ResponseParser()
    try:
        parser.feed(damaged)
    except UpstreamBadResponse:
        return
    if parser.head is not None:
        assert 200 <= parser.head.status <= 599
        text = b"".join(parser.head.lines) + parser.head.start
        assert not set(text) & {0, 10, 13}
        text.decode()
