import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.errors import Overloaded, Sent, UpstreamReset, UpstreamUnreachable
from proxy.upstream.resolver import Resolver
from proxy.upstream.tls import TlsUnusable
from tests.upstream.support import (
    CLOCK,
    OK,
    ask,
    bank,
    call,
    eventually,
    pool_of,
    says,
    says_nothing,
)


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({"scheme": "https", "host": "API.Bank.Example", "port": 443}, "https://api.bank.example:443"),
        ({"port": 8080}, "http://127.0.0.1:8080"),
        ({"host": "::1", "port": 80}, "http://[::1]:80"),
    ],
)
async def test_the_origin_names_scheme_host_and_port(changes: dict[str, Any], origin: str) -> None:
    """It is what a token's origins are compared with, so it has one spelling."""
    async with pool_of(**changes) as pool:
        assert pool.origin == origin
        assert repr(pool) == f"<Pool {origin} [0 in use, 0 idle, 0 waiting]>"


async def test_a_refused_connection_is_certainly_not_sent() -> None:
    """Nobody listens: unreachable, safe to try again (bad-inputs 75)."""
    async with pool_of(closed_port()) as pool:
        for _ in range(3):
            with pytest.raises(UpstreamUnreachable) as refusal:
                await pool.connect()
        assert (refusal.value.sent, refusal.value.retryable) == (Sent.NO, True)
        assert "refused" in refusal.value.cause.lower()
        assert "0 in use" in repr(pool)


