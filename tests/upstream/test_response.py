import asyncio

import pytest

from proxy.errors import UpstreamBadResponse, UpstreamFault, UpstreamReset, UpstreamTimedOut
from proxy.upstream.connection import READ_HIGH_BYTES
from tests.upstream.support import (
    CLOCK,
    OK,
    Peer,
    Step,
    ask,
    bank,
    call,
    eventually,
    pool_of,
    says,
    says_and_closes,
    says_and_resets,
    whole,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n"


def in_two_packets(first: bytes, second: bytes) -> Step:
    """Answer with *first*, and with *second* after the first has surely been read."""

    async def step(peer: Peer) -> None:
        await peer.send(first)
        await asyncio.sleep(0.03)
        await peer.send(second)

    return step


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", b"hello world"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello", b" world"),
        (CHUNKED, b"B\r\nhello world\r\n0\r\n\r\n"),
        (CHUNKED + b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\nX: y\r\n\r\n"),
        (CHUNKED + b"B\r\nhello world\r\n0\r\n", b"\r\n"),
    ],
)
async def test_a_body_that_comes_later_is_read_in_pieces(first: bytes, second: bytes) -> None:
    """The head is handed on as soon as it is there, and the connection is good for the next request after the end."""
    async with bank(in_two_packets(first, second), says(OK)) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        assert (answer.complete, answer.body, answer.head.chunked) == (False, b"", b"chunked" in first)
        assert repr(answer) == "<UpstreamResponse [200, body to come]>"
        assert await whole(answer) == b"hello world"
        assert await answer.read() == b""
        answer.release()
        assert await call(pool) == (200, b"ok", True)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (says_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello"), UpstreamReset),
        (says_and_resets(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello"), UpstreamReset),
        (says_and_closes(CHUNKED + b"5\r\nhello\r\n"), UpstreamReset),
        (says_and_closes(CHUNKED + b"5\r\nhello\r\n0\r\n"), UpstreamReset),
        (says_and_resets(CHUNKED + b"9\r\nhello"), UpstreamReset),
        (in_two_packets(CHUNKED + b"5\r\nhello\r\n", b"zz\r\n"), UpstreamBadResponse),
        (in_two_packets(CHUNKED + b"5\r\nhello", b"XX0\r\n\r\n"), UpstreamBadResponse),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello"), UpstreamTimedOut),
        (says(CHUNKED + b"5\r\nhello\r\n"), UpstreamTimedOut),
    ],
    ids=range(9),
)
async def test_a_body_that_is_cut_off_is_seen_to_be_cut_off(step: Step, error: type[UpstreamFault]) -> None:
    """What came is handed on, then the error: never a short body that looks complete (bad-inputs 80, 81)."""
    async with bank(step, says(OK)) as it, pool_of(it.port, response_timeout=0.2) as pool:
        answer = await ask(await pool.connect())
        assert await answer.read() == b"hello"
        for _ in range(2):
            with pytest.raises(error):
                await answer.read()
        answer.release()
        assert await call(pool) == (200, b"ok", False)


async def test_what_was_buffered_before_a_cut_is_handed_on_first() -> None:
    """A reader that is late gets the bytes that came, then the error."""
    async with bank(says_and_resets(CHUNKED + b"5\r\nhello\r\n")) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        answer = await ask(connection)
        await eventually(lambda: connection.closed)
        assert await answer.read() == b"hello"
        with pytest.raises(UpstreamReset):
            await answer.read()


async def test_the_consumer_may_take_longer_than_the_bank() -> None:
    """A slow caller is not held against the bank: the gap counts only while we wait for bytes."""

    async def in_three_packets(peer: Peer) -> None:
        for piece in (CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"):
            await peer.send(piece)
            await asyncio.sleep(0.03 if piece is CHUNKED else 0.2)

    async with bank(in_three_packets) as it, pool_of(it.port, response_timeout=0.1) as pool:
        answer = await ask(await pool.connect())
        assert await answer.read() == b"hello"  # waited for: this is what sets the timer
        await asyncio.sleep(0.25)
        assert await answer.read() == b""
        answer.release()


async def test_the_consumer_may_be_late_from_the_start() -> None:
    """Nothing is held against the bank before its body is asked for, which may be after the response time-out."""
    body = bytes(400_000)  # more than is buffered: the bank can't even send it
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with bank(says(head + body)) as it, pool_of(it.port, response_timeout=0.1) as pool:
        answer = await ask(await pool.connect())
        late = CLOCK.monotonic() + 0.2
        await eventually(lambda: CLOCK.monotonic() > late)
        assert await whole(answer) == body
        answer.release()


async def test_an_unread_answer_does_not_fill_the_memory() -> None:
    """The socket is not read beyond the limit, and reading goes on when the consumer does."""

    async def flood(peer: Peer) -> None:
        await peer.send(LONG + bytes(20_000_000))

    async with bank(flood, says(OK)) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        parser = answer._parser
        assert parser is not None
        await eventually(lambda: parser.buffered > READ_HIGH_BYTES)
        await asyncio.sleep(0.1)
        assert parser.buffered < READ_HIGH_BYTES + 300_000  # one read of the event loop more

        assert len(await whole(answer)) == 20_000_000
        answer.release()
        assert await call(pool) == (200, b"ok", True)


async def test_released_before_its_end_an_answer_closes_its_connection() -> None:
    """Nobody reads the rest, so nobody may send on that connection; reading on is an error, not an end."""
    async with bank(says(LONG), says(OK)) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        answer = await ask(connection)
        answer.release()
        answer.release()

        assert connection.closed
        with pytest.raises(UpstreamReset):
            await answer.read()
        assert await call(pool) == (200, b"ok", False)


async def test_released_unread_but_complete_an_answer_keeps_its_connection() -> None:
    """All of it is here, so the connection is clean whether or not anybody looks at the body."""
    async with bank(in_two_packets(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), says(OK)) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        parser = answer._parser
        assert parser is not None
        await eventually(lambda: parser.complete)
        answer.release()
        assert await call(pool) == (200, b"ok", True)


@pytest.mark.parametrize(
    "step",
    [
        says(b"HTTP/1.1 403 F\r\nContent-Length: 11\r\n\r\nhello world"),
        in_two_packets(CHUNKED + b"2\r\nhe\r\n", b"3\r\nllo\r\n6\r\n world\r\n0\r\n\r\n"),
        in_two_packets(b"HTTP/1.1 403 F\r\nContent-Length: 11\r\n\r\n", b"hello world"),
    ],
)
async def test_what_was_peeked_at_is_still_read(step: Step) -> None:
    """Looking at the beginning of a body takes nothing from it."""
    async with bank(step, says(OK)) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        assert [await answer.peek(5), await answer.peek(3)] == [b"hello", b"hel"]
        assert await whole(answer) == b"hello world"
        answer.release()
        assert await call(pool) == (200, b"ok", True)


async def test_drain_reads_a_short_rest_and_keeps_the_connection() -> None:
    """A small body that nobody wants costs less than a new connection."""
    async with bank(in_two_packets(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), says(OK)) as it, pool_of(it.port) as pool:
        await (await ask(await pool.connect())).drain(65536)
        assert await call(pool) == (200, b"ok", True)


@pytest.mark.parametrize("first", [LONG, CHUNKED + b"5\r\nhello\r\n" * 20000])
async def test_drain_does_not_read_a_long_rest(first: bytes) -> None:
    """Beyond the limit the connection is closed instead (bad-inputs 103)."""
    async with bank(says(first), says(OK)) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        answer = await ask(connection)
        await asyncio.wait_for(answer.drain(65536), 60)
        assert connection.closed
        assert await call(pool) == (200, b"ok", False)


async def test_drain_of_a_body_that_breaks_ends_quietly() -> None:
    """Nobody wants that body, so nobody misses the rest."""
    async with bank(says_and_closes(CHUNKED + b"5\r\nhel")) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        await (await ask(connection)).drain(65536)
        assert connection.closed


async def test_a_cancelled_reader_closes_the_connection() -> None:
    """The caller left in the middle of the answer."""
    async with bank(says(LONG + b"x")) as it, pool_of(it.port) as pool:
        connection = await pool.connect()
        answer = await ask(connection)
        await answer.read()
        reader = asyncio.ensure_future(answer.read())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert connection.closed


async def test_a_gathered_answer_is_complete() -> None:
    """What came before and what comes later are one body, and the connection serves the next request."""
    pieces = in_two_packets(CHUNKED + b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n")
    async with bank(pieces, says(OK)) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        assert await answer.peek(3) == b"hel"
        await answer.gather(1000, until=CLOCK.monotonic() + 10)
        assert (answer.complete, answer.body) == (True, b"hello world")
        assert await whole(answer) == b"hello world"
        answer.release()
        assert await call(pool) == (200, b"ok", True)


async def test_an_answer_that_is_too_long_or_too_late_is_left_to_be_read() -> None:
    """Gathering ends with the limit or the time, whatever came; the exchange goes on."""
    go = asyncio.Event()

    async def step(peer: Peer) -> None:
        await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await go.wait()
        await peer.send(b"2710\r\n" + bytes(10_000) + b"\r\n")
        await peer.send(b"0\r\n\r\n")

    async with bank(step) as it, pool_of(it.port) as pool:
        answer = await ask(await pool.connect())
        await answer.gather(1000, until=CLOCK.monotonic() + 0.05)
        assert not answer.complete
        go.set()
        await answer.gather(1000, until=CLOCK.monotonic() + 10)
        assert await whole(answer) == b"hello" + bytes(10_000)
        answer.release()


async def test_an_answer_that_breaks_while_it_is_gathered_is_told() -> None:
    """By a close, and by silence until the response time-out."""
    cut = CHUNKED + b"5\r\nhello\r\n"
    for step, fault in ((says_and_closes(cut), UpstreamReset), (says(cut), UpstreamTimedOut)):
        async with bank(step) as it, pool_of(it.port, response_timeout=0.2) as pool:
            answer = await ask(await pool.connect())
            with pytest.raises(fault):
                await answer.gather(1000, until=CLOCK.monotonic() + 10)
