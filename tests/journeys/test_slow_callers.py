import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Address, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.open_connections import calm, came, reset, soft_limit
from tests.journeys.proc import resident
from tests.journeys.support import configured
from tests.journeys.waiting import until

UPLOADS = 1000
UPLOAD_BYTES = 524_288
BEGUN_BYTES = 65_536  # of each upload, before it stops
MEMORY = 33_554_432  # server.body_memory_bytes
CONNECTION_BYTES = 10_240
SLACK_BYTES = 16_777_216  # buffers of what is being read, and what the allocator keeps
STALLED_BYTES = 1_500_000
HURRY = 0.5  # seconds that the median caller may wait beside many slow ones, on cores shared with other tests
HEAD_SECONDS = 10.0  # proxy/worker/timeouts.py
LATE_SECONDS = 30.0  # on a machine that is busy


class Slow:
    """A caller that sends a beginning, then a piece now and then, and takes what answer comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._since = asyncio.get_running_loop().time()

    async def drip(self, piece: bytes, *, gap: float) -> tuple[int, float]:
        """Send *piece* every *gap* seconds; return the answer's status, and the seconds since it connected."""
        answer = asyncio.ensure_future(self.status())
        while not answer.done():
            self.writer.write(piece)
            await asyncio.wait((answer,), timeout=gap)
        return answer.result()[0], asyncio.get_running_loop().time() - self._since

    async def status(self) -> tuple[int, bytes, bool]:
        """Return the answer's status, code (of a problem) and whether it says when to come again."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
        body = json.loads(await self.reader.readexactly(int(length)))
        return int(head.split(b" ")[1]), body.get("code", ""), b"\r\nretry-after: " in head


@contextlib.asynccontextmanager
async def slow_callers(address: Address, number: int, beginning: bytes) -> AsyncIterator[list[Slow]]:
    """Open *number* connections for the block, each with *beginning* sent."""
    callers: list[Slow] = []
    try:
        for _ in range(number):
            callers.append(Slow(*await asyncio.open_connection(*address)))
            callers[-1].writer.write(beginning)
        yield callers
    finally:
        for each in callers:
            each.writer.transport.abort()
        await asyncio.gather(*(each.writer.wait_closed() for each in callers), return_exceptions=True)


async def test_slow_callers_are_cut_off_and_nobody_waits_with_them(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Two hundred drip heads and bodies, twenty do not read: each deadline holds, and others are served as ever.

    A head has 10 s, a body that comes at all has exchange_timeout. What an unread answer holds in memory is bounded;
    when it is given up is shown with shorter deadlines in tests/worker/test_slow_callers.py.
    """
    exchange_seconds = 4.0
    bank.world.faults.set("endless", path="/payment/v2/without-end")
    instance = await start(configured(tmp_path, bank.url, server=f"exchange_timeout = {exchange_seconds}"))
    [worker] = await instance.serving()
    memory = resident(worker)
    head = b"POST /payment/v2/payments HTTP/1.1\r\nHost: localhost\r\n"
    deaf = [came(instance.address, receive_buffer=8192) for _ in range(20)]
    for one in deaf:
        one.sendall(b"GET /payment/v2/without-end HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with (
        calm(instance.address) as other,
        slow_callers(instance.address, 100, head) as heads,
        slow_callers(instance.address, 100, head + b"Content-Length: 100000\r\n\r\n") as bodies,
    ):
        late_heads = asyncio.gather(*(each.drip(b"X-Slow: 1\r\n", gap=0.5) for each in heads))
        for status, seconds in await asyncio.gather(*(each.drip(b"a", gap=0.5) for each in bodies)):
            assert status == 408
            assert exchange_seconds - 0.5 < seconds < exchange_seconds + LATE_SECONDS
        assert resident(worker) - memory < len(deaf) * STALLED_BYTES + 200 * CONNECTION_BYTES + 4_000_000
        for status, seconds in await late_heads:
            assert status == 408
            assert HEAD_SECONDS - 0.5 < seconds < HEAD_SECONDS + LATE_SECONDS
    for one in deaf:
        reset(one)

    assert (other.statuses, other.p50 < HURRY) == ({200}, True)
    assert len(other.took) > 200
    assert bank.world.seen("/payment/v2/payments") == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_thousand_slow_uploads_share_a_bounded_memory(
    tmp_path: Path, bank: Bank, start: Start, framing: str
) -> None:
    """Those above body_memory_bytes hear 503 and when to return; the bank hears of none that is not whole."""
    lines, begun, rest = _upload(framing)
    size = UPLOAD_BYTES if framing == "length" else BEGUN_BYTES
    instance = await start(configured(tmp_path, bank.url, server=f"body_memory_bytes = {MEMORY}"))
    [worker] = await instance.serving()
    memory = resident(worker)
    with soft_limit(UPLOADS + 500):
        async with slow_callers(instance.address, UPLOADS, lines + begun) as callers:
            answers = {each: asyncio.ensure_future(each.status()) for each in callers}
            room = MEMORY // size

            def refused() -> int:
                return sum(answer.done() for answer in answers.values())

            await until(lambda: refused() >= UPLOADS - room, otherwise=f"{refused()} were refused")
            assert resident(worker) - memory < MEMORY + UPLOADS * CONNECTION_BYTES + SLACK_BYTES
            told = Counter(answer.result() for answer in answers.values() if answer.done())
            assert told == {(503, "overloaded", True): UPLOADS - room}
            assert bank.world.seen("/payment/v2") == []

            held = [each for each, answer in answers.items() if not answer.done()]
            for each in held[::2]:
                each.writer.transport.abort()
            finishing = held[1::2][:32]
            for each in finishing:
                each.writer.write(rest)
            assert {(await answers[each])[0] for each in finishing} == {201}
            for answer in answers.values():
                answer.cancel()
            await asyncio.gather(*answers.values(), return_exceptions=True)

    seen = bank.world.seen("/payment/v2")
    assert [(each.complete, each.body_size) for each in seen] == [(True, size)] * len(finishing)
    assert (await get(instance.address, "/payment/helloworld")).status == 200
    assert (await ask(instance.address, payment("afterwards"))).status == 201
    again = [_whole(lines, begun + rest, instance.address) for _ in range(room // 2)]
    assert set(await asyncio.gather(*again)) == {201}


def _upload(framing: str) -> tuple[bytes, bytes, bytes]:
    """Return the head of an upload, its beginning and the rest."""
    head = b"POST /payment/v2/payments HTTP/1.1\r\nHost: localhost\r\n"
    begun = b"a" * BEGUN_BYTES
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % UPLOAD_BYTES, begun, b"a" * (UPLOAD_BYTES - BEGUN_BYTES)
    return head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (BEGUN_BYTES, begun), b"0\r\n\r\n"


async def _whole(lines: bytes, body: bytes, address: Address) -> int:
    async with slow_callers(address, 1, lines + body) as [caller]:
        return (await caller.status())[0]
