import asyncio

import pytest

from proxy.errors import ProxyError, Sent, UpstreamBadResponse, UpstreamReset, UpstreamTimedOut, UpstreamUnreachable
from proxy.upstream.upload import send
from tests.upstream.support import (
    GET,
    HEAD,
    OK,
    Peer,
    Step,
    ask,
    bank,
    call,
    eventually,
    pool_of,
    post,
    says,
    says_and_closes,
    says_and_resets,
    says_nothing,
    soon,
    whole,
)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


async def test_a_request_goes_out_as_given_and_the_answer_comes_back() -> None:
    """Head and body reach the bank byte for byte, and the next request uses the same connection."""
    async with bank() as it, pool_of(it.port) as pool:
        assert await call(pool, post(5), b"hello", method="POST") == (200, b"ok", False)
        assert await call(pool) == (200, b"ok", True)

        assert [(request.head, request.body) for request in it.requests] == [(post(5), b"hello"), (GET, b"")]
        assert it.connections == 1


async def test_a_small_answer_is_complete_at_once() -> None:
    """The fast path hands head and body over together; reading it still works and ends."""
    async with bank() as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())

        assert (answer.complete, answer.body, answer.content_length) == (True, b"ok", 2)
        assert [await answer.read(), await answer.read()] == [b"ok", b""]
        answer.release()


async def test_how_the_connection_came_about_is_told() -> None:
    """`reused` and `connect_ms` are about the current request, and `sent` begins false for each."""
    async with bank() as it, pool_of(it.port) as pool:
        first = await pool.connect()
        assert (first.reused, first.sent) == (False, False)
        assert first.connect_ms > 0
        answer = await ask(first)
        assert first.sent
        answer.release()

        second = pool.idle()
        assert second is first
        assert (second.reused, second.sent, second.connect_ms) == (True, False, 0.0)
        assert repr(second) == "<Connection [taken, reused]>"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "step",
    [
        says_and_closes(b""),
        says_and_resets(b""),
        says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Le"),
        says_and_resets(b"HTTP/1.1 200 OK\r\nContent-Le"),
    ],
    ids=["fin", "rst", "half head, fin", "half head, rst"],
)
@pytest.mark.parametrize("reused", [False, True])
async def test_a_connection_that_breaks_before_the_answer_is_a_reset_and_nothing_is_sent_again(
    method: str, step: Step, *, reused: bool
) -> None:
    """Whatever the method and whether the connection was new: one request, outcome unknown (bad-inputs 76, 77)."""
    async with bank(*([says(OK)] if reused else []), step) as it, pool_of(it.port) as pool:
        if reused:
            await call(pool)
        connection = await pool.connect()
        head = method.encode() + post(2)[4:]
        with pytest.raises(UpstreamReset) as refusal:
            await ask(connection, head, b"hi", method=method)

        assert (connection.sent, connection.reused, refusal.value.sent) == (True, reused, Sent.UNKNOWN)
        assert it.heads == 1 + reused
        assert pool.idle() is None


@pytest.mark.parametrize("status", [503, 429, 408, 421, 401, 500])
async def test_no_status_makes_us_send_again(status: int) -> None:
    """A refusal for now is handed on, not tried again (bad-inputs 79)."""
    async with bank(says(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status), says(OK)) as it:
        async with pool_of(it.port) as pool:
            assert (await call(pool))[0] == status
        assert it.heads == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_and_advice_are_handed_on(status: int) -> None:
    """Location, Alt-Svc, HSTS and cookies are headers like any other (bad-inputs 88, 93, 98)."""
    headers = (
        (b"Location", b"//evil.example/?t=1"),
        (b"Alt-Svc", b'h3=":443"'),
        (b"Set-Cookie", b"a=b"),
        (b"Content-Length", b"0"),
    )
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    async with bank(says(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, lines))) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        assert (answer.status, answer.headers) == (status, headers)
        answer.release()
        assert await call(pool, GET) == (status, b"", True)
        assert b"Cookie" not in it.requests[1].head


