"""Answers of the bank that are no good HTTP/1.1, or end too early (bad-inputs 81 to 86): nothing of them is taken."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forwarding.support import agrees, next_caller_is_served, post, recorded
from tests.upstream.support import OK, Step, says, says_and_closes, says_and_resets
from tests.worker.support import proxy
from tests.worker.wire import ask, request, wire

FAST = {"response_timeout": 0.3}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _with(*lines: bytes, body: bytes = b"marker") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"X-Marker: marker", *lines, b"", body])


LENGTH = b"Content-Length: 6"
BAD = {
    "length and chunks": _with(LENGTH, b"Transfer-Encoding: chunked", body=b"6\r\nmarker\r\n0\r\n\r\n"),
    "two lengths": _with(LENGTH, b"Content-Length: 7"),
    "negative length": _with(b"Content-Length: -6"),
    "signed length": _with(b"Content-Length: +6"),
    "hexadecimal length": _with(b"Content-Length: 0x6"),
    "huge length": _with(b"Content-Length: 99999999999999999999999999"),
    "no length": _with(),
    "unknown coding": _with(b"Transfer-Encoding: xchunked"),
    "gzip, chunked": _with(b"Transfer-Encoding: gzip, chunked", body=b"6\r\nmarker\r\n0\r\n\r\n"),
    "two codings": _with(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "HTTP/0.9": b"marker\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 6\r\n\r\nmarker",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 6\r\n\r\nmarker",
    "ICY": b"ICY 200 OK\r\nContent-Length: 6\r\n\r\nmarker",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nmarker",
    "status 99": b"HTTP/1.1 99 Low\r\nContent-Length: 6\r\n\r\nmarker",
    "status 099": b"HTTP/1.1 099 Low\r\nContent-Length: 6\r\n\r\nmarker",
    "status 600": b"HTTP/1.1 600 High\r\nContent-Length: 6\r\n\r\nmarker",
    "status 999": b"HTTP/1.1 999 High\r\nContent-Length: 6\r\n\r\nmarker",
    "status 1000": b"HTTP/1.1 1000 High\r\nContent-Length: 6\r\n\r\nmarker",
    "status 2x0": b"HTTP/1.1 2x0 OK\r\nContent-Length: 6\r\n\r\nmarker",
    "NUL in a value": _with(b"X: a\0b", LENGTH),
    "control in a value": _with(b"X: a\x01b", LENGTH),
    "DEL in a value": _with(b"X: a\x7fb", LENGTH),
    "bare CR in a value": _with(b"X: a\rSet-Cookie: b=c", LENGTH),
    "bare LF in a value": _with(b"X: a\nSet-Cookie: b=c", LENGTH),
    "bad UTF-8 in a value": _with(b"X: a\xff", LENGTH),
    "control in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 6\r\n\r\nmarker",
    "bare CR in the reason": b"HTTP/1.1 200 OK\rX: y\r\nContent-Length: 6\r\n\r\nmarker",
    "8 bits in a name": _with(b"X\xe9: a", LENGTH),
    "space in a name": _with(b"X Y: a", LENGTH),
    "space before the colon": _with(b"Content-Length : 6"),
    "no name": _with(b": a", LENGTH),
    "no colon": _with(b"nonsense", LENGTH),
    "folded line": _with(b"X: a", b" b", LENGTH),
    "fold that hides framing": _with(b"X: a", b"\tContent-Length: 6", LENGTH),
    "LF only": b"HTTP/1.1 200 OK\nContent-Length: 6\n\nmarker",
    "one line by LF": b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 6\r\n\r\nmarker",
    "100 KB value": _with(b"X: " + b"y" * 100_000, LENGTH),
    "100 KB name": _with(b"X" * 100_000 + b": y", LENGTH),
    "100 KB reason": b"HTTP/1.1 200 " + b"y" * 100_000 + b"\r\nContent-Length: 6\r\n\r\nmarker",
    "1000 headers": _with(*(b"X-%d: y" % number for number in range(1000)), LENGTH),
    "3.6 MB": _with(*(b"X-%d: %b" % (number, b"y" * 60_000) for number in range(60)), LENGTH),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "1xx without end": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 500,
    "first chunk without size": CHUNKED.replace(b"Transfer", b"X-Marker: marker\r\nTransfer") + b"marker\r\n",
}


@pytest.mark.parametrize("name", BAD)
async def test_an_answer_that_is_no_good_http_is_not_passed_on(tmp_path: Path, name: str) -> None:
    """502, outcome unknown, nothing of it in our answer, one send, another connection for the next (82 to 86, 90)."""
    async with proxy(tmp_path, says(BAD[name]), says(OK), upstream=FAST) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.problem["code"]) == (502, "upstream_bad_response")
        assert reply.header(b"Proxy-Status") == (
            b'payproxy; error=http_protocol_error; details="upstream_bad_response"'
        )
        agrees(reply, record, sent="unknown")
        assert b"marker" not in b"".join(b"%b%b" % line for line in reply.lines) + reply.body
        assert b"Set-Cookie" not in b"".join(name for name, _ in reply.lines)
        assert "marker" not in str(record)
        assert len(it.bank.requests) == 1
        await next_caller_is_served(it)
        assert it.last.connection == 2


@pytest.mark.parametrize("end", [says_and_closes, says_and_resets])
async def test_an_answer_that_ends_with_its_connection_is_refused(tmp_path: Path, end: Callable[[bytes], Step]) -> None:
    """Whether it is whole can't be told (81, 82)."""
    async with proxy(tmp_path, end(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody"), says(OK)) as it:
        reply = await ask(it.port, post())
        assert (reply.status, reply.problem["code"]) == (502, "upstream_bad_response")
        assert len(it.bank.requests) == 1


LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize(
    "step",
    [
        says_and_closes(LARGE),
        says_and_resets(LARGE),
        says(LARGE),
        says_and_closes(CHUNKED + b"4\r\nbody\r\n"),
        says_and_resets(CHUNKED + b"4\r\nbody\r\n"),
        says_and_closes(CHUNKED + b"4\r\nbody\r\n0\r\n"),
        says_and_closes(CHUNKED + b"ff\r\nbody"),
        says(CHUNKED + b"4\r\nbody\r\nzz\r\n"),
        says(CHUNKED + b"4\r\nbody\r\n"),
        says(CHUNKED + b"4\r\nbodyxx4\r\nbody\r\n0\r\n\r\n"),
        says(CHUNKED + b"4\r\nbody\r\n-1\r\n\r\n"),
    ],
    ids=[
        "length, close", "length, reset", "length, silence", "chunks, close", "chunks, reset", "no last line",
        "chunk too short", "bad size", "chunks, silence", "no CRLF", "negative size",
    ],
)  # fmt: skip
async def test_an_answer_cut_short_can_not_pass_for_a_whole_one(tmp_path: Path, method: bytes, step: Step) -> None:
    """The caller sees the cut, or gets 502 or 504; the bank's status is in the record with what cut it off (81)."""
    async with proxy(tmp_path, step, says(OK), upstream=FAST) as it:
        reply = await ask(it.port, request(method, body=b"{}" if method == b"POST" else b""))
        record = await recorded(it)

        assert reply.cut or reply.status in {502, 504}
        assert record["sent_upstream"] in {"yes", "unknown"}
        assert record["code"] in {"upstream_reset", "upstream_timeout", "upstream_bad_response"}
        assert len(it.bank.requests) == 1
        await next_caller_is_served(it)
        assert it.last.connection == 2


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("end", ["close", "reset", "silence"])
@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbody", CHUNKED + b"4\r\nbody\r\n"])
async def test_a_small_answer_cut_short_is_never_begun(tmp_path: Path, method: bytes, end: str, data: bytes) -> None:
    """It is gathered first, so that no caller asks again by itself, or takes the beginning for the whole."""
    step = {"close": says_and_closes, "reset": says_and_resets, "silence": says}[end](data)
    async with proxy(tmp_path, step, says(OK), upstream=FAST) as it:
        reply = await ask(it.port, request(method, body=b"{}" if method == b"POST" else b""))
        record = await recorded(it)

        assert reply.status == (504 if end == "silence" else 502)
        agrees(reply, record, sent="yes")
        assert [attempt["status"] for attempt in record["attempts"]] == [200]
        assert len(it.bank.requests) == 1
        await next_caller_is_served(it)


async def test_an_answer_cut_short_is_cut_for_callers_of_http_1_0_too(tmp_path: Path) -> None:
    """They take the close for the end of a body without length, so the connection is reset instead."""
    step = says_and_closes(CHUNKED + b"186a0\r\n" + bytes(100_000) + b"\r\n")  # more than is gathered
    async with proxy(tmp_path, step) as it, wire(it.port) as caller:
        await caller.send(request(version=b"1.0"))
        reply = await caller.answer()
        assert reply.cut
