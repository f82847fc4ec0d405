"""Slowloris in numbers, against short deadlines: what tests/journeys/test_slow_callers.py can't wait for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.upstream.support import Peer, eventually
from tests.worker.support import Proxy, proxy
from tests.worker.timeouts import timeouts
from tests.worker.wire import Wire, request, wire

EACH = 30
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"a" * 4_000_000
POST = b"POST /open/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


@contextlib.asynccontextmanager
async def _callers(it: Proxy, data: bytes, number: int) -> AsyncIterator[list[Wire]]:
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(wire(it.port, receive_buffer=4096)) for _ in range(number)]
        for caller in callers:
            await caller.send(data)
        yield callers


async def _drip(callers: list[Wire], data: bytes) -> None:
    while True:
        for caller in callers:
            caller.writer.write(data)
        await asyncio.sleep(0.05)


async def test_every_slow_caller_is_cut_off_in_time_and_nobody_waits_with_them(tmp_path: Path) -> None:
    """Heads that drip, bodies that stop, answers that nobody reads; at the end nothing of them is left."""

    async def by_target(peer: Peer) -> None:
        await peer.send(BIG if it.last.head.startswith(b"GET /open/big") else b"HTTP/1.1 204 No\r\n\r\n")

    quick = timeouts(head=3.0, body_gap=3.0, unread_answer=3.0, linger=0.2)
    async with (
        proxy(tmp_path, by_target, timeouts=quick, upstream={"max_connections": 2 * EACH}) as it,
        _callers(it, b"GET /open/a HTTP/1.1\r\n", EACH) as heads,
        _callers(it, POST + b"a", EACH) as bodies,
        _callers(it, request(b"GET", b"/open/big"), EACH) as deaf,
    ):
        loop = asyncio.get_running_loop()
        dripping = loop.create_task(_drip(heads, b"X: y\r\n"))
        replies = [loop.create_task(caller.answer()) for caller in (*heads, *bodies)]
        answered_meanwhile = 0
        try:
            async with wire(it.port) as calm:
                while not all(reply.done() for reply in replies):
                    await calm.send(request())
                    assert (await calm.answer()).status == 204
                    answered_meanwhile += not all(reply.done() for reply in replies)
                    await asyncio.sleep(0.01)
            assert {reply.status for reply in await asyncio.gather(*replies)} == {408}
        finally:
            dripping.cancel()
        assert answered_meanwhile >= 5
        await eventually(lambda: it.server.open_connections == 0)
        admission = it.gateway.admission
        await eventually(lambda: (admission.in_flight, admission.held_bytes) == (0, 0))
        assert sum(exchange.caller_left for exchange in it.ledger.ended) == len(deaf)
        assert {one.head.split(b" ")[0] for one in it.bank.requests} == {b"GET"}