async def test_a_compressed_body_is_not_touched() -> None:
    """Good gzip or bad, the bytes are the bank's (bad-inputs 87)."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x00\xff"
    async with bank(says(answer)) as it, pool_of(it.port) as pool:
        assert (await call(pool))[1] == b"\x1f\x8b\x00\xff"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nup to the close",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 102 P\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1000 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: abcdefghijklmnopqrstuvwxyz\r\n" * 100_000 + b"Content-Length: 0\r\n\r\n",
        b"just text, no line end",
    ],
    ids=range(12),
)
async def test_a_bad_answer_is_refused_and_its_connection_closed(answer: bytes) -> None:
    """Nothing of it is handed on, and the next request has another connection (bad-inputs 82 to 86, 90)."""
    async with bank(says(answer), says(OK)) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        with pytest.raises(UpstreamBadResponse) as refusal:
            await ask(connection)

        assert refusal.value.cause
        assert connection.closed
        assert await call(pool) == (200, b"ok", False)
        assert it.connections == 2


async def test_an_answer_that_drips_in_is_served() -> None:
    """A slow bank is no wrong bank (bad-inputs 92)."""

    async def drip(peer: Peer) -> None:
        for byte in OK:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)

    async with bank(drip) as it, pool_of(it.port) as pool:
        assert (await call(pool))[:2] == (200, b"ok")
        assert (await call(pool))[:2] == (200, b"ok")


async def test_informational_answers_are_swallowed() -> None:
    """The caller never sees a 1xx (bad-inputs 90)."""
    async with bank(says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n\r\n" + OK)) as it, pool_of(it.port) as pool:
        assert await call(pool) == (200, b"ok", False)
        assert await call(pool) == (200, b"ok", True)


@pytest.mark.parametrize(
    ("answer", "method"),
    [
        (OK, "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET"),
    ],
)
@pytest.mark.parametrize("later", ["", "same packet", "before release", "idle"])
async def test_bytes_that_nobody_asked_for_never_reach_the_next_request(answer: bytes, method: str, later: str) -> None:
    """A second answer, with the first, after it or on the idle connection, dies with the connection (bad-inputs 89)."""
    stranger = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstranger"
    head = HEAD if method == "HEAD" else GET
    async with bank(says(answer + (stranger if later == "same packet" else b"")), says(OK)) as it:
        async with pool_of(it.port) as pool:
            connection = await pool.connect()
            first = await ask(connection, head, method=method)
            await whole(first)
            if later == "before release":
                await it.peers[0].send(stranger)
                await eventually(lambda: connection.closed)
            first.release()
            if later == "idle":
                await it.peers[0].send(stranger)
                await eventually(lambda: connection.closed)

            assert await call(pool, GET) == (200, b"ok", not later)
        assert it.connections == (2 if later else 1)


async def test_a_request_timeout_on_an_idle_connection_answers_nobody() -> None:
    """A 408 that a server sends before it closes an idle connection is not the next request's answer."""
    async with bank() as it, pool_of(it.port) as pool:
        await call(pool)
        await says_and_closes(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")(
            it.peers[0]
        )

        assert await call(pool) == (200, b"ok", False)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"])
async def test_a_connection_that_the_bank_ends_is_not_used_again(line: bytes) -> None:
    """Connection: close and HTTP/1.0 are taken at their word, also when the socket stays open."""
    async with bank(says(line + b"\r\nContent-Length: 2\r\n\r\nok")) as it, pool_of(it.port) as pool:
        await call(pool)
        assert await call(pool) == (200, b"ok", False)
        assert it.connections == 2


async def test_a_bank_that_never_answers_is_given_up() -> None:
    """The response time-out ends the wait for the head (bad-inputs 80)."""
    async with bank(says_nothing) as it, pool_of(it.port, response_timeout=0.05) as pool:
        connection = await pool.connect()
        with pytest.raises(UpstreamTimedOut, match="did not answer") as refusal:
            await asyncio.wait_for(ask(connection), 8)

        assert refusal.value.sent is Sent.UNKNOWN
        assert connection.closed
        assert it.heads == 1


