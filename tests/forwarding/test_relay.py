"""The way back: every kind of answer, whole or visibly cut, to every kind of caller, in bounded memory."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from proxy.errors import Sent
from proxy.worker.caller_connection import CallerConnection
from tests.forwarding.support import callers_are
from tests.upstream.support import OK, Peer, eventually, says, says_and_closes, says_and_resets, says_nothing
from tests.worker.support import proxy
from tests.worker.timeouts import timeouts
from tests.worker.wire import Wire, ask, chunked, request, wire

VERSIONS = [b"1.0", b"1.1"]


def answer(*lines: bytes, status: bytes = b"200 OK", body: bytes = b"") -> bytes:
    """Return an answer of the bank."""
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]) + body


CHUNKED = answer(b"Transfer-Encoding: chunked", body=chunked(b"abc", b"\x00" * 70_000, b"x"))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_chunked_answer_comes_whole(version: bytes, tmp_path: Path) -> None:
    """In one segment: with a length. For HTTP/1.0 until the end, which is a clean one."""
    async with proxy(tmp_path, says(CHUNKED)) as it, wire(it.port) as caller:
        await caller.send(request(version=version))
        reply = await caller.answer()
        assert (reply.status, reply.body, reply.cut) == (200, b"abc" + b"\x00" * 70_000 + b"x", False)
        if version == b"1.0":
            assert reply.header(b"Transfer-Encoding") is None
            assert await caller.closed() == b""


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_small_chunked_answer_in_pieces_comes_whole(version: bytes, tmp_path: Path) -> None:
    """With a length, as if it had come in one segment; both connections are kept."""

    async def slowly(peer: Peer) -> None:
        await peer.send(answer(b"Transfer-Encoding: chunked"))
        for piece in (b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"):
            await asyncio.sleep(0.02)
            await peer.send(piece)

    async with proxy(tmp_path, slowly) as it, wire(it.port) as caller:
        for _ in range(2):
            await caller.send(request(b"GET", b"/open/a", b"Connection: keep-alive", version=version))
            reply = await caller.answer()
            assert (reply.body, reply.header(b"Content-Length")) == (b"abcde", b"5")
            assert reply.header(b"Transfer-Encoding") is None
        assert it.bank.connections == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_chunked_answer_that_takes_its_time_is_streamed(version: bytes, tmp_path: Path) -> None:
    """The first piece is there before the bank has said the last; trailers are dropped."""
    go = asyncio.Event()

    async def slowly(peer: Peer) -> None:
        await peer.send(answer(b"Transfer-Encoding: chunked", b"Trailer: X-Sum", body=b"3\r\nabc\r\n"))
        await go.wait()
        await peer.send(b"2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")

    async with proxy(tmp_path, slowly) as it, wire(it.port) as caller:
        await caller.send(request(version=version))
        head = await caller.reader.readuntil(b"\r\n\r\n")
        assert b"railer" not in head
        first = b"abc" if version == b"1.0" else b"3\r\nabc\r\n"
        assert await caller.reader.readexactly(len(first)) == first
        go.set()
        if version == b"1.0":
            assert b"chunked" not in head
            assert b"\r\nConnection: close\r\n" in head
            assert await caller.closed() == b"de"
        else:
            rest = b"2\r\nde\r\n0\r\n\r\n"
            assert await caller.reader.readexactly(len(rest)) == rest
            await caller.send(request())
            await eventually(lambda: len(it.bank.requests) == 2)


CUTS = {
    "length": answer(b"Content-Length: 10", body=b"abc"),
    "chunks": answer(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"),
    "inside a chunk": answer(b"Transfer-Encoding: chunked", body=b"5\r\nabc"),
    "before the final CRLF": answer(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n"),
    "bad chunk": answer(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n") + b"zz\r\n",
}


@pytest.mark.parametrize("data", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", [says_and_closes, says_and_resets], ids=["close", "reset"])
async def test_a_cut_answer_is_visibly_cut(data: bytes, version: bytes, end: object, tmp_path: Path) -> None:
    """It can't pass for a whole one, for HTTP/1.0 either; or it is 502 from the start. It is sent once."""
    async with proxy(tmp_path, end(data)) as it, wire(it.port) as caller:  # type: ignore[operator]
        await caller.send(request(b"POST", b"/open/a", body=b"x", version=version))
        try:
            reply = await caller.answer()
        except ConnectionError:  # reset before the head was read
            pass
        else:
            assert reply.status == 502 or reply.cut
            if reply.status == 502:
                assert reply.problem["sent_upstream"] in {"yes", "unknown"}
        exchange = await it.ended()
        assert exchange.code in {"upstream_reset", "upstream_bad_response"}
        assert exchange.sent_upstream is not Sent.NO
        assert len(it.bank.requests) == 1
        if exchange.status != 502:
            await eventually(lambda: not it.server.connections)


