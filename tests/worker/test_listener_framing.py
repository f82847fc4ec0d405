"""What callers' framing may not do to us (catalogue, section 1): raw bytes in, and nothing at the bank."""

from pathlib import Path

import pytest

from tests.worker.support import Proxy, proxy
from tests.worker.wire import ask, chunked, request, split, wire

HEAD = b"POST /open/a HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

LENGTHS = [
    b"+3", b"-3", b"0x3", b"3e0", b"3_0", b"3.0", b'"3"', b"3 3", "\uff13".encode(), "\xb3".encode(), "\u0663".encode(),
    b"3\x00", b"3\x0b", b"\x0b3", b"3\xa0", b"", b"3, 3", b"3,4", b"9223372036854775808", b"18446744073709551621",
    b"184467440737095516170", b"1" * 400, b"NaN",
]  # fmt: skip
CODINGS = [
    b"identity", b"xchunked", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity, chunked",
    b"chunked;a=b", b'"chunked"', b"", b",chunked", b"chunked,", b", chunked", "chun\u212aed".encode(), b"chunked\x0b",
    b"\x0bchunked", b"chunked\x00", b"chunke", b"c h u n k e d",
]  # fmt: skip
CODING_NAMES = [
    "Tran\u017ffer-Encoding".encode(), "Transfer-Encod\u0131ng".encode(), b"Transfer-Encoding\xa0",
    b"Transfer-Encoding\xff", b"Transfer-Encoding\x00", b"Transfer Encoding", b"Transfer-Encoding ",
    b"Transfer-Encoding\t", b" Transfer-Encoding", b"\x0bTransfer-Encoding",
]  # fmt: skip
DROPPED_NAMES = [
    b"Transfer_Encoding", b"Transfer.Encoding", b"Transfer-Encoding_", b"TransferEncoding", b"Transfer__Encoding",
    b"Content_Length", b"content.length", b"HOST_", b"Transfer~Encoding",
]  # fmt: skip
HEADS = {
    "length and coding": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "coding and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END,
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "one length twice": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "one length, two spellings": HEAD + b"Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "space before the colon": HEAD + b"Content-Length : 3\r\n\r\nabc",
    "tab before the colon": HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n" + END,
    "folded coding": HEAD + b"X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "folded with tab": HEAD + b"X-A: b\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "folded value": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END,
    "coding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "coding twice, differing": HEAD + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "coding in 1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + END,
    "coding in kept-alive 1.0": HEAD.replace(b"1.1", b"1.0")
    + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    + END,
    "bare CR hides coding": HEAD + b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "bare LF hides coding": HEAD + b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "LF before CR": HEAD + b"X: a\n\rTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    "line without colon": HEAD + b"Transfer-Encoding chunked\r\nContent-Length: 3\r\n\r\nabc",
    "first line is a fold": b"POST /open/a HTTP/1.1\r\n Host: localhost\r\nContent-Length: 3\r\n\r\nabc",
}
HEADS |= {f"length {value!r}": HEAD + b"Content-Length: " + value + b"\r\n\r\nabc" for value in LENGTHS}
HEADS |= {f"coding {value!r}": HEAD + b"Transfer-Encoding: " + value + b"\r\n\r\n" + END for value in CODINGS}
HEADS |= {f"name {name!r}": HEAD + name + b": chunked\r\nContent-Length: 3\r\n\r\nabc" for name in CODING_NAMES}

SIZES = [
    b"+3", b"-3", b"0x3", b"0_3", b" 3", b"3 ", b"\t3", b"", b"zz", b"3g", "\uff13".encode(), b"3\x00",
    b"10000000000000003", b"f" * 17, b"3\x0b", b"3.0",
]  # fmt: skip
CHUNKS = {
    "LF after size": b"3\nabc\r\n" + END,
    "CR after size": b"3\rabc\r\n" + END,
    "LF after data": b"3\r\nabc\n" + END,
    "CR after data": b"3\r\nabc\r" + END,
    "nothing after data": b"3\r\nabc" + END,
    "two bytes after data": b"3\r\nabcXX" + END,
    "data longer than its size": b"3\r\nabcdef\r\n" + END,
    "LF after the last size": b"3\r\nabc\r\n0\n\r\n",
    "LF at the end": b"3\r\nabc\r\n0\r\n\n",
    "LF in extension": b"3;a\nb\r\nabc\r\n" + END,
    "CR in extension": b"3;a\rb\r\nabc\r\n" + END,
    "NUL in extension": b"3;a\x00b\r\nabc\r\n" + END,
    "space before extension": b"3 ;a=b\r\nabc\r\n" + END,
    "empty extension": b"3;\r\nabc\r\n" + END,
    "extension of 100 KB": b"3;" + b"a" * 100_000 + b"\r\nabc\r\n" + END,
    "extension of 1 MB": b"3;a=" + b"a" * 1_000_000 + b"\r\nabc\r\n" + END,
    "many extensions": b"3" + b";a=b" * 20_000 + b"\r\nabc\r\n" + END,
    "trailer with a space before its colon": b"3\r\nabc\r\n0\r\nX : 9\r\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nX: 9\r\n y\r\n\r\n",
    "trailer that is a request": b"3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "trailer without colon": b"3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
    "trailer with NUL": b"3\r\nabc\r\n0\r\nX: a\x00\r\n\r\n",
    "trailer with LF": b"3\r\nabc\r\n0\r\nX: a\nY: b\r\n\r\n",
    "5000 trailers": b"3\r\nabc\r\n0\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "trailer of 200 KB": b"3\r\nabc\r\n0\r\na: " + b"b" * 200_000 + b"\r\n\r\n",
}
CHUNKS |= {f"size {size!r}": size + b"\r\nabc\r\n" + END for size in SIZES}