async def test_the_deadline_ends_an_exchange_before_the_response_time_out() -> None:
    """What is left of the whole exchange's time bounds every wait."""
    async with bank(says_nothing) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        with pytest.raises(UpstreamTimedOut, match="did not answer"):
            await asyncio.wait_for(send(connection, GET, b"", method="GET", now=soon(0), deadline=soon(0.05)), 60)


async def test_a_slow_flow_of_informational_answers_does_not_extend_the_wait() -> None:
    """Only an answer ends the wait for it."""

    async def hum(peer: Peer) -> None:
        for _ in range(10):
            await peer.send(b"HTTP/1.1 102 P\r\n\r\n")
            await asyncio.sleep(0.02)

    async with bank(hum) as it, pool_of(it.port, response_timeout=0.08) as pool:
        with pytest.raises(UpstreamTimedOut):
            await asyncio.wait_for(ask(await pool.connect()), 8)


async def test_nothing_is_sent_after_the_deadline() -> None:
    """A request whose time is over is certainly not sent, and its connection is still good."""
    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        with pytest.raises(UpstreamUnreachable) as refusal:
            await send(connection, GET, b"", method="GET", now=soon(0), deadline=soon(-1))

        assert (connection.sent, refusal.value.sent) == (False, Sent.NO)
        assert await call(pool) == (200, b"ok", True)
        assert it.heads == 1


async def test_a_connection_that_died_before_sending_says_that_nothing_was_sent() -> None:
    """Between taking a connection and sending, the intent is written: time enough for the bank to close."""
    async with bank() as it, pool_of(it.port) as pool:
        await call(pool)
        connection = await pool.connect()
        it.peers[0].reset()
        await eventually(lambda: connection.closed)
        with pytest.raises(UpstreamUnreachable) as refusal:
            await ask(connection)

        assert (connection.sent, refusal.value.sent) == (False, Sent.NO)
        assert it.heads == 1


async def test_bytes_before_the_request_end_the_connection() -> None:
    """An answer that is there before its question is somebody else's."""
    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        await eventually(lambda: it.connections == 1)
        await it.peers[0].send(OK)
        await eventually(lambda: connection.closed)
        with pytest.raises(UpstreamUnreachable):
            await ask(connection)
        assert it.heads == 0


async def test_an_unused_connection_can_be_given_back() -> None:
    """What was taken and not needed serves the next request."""
    async with bank() as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        connection.release()
        connection.release()

        assert await call(pool) == (200, b"ok", True)
        assert pool.idle() is connection


async def test_one_connection_carries_one_exchange_at_a_time() -> None:
    """A second request on a busy connection is refused before a byte of it is sent."""
    async with bank(says_nothing) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        first = asyncio.ensure_future(ask(connection))
        await eventually(lambda: it.heads == 1)
        with pytest.raises(UpstreamUnreachable):
            await ask(connection)
        connection.abort()
        with pytest.raises(UpstreamReset):
            await first
        assert it.heads == 1


async def test_a_cancelled_request_closes_its_connection() -> None:
    """A caller that leaves takes the exchange at the bank with it."""
    async with bank(says_nothing) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        request = asyncio.ensure_future(ask(connection))
        await eventually(lambda: it.heads == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

        assert connection.closed
        await eventually(it.peers[0].reader.at_eof)


async def test_what_we_end_is_not_blamed_on_the_bank() -> None:
    """The operator reads who closed the connection of a read whose caller has left."""
    async with bank(says_nothing) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        request = asyncio.ensure_future(ask(connection))
        await eventually(lambda: it.heads == 1)
        connection.abort()
        with pytest.raises(UpstreamReset) as refusal:
            await request
        assert refusal.value.cause == "closed by us"


async def test_errors_quote_nothing_of_the_bank() -> None:
    """An answer's bytes are in no detail, cause or repr (bad-inputs 84)."""
    async with bank(says(b"HTTP/1.1 200 OK\r\nCANARY\r\n\r\n")) as it, pool_of(it.port) as pool:
        with pytest.raises(ProxyError) as refusal:
            await ask(await pool.connect())
        assert "CANARY" not in f"{refusal.value!r} {refusal.value.detail} {refusal.value.cause}"