BODILESS = {
    "HEAD with length": ("HEAD", answer(b"Content-Length: 500"), b"500"),
    "HEAD chunked": ("HEAD", answer(b"Transfer-Encoding: chunked"), None),
    "HEAD plain": ("HEAD", answer(), None),
    "204": ("GET", answer(status=b"204 No Content"), None),
    "204 to DELETE": ("DELETE", answer(status=b"204 No Content"), None),
    "304": ("GET", answer(b'ETag: "a"', status=b"304 Not Modified"), None),
    "304 with length": ("GET", answer(b"Content-Length: 500", status=b"304 Not Modified"), b"500"),
    "empty": ("POST", answer(b"Content-Length: 0"), b"0"),
}


@pytest.mark.parametrize(("method", "data", "length"), BODILESS.values(), ids=BODILESS)
async def test_answers_without_body_keep_both_connections(
    method: str, data: bytes, length: bytes | None, tmp_path: Path
) -> None:
    """Their length is said as the bank said it, and the next request comes on the same connections."""
    async with proxy(tmp_path, says(data), says(OK)) as it, wire(it.port) as caller:
        await caller.send(request(method.encode()))
        reply = await caller.answer(method=method)
        assert (reply.status, reply.body) == (int(data[9:12]), b"")
        assert reply.header(b"Content-Length") == length
        assert reply.header(b"Transfer-Encoding") is None
        await caller.send(request())
        assert (await caller.answer()).body == b"ok"
        assert it.bank.connections == 1


async def test_an_error_to_a_head_request_has_no_body(tmp_path: Path) -> None:
    """Its length is that of the body which a GET would get."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request(b"HEAD", b"/nowhere") + request())
        reply = await caller.answer(method="HEAD")
        assert reply.status == 404
        assert int(reply.header(b"Content-Length") or 0) > 0
        assert (await caller.answer()).body == b"ok"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("coding", ["length", "chunks"])
async def test_a_large_answer_comes_whole(version: bytes, coding: str, tmp_path: Path) -> None:
    """20 MB, byte for byte."""
    body = bytes(range(256)) * 80_000
    if coding == "length":
        data = answer(b"Content-Length: %d" % len(body), body=body)
    else:
        data = answer(
            b"Transfer-Encoding: chunked", body=chunked(*(body[at : at + 99_999] for at in range(0, len(body), 99_999)))
        )
    async with proxy(tmp_path, says(data)) as it, wire(it.port) as caller:
        await caller.send(request(version=version))
        reply = await caller.answer()
        assert (reply.status, reply.cut) == (200, False), reply.body[:1000]
        assert reply.body == body
        exchange = await it.ended()
        assert (exchange.response_bytes, exchange.code) == (len(body), "")


@pytest.mark.parametrize("coding", ["length", "chunks"])
@pytest.mark.parametrize("target", [b"/open/a", b"/small/a"])
async def test_a_large_body_goes_out_whole(coding: str, target: bytes, tmp_path: Path) -> None:
    """20 MB, more than is held: framed as the caller frames it."""
    body = bytes(range(256)) * 80_000
    if coding == "length":
        data = request(b"PUT", target, body=body)
    else:
        pieces = (body[at : at + 77_777] for at in range(0, len(body), 77_777))
        data = request(b"PUT", target, b"Transfer-Encoding: chunked") + chunked(*pieces)
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, data)).status == 200
        assert it.last.body == body
        assert (b"Content-Length: %d" % len(body) in it.last.head) is (coding == "length")
        assert (b"Transfer-Encoding: chunked" in it.last.head) is (coding == "chunks")
        exchange = await it.ended()
        assert (exchange.request_bytes, it.gateway.admission.held_bytes) == (len(body), 0)


async def _push(caller: Wire, *, at_most: int) -> int:
    """Send up to *at_most* bytes and return how many were taken before nothing moved for half a second."""
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < at_most:
            async with asyncio.timeout(0.5):
                caller.writer.write(b"a" * 65536)
                await caller.writer.drain()
            sent += 65536
    return sent


async def test_a_bank_that_does_not_read_stops_the_caller(tmp_path: Path) -> None:
    """What the caller can push stays within the sockets' and our own small buffers."""
    async with proxy(tmp_path, _hold, early=True, upstream={"response_timeout": 1.0}) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", b"/small/a", b"Content-Length: 1000000000"))
        assert await _push(caller, at_most=200_000_000) < 60_000_000
        exchange = await it.ended()
        assert (exchange.code, exchange.sent_upstream) == ("upstream_timeout", Sent.UNKNOWN)
        assert it.gateway.admission.held_bytes == 0