async def _is_refused(it: Proxy, *pieces: bytes) -> None:
    async with wire(it.port) as caller:
        await caller.send(*pieces)
        reply = await caller.answer()
        assert reply.status in {400, 431, 501}
        assert reply.problem["code"] in {"bad_request", "headers_too_large"}
        assert reply.problem["sent_upstream"] == "no"
        assert not reply.problem["retryable"]
        assert reply.header(b"Connection") == b"close"
        assert await caller.closed() == b""
    assert it.untouched
    assert not it.journal("intent")
    exchange = await it.ended()
    assert (exchange.status, exchange.origin, exchange.attempts) == (reply.status, "proxy", [])


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
async def test_ambiguous_framing_is_refused_and_closed(data: bytes, tmp_path: Path) -> None:
    """A head whose body could be read in two ways is answered with 400 or 501, and nothing behind it is served."""
    async with proxy(tmp_path) as it:
        await _is_refused(it, data + request(b"GET", b"/open/smuggled"))


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS)
async def test_broken_chunks_are_refused_and_closed(data: bytes, tmp_path: Path) -> None:
    """A chunked body that is not exactly RFC 9112 7.1 sends nothing, in one segment with its head or behind it."""
    async with proxy(tmp_path) as it:
        await _is_refused(it, CHUNKED + data)
        await _is_refused(it, CHUNKED, data + request(b"GET", b"/open/smuggled"))


@pytest.mark.parametrize("data", [HEADS["length and coding"], CHUNKED + CHUNKS["two bytes after data"]])
async def test_bad_framing_byte_by_byte_is_refused_all_the_same(data: bytes, tmp_path: Path) -> None:
    """A refusal does not depend on how the bytes come."""
    async with proxy(tmp_path) as it:
        await _is_refused(it, *(data[at : at + 1] for at in range(len(data))))


@pytest.mark.parametrize("name", DROPPED_NAMES)
async def test_look_alikes_of_framing_headers_are_dropped(name: bytes, tmp_path: Path) -> None:
    """A name that another server may read as a framing header is not handed on."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, HEAD + name + b": chunked\r\nContent-Length: 3\r\n\r\nabc")
        assert reply.status == 200
        assert name.lower() not in it.last.head.lower().replace(b"transfer-encoding:", b"").replace(b"host:", b"")
        assert it.last.body == b"abc"
        assert it.last.head.count(b"chunked") == 0


GOOD_CHUNKS = {
    "plain": chunked(b"abc"),
    "two": chunked(b"a", b"bc"),
    "leading zeros": b"0003\r\nabc\r\n000\r\n\r\n",
    "extension": b'3;a=b;c="d;e"\r\nabc\r\n0;x\r\n\r\n',
    "trailer": chunked(b"abc", last=b"0\r\nX-Check: 1\r\nAuthorization: Bearer evil\r\nContent-Length: 9\r\n\r\n"),
    "upper-case size": b"3\r\nabc\r\n" + END,
}


@pytest.mark.parametrize("data", GOOD_CHUNKS.values(), ids=GOOD_CHUNKS)
async def test_good_chunks_go_out_as_a_body_of_known_length(data: bytes, tmp_path: Path) -> None:
    """A held body is sent with Content-Length; neither extension nor trailer goes along."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, CHUNKED + data)).status == 200
        assert it.last.body == b"abc"
        assert it.last.head.endswith(b"\r\nAuthorization: Bearer canary-open-1.abc\r\nContent-Length: 3\r\n\r\n")
        assert not {b"x-check", b"evil", b"transfer-encoding"} & set(
            it.last.head.lower().replace(b"\r\n", b":").split()
        )
        assert b"evil" not in it.last.head