async def test_a_name_without_address_is_certainly_not_sent() -> None:
    """DNS says no: unreachable (bad-inputs 75)."""

    def nowhere(_host: str, _port: int) -> Sequence[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with pool_of(80) as pool:
        pool._opener._resolver = Resolver("bank.invalid", 80, clock=CLOCK, lookup=nowhere)
        with pytest.raises(UpstreamUnreachable, match="name"):
            await pool.connect()


async def test_a_name_that_is_none_is_certainly_not_sent() -> None:
    """A label that IDNA refuses is an address that does not exist, not a defect."""
    async with pool_of(80, host="a" * 64 + ".example") as pool:
        with pytest.raises(UpstreamUnreachable):
            await pool.connect()


async def test_a_silent_address_is_given_up_in_time() -> None:
    """TLS that never begins is bounded by the connect time-out."""
    async with bank(says_nothing) as it, pool_of(it.port, scheme="https", connect_timeout=0.1) as pool:
        with pytest.raises(UpstreamUnreachable, match="in time"):
            await pool.connect()
        await eventually(lambda: not pool._open)


async def test_the_second_address_is_tried_when_the_first_is_dead() -> None:
    """Connecting is tried again, sending is not (bad-inputs 96)."""
    async with bank() as it, pool_of(it.port) as pool:
        dead = closed_port()

        def two(_host: str, _port: int) -> Sequence[tuple[Any, ...]]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.1", dead)), (*kind, ("127.0.0.1", it.port))]

        pool._opener._resolver = Resolver("bank.example", it.port, clock=CLOCK, lookup=two)
        assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (1, 1)


async def test_a_first_address_that_swallows_everything_leaves_time_for_the_second() -> None:
    """The connect time-out is shared among the addresses."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)  # nobody accepts: later connections are not answered
    port = full.getsockname()[1]
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)  # noqa: FBT003 - the name of the call says what it sets
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    async with bank() as it, pool_of(it.port, connect_timeout=0.6) as pool:

        def two(_host: str, _port: int) -> Sequence[tuple[Any, ...]]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.1", port)), (*kind, ("127.0.0.1", it.port))]

        pool._opener._resolver = Resolver("bank.example", it.port, clock=CLOCK, lookup=two)
        assert await call(pool) == (200, b"ok", False)
    for each in (*fillers, full):
        each.close()


async def test_the_youngest_idle_connection_is_taken() -> None:
    """Those that are not needed grow old and are closed."""
    async with bank() as it, pool_of(it.port) as pool:
        first, second = await pool.connect(), await pool.connect()
        for connection in (first, second):
            (await ask(connection)).release()
        assert repr(pool).endswith("[0 in use, 2 idle, 0 waiting]>")
        assert [pool.idle(), pool.idle(), pool.idle()] == [second, first, None]


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("noticed", [True, False])
async def test_a_dead_idle_connection_is_not_used(end: str, *, noticed: bool) -> None:
    """Whether the loop has seen the end already or only the kernel has (bad-inputs 78)."""
    async with bank() as it, pool_of(it.port) as pool:
        await call(pool)
        peer = it.peers[0]
        if end == "close":
            peer.writer.transport.abort()
        else:
            peer.reset()
        if noticed:
            await eventually(lambda: not pool._open)
        else:
            await asyncio.sleep(0)  # the bank's transport closes its socket in the next turn, before ours is read
        assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (2, 2)


async def test_bytes_that_only_the_kernel_has_seen_make_a_connection_dirty() -> None:
    """The check looks at the socket itself: the loop may not have had its turn."""
    server = socket.create_server(("127.0.0.1", 0))
    async with pool_of(server.getsockname()[1]) as pool:
        connecting = asyncio.ensure_future(pool.connect())
        await eventually(connecting.done)
        connection = connecting.result()
        served, _ = server.accept()
        connection.release()
        served.sendall(OK)  # no turn of the loop between here and idle()
        assert pool.idle() is None
        assert connection.closed
        served.close()
    server.close()


async def test_an_idle_connection_is_closed_when_its_time_is_over() -> None:
    """The pool closes first, so that no request meets the bank's own close."""
    async with bank() as it, pool_of(it.port, idle_timeout=0.1) as pool:
        await call(pool)
        await eventually(lambda: not pool._open)
        assert repr(pool).endswith("[0 in use, 0 idle, 0 waiting]>")
        assert await call(pool) == (200, b"ok", False)
        assert it.connections == 2


async def test_an_idle_connection_that_is_too_old_is_not_used() -> None:
    """After a pause of the whole machine the timer has not fired yet, but the age counts."""
    async with bank() as it, pool_of(it.port) as pool:
        await call(pool)
        connection = pool._idle[0]
        connection._idle_since -= 5.0
        assert pool.idle() is None
        assert connection.closed


async def test_connections_are_bounded_and_waiting_is_first_come_first_served() -> None:
    """With all connections in use, a request waits for one to be released."""
    async with bank() as it, pool_of(it.port, max_connections=2) as pool:
        taken = [await pool.connect(), await pool.connect()]
        waiting = [asyncio.ensure_future(pool.connect()) for _ in range(3)]
        await eventually(lambda: "3 waiting" in repr(pool))
        for connection in taken:
            (await ask(connection)).release()
        await eventually(waiting[1].done)
        assert [task.done() for task in waiting] == [True, True, False]
        assert {waiting[0].result(), waiting[1].result()} == set(taken)
        assert waiting[0].result().reused

        (await ask(waiting[0].result())).release()
        assert await waiting[2] is waiting[0].result()
        assert it.connections == 2


async def test_a_closed_connection_gives_its_slot_to_whoever_waits() -> None:
    """The one who waits opens a new connection instead."""
    async with bank() as it, pool_of(it.port, max_connections=1) as pool:
        first = await pool.connect()
        waiting = asyncio.ensure_future(pool.connect())
        await eventually(lambda: "1 waiting" in repr(pool))
        first.abort()
        second = await waiting
        assert (second.reused, it.connections) == (False, 2)
        assert repr(pool).endswith("[1 in use, 0 idle, 0 waiting]>")


async def test_waiting_too_long_is_overload_and_certainly_not_sent() -> None:
    """The connect time-out bounds the wait, and the slot is not lost."""
    async with bank() as it, pool_of(it.port, max_connections=1, connect_timeout=0.05) as pool:
        taken = await pool.connect()
        with pytest.raises(Overloaded) as refusal:
            await pool.connect()
        assert (refusal.value.sent, refusal.value.retry_after) == (Sent.NO, 1)
        taken.release()
        assert await call(pool) == (200, b"ok", True)


async def test_a_cancelled_wait_passes_its_turn_on() -> None:
    """A caller that leaves while it waits neither keeps a slot nor stops the next one."""
    async with bank() as it, pool_of(it.port, max_connections=1) as pool:
        taken = await pool.connect()
        leaving, staying = asyncio.ensure_future(pool.connect()), asyncio.ensure_future(pool.connect())
        await eventually(lambda: "2 waiting" in repr(pool))
        taken.release()  # hands itself to the first, whose task has not run yet
        leaving.cancel()
        assert await staying is taken
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert repr(pool).endswith("[1 in use, 0 idle, 0 waiting]>")

        leaving, staying = asyncio.ensure_future(pool.connect()), asyncio.ensure_future(pool.connect())
        await eventually(lambda: "2 waiting" in repr(pool))
        taken.abort()  # hands its slot to the first
        leaving.cancel()
        assert not (await staying).reused
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert repr(pool).endswith("[1 in use, 0 idle, 0 waiting]>")


async def test_a_cancelled_connect_gives_its_slot_back() -> None:
    """Leaving in the middle of a TLS handshake costs nothing."""
    async with bank(says_nothing) as it, pool_of(it.port, scheme="https") as pool:
        connecting = asyncio.ensure_future(pool.connect())
        await eventually(lambda: it.connections == 1)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert repr(pool).endswith("[0 in use, 0 idle, 0 waiting]>")


async def test_a_connection_that_comes_back_as_one_begins_to_wait_is_taken_at_once() -> None:
    """Between the look for an idle one and the task that waits there is a turn of the loop."""
    async with bank() as it, pool_of(it.port, max_connections=1, connect_timeout=0.2) as pool:
        taken = await pool.connect()
        answer = await ask(taken)
        connecting = asyncio.ensure_future(pool.connect())
        asyncio.get_running_loop().call_soon(answer.release)  # after connect()'s first step, before its task's
        assert await connecting is taken
        assert repr(pool).endswith("[1 in use, 0 idle, 0 waiting]>")
        assert it.connections == 1


async def test_a_connection_that_closes_on_its_way_to_its_taker_is_replaced() -> None:
    """Nothing was sent on it, so that whoever waited for it need not hear of its end."""
    async with bank() as it, pool_of(it.port, max_connections=1) as pool:
        taken = await pool.connect()
        connecting = asyncio.ensure_future(pool.connect())
        await eventually(lambda: "1 waiting" in repr(pool))
        taken.release()  # hands itself over to the one who waits, whose task has not run yet ...
        taken.eof_received()  # ... and what the loop reads next is the bank's end
        given = await connecting
        assert (given is taken, given.closed, it.connections) == (False, False, 2)
        assert repr(pool).endswith("[1 in use, 0 idle, 0 waiting]>")


@pytest.mark.parametrize("turns", range(8))
async def test_a_wait_leaks_no_slot_whenever_it_is_cancelled(turns: int) -> None:
    """A connection that was handed over to nobody any more goes back, at whatever turn of the loop."""
    async with bank() as it, pool_of(it.port, max_connections=1) as pool:
        taken = await pool.connect()
        connecting = asyncio.ensure_future(pool.connect())
        await eventually(lambda: "1 waiting" in repr(pool))
        taken.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await connecting).release()
        await eventually(lambda: repr(pool).endswith("[0 in use, 1 idle, 0 waiting]>"))
        assert it.connections == 1


