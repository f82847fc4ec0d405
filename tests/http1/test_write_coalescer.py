import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.errors import UpstreamReset
from proxy.http1.write_coalescer import CoalescedWriter, WriteCoalescer
from tests.upstream.certificates import Authority, server_context
from tests.upstream.support import GET, bank, call, eventually, pool_of, soon


class Noting:
    """Notes when it is flushed, and may have more to send then."""

    def __init__(self, name: str, log: list[str], *, then: "tuple[WriteCoalescer, Noting] | None" = None) -> None:
        self._name = name
        self._log = log
        self._then = then

    def flush(self) -> None:
        """Note it."""
        self._log.append(self._name)
        if self._then is not None:
            coalescer, sender = self._then
            coalescer.put(sender)


class Breaking:
    """Raises."""

    def flush(self) -> None:
        """Raise."""
        raise ZeroDivisionError


async def busy() -> WriteCoalescer:
    """Return a coalescer that had much to send lately."""
    coalescer, log = WriteCoalescer(), list[str]()
    for _ in range(16):
        coalescer.put(Noting("", log))
    await eventually(lambda: coalescer._usual > 3)
    return coalescer


async def test_in_a_quiet_turn_nothing_waits() -> None:
    """A lone message would lose by it; and once turns are quiet again, they count as such."""
    for coalescer, turns in ((WriteCoalescer(), 0), (await busy(), 4)):
        log = list[str]()
        for _ in range(turns):
            coalescer.put(Noting("gathered", []))
            await asyncio.sleep(0)
        coalescer.put(Noting("now", log))
        assert log == ["now"]


async def test_all_of_a_busy_turn_is_sent_at_its_end_in_order() -> None:
    """What a flush brings up goes in the next turn: the list that is walked never grows."""
    coalescer, log = await busy(), list[str]()
    loop = asyncio.get_running_loop()
    coalescer.put(Noting("first", log, then=(coalescer, Noting("third", log))))
    coalescer.put(Noting("second", log))
    loop.call_soon(log.append, "next turn")
    assert log == []

    await eventually(lambda: "third" in log)

    assert log == ["first", "second", "next turn", "third"]


async def test_a_sender_that_breaks_holds_up_no_other() -> None:
    """The loop reports it, and the others are sent in the next turn."""
    coalescer, log, reported = await busy(), list[str](), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    coalescer.put(Noting("first", log))
    coalescer.put(Breaking())
    coalescer.put(Noting("last", log))

    await eventually(lambda: "last" in log)

    assert log == ["first", "last"]
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_a_request_given_up_in_its_turn_is_not_sent(tmp_path: Path) -> None:
    """Over TLS: it counts as sent all the same, which errs on the safe side."""
    authority = Authority(tmp_path)
    async with bank(tls=server_context(authority.identity("bank"))) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            await call(pool)
            pool._opener._shared.coalescer._usual = 1000
            connection = await pool.connect()
            reply = connection.send_whole(GET, to_head=False, now=soon(0), deadline=soon())
            connection.abort()
            assert connection.sent
            with pytest.raises(UpstreamReset):
                await reply
            await eventually(lambda: not pool._open)
            assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (2, 2)


async def test_requests_of_one_turn_reach_the_bank_whole(tmp_path: Path) -> None:
    """On connections of their own; each gets its answer."""
    authority = Authority(tmp_path)
    async with bank(tls=server_context(authority.identity("bank"))) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            assert await asyncio.gather(*(call(pool) for _ in range(8))) == [(200, b"ok", False)] * 8
            assert await asyncio.gather(*(call(pool) for _ in range(8))) == [(200, b"ok", True)] * 8
        assert (it.heads, it.connections) == (16, 8)


@asynccontextmanager
async def writer() -> AsyncIterator[tuple[CoalescedWriter, asyncio.Transport, socket.socket]]:
    """Yield what writes to a socket, its transport, and the socket's other end, which never blocks."""
    near, far = socket.socketpair()
    far.settimeout(0)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    try:
        coalescer = WriteCoalescer()
        coalescer._usual = 1000  # a busy loop
        yield CoalescedWriter(transport, coalescer), transport, far
    finally:
        transport.abort()
        far.close()


def received(far: socket.socket) -> bytes:
    """Return what has come by now."""
    try:
        return far.recv(1 << 20)
    except BlockingIOError:
        return b""


async def test_what_is_written_in_a_turn_goes_out_at_its_end() -> None:
    """In order and in one piece."""
    async with writer() as (it, _, far):
        it.write(b"one ")
        it.write(b"two")
        assert received(far) == b""
        await asyncio.sleep(0)
        assert received(far) == b"one two"


async def test_it_goes_out_at_once_where_somebody_is_about_to_close() -> None:
    """Nothing comes twice."""
    async with writer() as (it, transport, far):
        it.write(b"all")
        it.flush()
        transport.close()
        it.write(b"too late")
        for _ in range(3):
            await asyncio.sleep(0)
        assert received(far) == b"all"


async def test_what_is_large_does_not_wait() -> None:
    """Behind what was written before."""
    async with writer() as (it, _, far):
        it.write(b"small")
        it.write(bytes(65536))
        assert received(far) == b"small" + bytes(65536)


async def test_nothing_is_gathered_behind_what_the_caller_has_not_taken() -> None:
    """The transport tells at once that it has no room: who asks then must not hear of an earlier time."""
    async with writer() as (it, transport, _):
        while not transport.get_write_buffer_size():
            it.write(bytes(65537))
        unsent = transport.get_write_buffer_size()
        it.write(b"more")
        assert transport.get_write_buffer_size() == unsent + 4
