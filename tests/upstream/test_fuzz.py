"""Answers damaged at random, the same at each run: what the client makes of them, and of what comes after them."""

import asyncio
import contextlib
from random import Random  # noqa: TID251 - a seed, so that a failure can be had again

import pytest

from proxy.errors import UpstreamFault
from proxy.upstream.pool import Pool
from tests.support.mutation import cut, mutated
from tests.support.plain_http import NotWhole, answer
from tests.upstream.support import CLOCK, Bank, Peer, bank, call, eventually, pool_of

CASES = 1200
LANES = 12
PATIENCE = 0.6  # response_timeout
HANG = 5.0  # seconds; nothing may take so long, on the busiest machine

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
)
ENDS = ("", "", "closes", "resets")


class Lane:
    """A bank, a pool towards it, and what the bank says next."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - damage, no secret
        self.pieces: list[bytes] = []
        self.end = ""
        self.said = asyncio.Event()

    async def step(self, peer: Peer) -> None:
        """Say what is next, in its pieces, and end the connection or not."""
        try:
            for piece in self.pieces:
                await peer.send(piece)
                await asyncio.sleep(0)
            with contextlib.suppress(OSError):  # the client may have ended it before
                if self.end == "resets":
                    peer.reset()
                if self.end:
                    peer.writer.close()
                    await peer.writer.wait_closed()
        finally:
            self.said.set()

    async def meet(self, pool: Pool, it: Bank) -> None:
        """Send a request that gets a damaged answer, and one after it that gets a good one."""
        data = mutated(self.random.choice(ANSWERS), self.random)
        self.pieces, self.end = cut(data, self.random), self.random.choice(ENDS)
        before = len(it.requests)
        self.said.clear()
        started = CLOCK.monotonic()
        try:
            status, body, _ = await call(pool)
        except UpstreamFault:
            status, body = 0, b""
        assert CLOCK.monotonic() - started < HANG
        assert len(it.requests) == it.heads == before + 1, "sent twice, or not at all"
        if status:
            _check(status, body, data)
        await self.said.wait()  # what comes after the next request is sent nobody can tell from its answer
        good = b"answer %d" % it.heads
        self.pieces, self.end = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(good), good)], ""
        assert (await call(pool))[:2] == (200, good)


def _check(status: int, body: bytes, data: bytes) -> None:
    """Hold a whole answer of the client against another reading of the same bytes."""
    try:
        expected, message = answer(data)
    except NotWhole:
        pytest.fail(f"{status} {body!r} was made of {data!r}")
    assert (status, body) == (expected, message.body), data


async def _run(seed: int) -> None:
    lane = Lane(seed)
    async with bank(lane.step) as it, pool_of(it.port, response_timeout=PATIENCE) as pool:
        for number in range(CASES // LANES):
            try:
                async with asyncio.timeout(2 * HANG):
                    await lane.meet(pool, it)
            except BaseException as error:
                error.add_note(f"lane {seed}, case {number}: {lane.pieces!r} {lane.end}")
                raise
        await eventually(lambda: "[0 in use" in repr(pool))


async def test_a_damaged_answer_is_read_in_one_way_or_refused_and_spoils_nothing_after_it() -> None:
    """Never two requests for one, never a hang, and the next request on the same pool gets its own answer."""
    async with asyncio.TaskGroup() as lanes:
        for seed in range(LANES):
            lanes.create_task(_run(seed))