async def test_a_connect_leaks_no_slot_whenever_it_is_cancelled() -> None:
    """From before it begins until it has what it asked for, turn by turn: each leaves nothing in use."""
    async with bank() as it, pool_of(it.port) as pool:
        cancelled = opened = 0
        while not opened:
            connecting = asyncio.ensure_future(pool.connect())
            for _ in range(cancelled):
                await asyncio.sleep(0)
            connecting.cancel()
            try:
                (await connecting).close()
                opened += 1
            except asyncio.CancelledError:
                cancelled += 1
            await eventually(lambda: "[0 in use" in repr(pool))
            while (idle := pool.idle()) is not None:
                idle.close()
        assert cancelled > 1
        await eventually(lambda: not pool._open)


async def test_the_bound_holds_under_a_callers() -> None:
    """A hundred requests at once over four connections: all are answered, and no fifth connection is opened."""
    async with bank() as it, pool_of(it.port, max_connections=4) as pool:
        answers = await asyncio.gather(*[call(pool) for _ in range(100)])
        assert {answer[:2] for answer in answers} == {(200, b"ok")}
        assert (it.connections, it.heads) == (4, 100)
        assert repr(pool).endswith("[0 in use, 4 idle, 0 waiting]>")


async def test_the_bound_holds_when_connections_do_not_last() -> None:
    """With a bank that closes after each answer the slots come back all the same."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with bank(says(closing)) as it, pool_of(it.port, max_connections=3) as pool:
        answers = await asyncio.gather(*[call(pool) for _ in range(30)])
        assert set(answers) == {(200, b"ok", False)}
        assert repr(pool).endswith("[0 in use, 0 idle, 0 waiting]>")


async def test_close_ends_everything() -> None:
    """Idle connections, a request under way and those that wait: all end, and nothing is opened afterwards."""
    async with bank(says(OK), says_nothing) as it, pool_of(it.port, max_connections=2) as pool:
        first, second = await pool.connect(), await pool.connect()
        (await ask(first)).release()
        busy = asyncio.ensure_future(ask(second))
        await eventually(lambda: it.heads == 2)
        assert await pool.connect() is first
        waiting = [asyncio.ensure_future(pool.connect()) for _ in range(3)]
        await eventually(lambda: "3 waiting" in repr(pool))
        await pool.close()

        with pytest.raises(UpstreamReset):
            await busy
        for late in (*waiting, pool.connect()):
            with pytest.raises(UpstreamUnreachable):
                await late
        assert it.connections == 2
        assert (first.closed, second.closed, pool._open) == (True, True, set())
        assert repr(pool).endswith("[0 in use, 0 idle, 0 waiting]>")


async def test_a_failed_egress_setting_or_certificate_is_found_at_once() -> None:
    """What can't work is said when the pool is made, not at the first request."""
    with pytest.raises(ValueError, match="egress"):
        async with pool_of(80, egress_proxy="socks5://x:1"):
            pass
    with pytest.raises(TlsUnusable, match=r"nothing\.pem"):
        async with pool_of(80, scheme="https", ca_file="nothing.pem"):
            pass