@pytest.mark.parametrize("gap", [True, False])
async def test_a_trailer_never_gets_into_the_next_request(gap: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """It is dropped, and the next request on the connection is served without it."""
    data = CHUNKED + chunked(b"abc", last=b"0\r\nX-Leak: 1\r\nAuthorization: Bearer evil\r\n\r\n")
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        following = request(b"GET", b"/open/2")
        await caller.send(*([data, following] if gap else [data + following]))
        for _ in range(2):
            assert (await caller.answer()).status == 200
        assert len(it.bank.requests) == 2
        assert all(b"X-Leak" not in one.head and b"evil" not in one.head for one in it.bank.requests)


async def test_a_chunked_body_without_trailer_keeps_the_connection(tmp_path: Path) -> None:
    """Whether its last chunk comes with the data, alone, byte by byte or before another request."""
    whole = CHUNKED + chunked(b"abc")
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        for pieces in ([whole], [whole[:-5], whole[-5:]], [whole[: len(CHUNKED)], whole[len(CHUNKED) :]]):
            await caller.send(*pieces)
            assert (await caller.answer()).header(b"Connection") == b"keep-alive"
        await caller.drip(whole)
        assert (await caller.answer()).status == 200
        await caller.send(whole + whole + request())
        for _ in range(3):
            assert (await caller.answer()).status == 200
        assert [one.body for one in it.bank.requests] == [b"abc"] * 6 + [b""]


UNFINISHED = {
    "head": request()[:-2],
    "chunk size": CHUNKED + b"3",
    "chunk data": CHUNKED + b"3\r\nab",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
    "no final CRLF": CHUNKED + b"3\r\nabc\r\n0\r\n",
    "half a final CRLF": CHUNKED + b"3\r\nabc\r\n0\r\n\r",
    "trailers without end": CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n",
    "chunk of 4 GB": CHUNKED + b"100000003\r\nabc\r\n" + END,
    "chunk of 2^63": CHUNKED + b"8000000000000003\r\nabc\r\n" + END,
    "short body": HEAD + b"Content-Length: 10\r\n\r\nabc",
    "no body": HEAD + b"Content-Length: 10\r\n\r\n",
}


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
@pytest.mark.parametrize("end", ["half-close", "close", "reset"])
async def test_an_unfinished_request_is_never_sent(data: bytes, end: str, tmp_path: Path) -> None:
    """A caller that goes away in the middle of its request has sent nothing to the bank."""
    async with proxy(tmp_path) as it:
        async with wire(it.port) as caller:
            await caller.send(data)
            if end == "half-close":
                caller.half_close()
                await caller.closed()
            elif end == "reset":
                caller.reset()
        async with wire(it.port) as caller:
            await caller.send(request(b"GET", b"/open/after"))
            assert (await caller.answer()).status == 200
        assert [one.head.split(b" ")[1] for one in it.bank.requests] == [b"/open/after"]
        assert it.bank.heads == 1


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST", b"PUT"])
@pytest.mark.parametrize("coding", ["length", "chunks"])
async def test_a_body_that_looks_like_a_request_is_a_body(method: bytes, coding: str, tmp_path: Path) -> None:
    """CL.0 and TE.0: the body goes out as one, whatever the method, and is never served as a request."""
    hidden = b"GET /closed/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
    if coding == "length":
        data = request(method, b"/open/a", body=hidden)
    else:
        data = request(method, b"/open/a", b"Transfer-Encoding: chunked") + chunked(hidden)
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, data, method=method.decode())).status == 200
        assert [(one.head.split(b" ")[0], one.body) for one in it.bank.requests] == [(method, hidden)]


@pytest.mark.parametrize("surplus", [b"XXXX", b"\x00", b"GET /closed HTTP/1.1\r\n", b"}\r\n\r\n"])
async def test_surplus_bytes_are_no_body(surplus: bytes, tmp_path: Path) -> None:
    """What follows Content-Length bytes is at most a bad request of its own."""
    data = request(b"POST", b"/open/a", body=b"abc")
    async with proxy(tmp_path) as it:
        async with wire(it.port) as caller:
            await caller.send(data, surplus)
            assert (await caller.answer()).status == 200
            caller.half_close()
            await caller.closed()
        async with wire(it.port) as caller:
            await caller.send(data + surplus)
            caller.half_close()
            await caller.closed()
        assert {one.body for one in it.bank.requests} == {b"abc"}
        assert len(it.bank.requests) <= 2


GOOD = {
    "get": request(),
    "length": request(b"POST", b"/open/a?b=%20c", b"X-A: b", body=b"abc\r\n0\r\n\r\n"),
    "chunks": CHUNKED + chunked(b"abc", b"\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
    "1.0": request(b"POST", b"/open/a", body=b"abc", version=b"1.0"),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
async def test_splits_change_nothing(data: bytes, tmp_path: Path) -> None:
    """Byte by byte, in threes, in sevens and cut anywhere once: the bank gets what it gets from one segment."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, data)).status == 200
        first = it.last
        for size in (1, 3, 7):
            async with wire(it.port) as caller:
                await caller.drip(data, size=size)
                assert (await caller.answer()).status == 200
            assert (it.last.head, it.last.body) == (first.head, first.body)
        for cut in range(1, len(data), 5):
            assert (await ask(it.port, *split(data, [cut]))).status == 200
            assert (it.last.head, it.last.body) == (first.head, first.body)