async def _hold(peer: Peer) -> None:
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(3)


async def test_a_caller_that_does_not_read_stops_the_bank(tmp_path: Path) -> None:
    """What the bank can push stays within the sockets' and our own small buffers."""
    pushed = 0

    async def endless(peer: Peer) -> None:
        nonlocal pushed
        await peer.send(answer(b"Content-Length: 1000000000"))
        with contextlib.suppress(ConnectionError):
            while True:
                peer.writer.write(b"a" * 65536)
                await peer.writer.drain()
                pushed += 65536

    async with proxy(tmp_path, endless) as it, wire(it.port, receive_buffer=8192) as caller:
        await caller.send(request())
        await caller.reader.readuntil(b"\r\n\r\n")
        seen = -1
        while pushed != seen:
            seen = pushed
            await asyncio.sleep(0.3)
        assert pushed < 60_000_000
        caller.reset()
        assert (await it.ended()).caller_left


@pytest.mark.parametrize("end", ["its own reset", "our patience"])
async def test_who_does_not_read_and_is_gone_cuts_off_nobody_else(end: str, tmp_path: Path) -> None:
    """Its answers came whole, and their connection is another caller's by then, who gets the answer to its payment."""
    go = asyncio.Event()
    unread = answer(b"Content-Length: 60000", body=b"a" * 60000)

    async def by_method(peer: Peer) -> None:
        if it.last.head.startswith(b"POST"):
            await go.wait()
            await peer.send(OK)
        else:
            await peer.send(unread)

    quick = timeouts(unread_answer=1.0 if end == "our patience" else 60.0)
    async with (
        proxy(tmp_path, by_method, timeouts=quick, upstream={"max_connections": 1}) as it,
        wire(it.port, receive_buffer=4096) as deaf,
    ):
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await callers_are(it, 1)
        (connection,) = it.server.connections
        assert isinstance(connection, CallerConnection)
        assert connection.transport is not None
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await deaf.send(request() * 50)
        pool = it.gateway.pools["bank"]
        await eventually(lambda: connection.write_would_block and repr(pool).endswith("[0 in use, 1 idle, 0 waiting]>"))
        async with wire(it.port) as other:
            await other.send(request(b"POST", body=b"pay"))
            await eventually(lambda: it.last.head.startswith(b"POST"))
            if end == "its own reset":
                deaf.reset()
            await callers_are(it, 1)
            go.set()
            assert (await other.answer()).status == 200
        assert it.bank.connections == 1


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See", b"307 Temporary", b"308 Permanent"])
async def test_a_redirect_is_handed_back(status: bytes, tmp_path: Path) -> None:
    """Nobody follows it, and its target never sees a token."""
    data = answer(b"Location: http://127.0.0.1:1/steal", b"Content-Length: 0", status=status)
    async with proxy(tmp_path, says(data)) as it:
        reply = await ask(it.port, request(b"POST", b"/open/a", body=b"x"))
        assert (reply.status, reply.header(b"Location")) == (int(status[:3]), b"http://127.0.0.1:1/steal")
        assert len(it.bank.requests) == 1


@pytest.mark.parametrize(
    "status", [b"403 No", b"407 No", b"408 Slow", b"421 Other", b"429 Many", b"500 Oh", b"503 Not now"]
)
async def test_an_unhappy_answer_is_handed_back_and_not_tried_again(status: bytes, tmp_path: Path) -> None:
    """Only a refusal of the token is answered by a second send."""
    data = answer(b"Retry-After: 1", b"Content-Length: 2", status=status, body=b"no")
    async with proxy(tmp_path, says(data)) as it:
        reply = await ask(it.port, request(b"POST", b"/open/a", body=b"x"))
        assert (reply.status, reply.reason, reply.body) == (int(status[:3]), status[4:], b"no")
        assert len(it.bank.requests) == 1
        assert it.keeper.received == []


SILENCE = {
    "close": says_and_closes(b""),
    "reset": says_and_resets(b""),
    "half a head": says_and_closes(b"HTTP/1.1 200 OK\r\nX"),
}


@pytest.mark.parametrize("end", SILENCE.values(), ids=SILENCE)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"])
async def test_a_bank_that_hangs_up_is_502_and_asked_once(end: object, method: bytes, tmp_path: Path) -> None:
    """The caller always gets an answer, which says that the outcome is unknown."""
    async with proxy(tmp_path, end) as it, wire(it.port) as caller:  # type: ignore[arg-type]
        await caller.send(request(method, b"/open/a"))
        reply = await caller.answer()
        assert reply.status == 502
        problem = reply.problem
        assert problem["code"] in {"upstream_reset", "upstream_bad_response"}
        assert (problem["sent_upstream"], problem["retryable"]) == ("unknown", False)
        assert len(it.bank.requests) == 1


async def test_a_bank_that_is_not_there_is_502_not_sent(tmp_path: Path) -> None:
    """Certainly nothing was sent, so that the caller may try again."""
    async with proxy(tmp_path, port=1) as it:
        problem = (await ask(it.port, request(b"POST", b"/open/a", body=b"x"))).problem
        assert (problem["code"], problem["status"]) == ("upstream_unreachable", 502)
        assert (problem["sent_upstream"], problem["retryable"]) == ("no", True)


async def test_a_bank_that_never_answers_is_504(tmp_path: Path) -> None:
    """After response_timeout; it was sent once."""
    async with proxy(tmp_path, says_nothing, upstream={"response_timeout": 0.2}) as it:
        problem = (await ask(it.port, request(b"POST", b"/open/a", body=b"x"))).problem
        assert (problem["code"], problem["status"], problem["sent_upstream"]) == ("upstream_timeout", 504, "unknown")
        assert len(it.bank.requests) == 1


@pytest.mark.parametrize(("code", "status"), [("token_refused", 502), ("token_unavailable", 503)])
async def test_without_a_token_nothing_is_sent(code: str, status: int, tmp_path: Path) -> None:
    """The right token or none."""
    async with proxy(tmp_path, tokens=False) as it:
        it.keeper.failure(it.key("open"), code)
        reply = await ask(it.port, request(b"POST", b"/open/a", body=b"x"))
        assert (reply.status, reply.problem["code"], reply.problem["sent_upstream"]) == (status, code, "no")
        assert (reply.header(b"Retry-After") is not None) is (status == 503)
        assert it.untouched
        assert not it.journal("intent")
