import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.worker.acceptor import Acceptor, system_room
from tests.upstream.certificates import Authority, server_context
from tests.upstream.support import eventually
from tests.worker.support import Proxy, proxy
from tests.worker.wire import ask, request, wire

RESERVE = 100
ROOM = 5


@contextlib.asynccontextmanager
async def entrance(
    it: Proxy, *, tls: ssl.SSLContext | None = None, system_room: Callable[[], int] = system_room
) -> AsyncIterator[tuple[Acceptor, int]]:
    """Let an acceptor take callers to *it*; all but ROOM of those who may come seem to be there already."""
    elsewhere = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE - ROOM
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = Acceptor(it.server, [listener], tls=tls, reserve=RESERVE, clock=SystemClock(), system_room=system_room)
    it.server.open_connections += elsewhere
    acceptor.start()
    try:
        yield acceptor, listener.getsockname()[1]
    finally:
        acceptor.close()
        it.server.open_connections -= elsewhere


async def test_who_finds_no_room_waits_and_is_served_when_another_leaves(tmp_path: Path) -> None:
    """Nobody beyond the room is accepted, and nobody is cut off."""
    async with proxy(tmp_path) as it, entrance(it) as (acceptor, port), contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(wire(port)) for _ in range(ROOM)]
        await eventually(lambda: "room for 0" in repr(acceptor))
        late = asyncio.get_running_loop().create_task(ask(port, request()))
        await eventually(lambda: "paused" in repr(acceptor))
        await callers[0].send(request())
        assert (await callers[0].answer()).status == 200
        assert not late.done()
        callers[0].leave()
        assert (await late).status == 200
        await eventually(lambda: "paused" not in repr(acceptor))


async def test_the_loop_accepts_until_the_room_runs_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is counted again: nobody beyond the room is accepted, and who waited is served."""
    monkeypatch.setattr("proxy.worker.acceptor._AMPLE", 3)
    monkeypatch.setattr("proxy.worker.acceptor._LOOK_EVERY", 1)
    async with proxy(tmp_path) as it, entrance(it) as (acceptor, port), contextlib.AsyncExitStack() as stack:
        await eventually(lambda: "by the loop" in repr(acceptor))
        callers = []
        for _ in range(ROOM):
            callers.append(await stack.enter_async_context(wire(port)))
            await callers[-1].send(request())
            assert (await callers[-1].answer()).status == 200
        await eventually(lambda: "paused" in repr(acceptor))
        assert "by the loop" not in repr(acceptor)
        late = asyncio.get_running_loop().create_task(ask(port, request()))
        await callers[0].send(request())
        assert (await callers[0].answer()).status == 200
        assert not late.done()
        for caller in callers:
            caller.leave()
        assert (await late).status == 200
        await eventually(lambda: "by the loop" in repr(acceptor))


async def test_a_limit_that_is_lowered_is_seen_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the look of each second; the loop's server would close connections at it, unanswered."""
    monkeypatch.setattr("proxy.worker.acceptor._AMPLE", 3)
    async with proxy(tmp_path) as it, entrance(it) as (acceptor, port):
        await eventually(lambda: "by the loop" in repr(acceptor))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - ROOM + 2, hard))
        try:
            acceptor.look()
            await eventually(lambda: "by the loop" not in repr(acceptor))
            assert (await ask(port, request())).status == 200
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_system_without_descriptors_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then connections are accepted here, where an error leaves them in the queue; the loop goes on afterwards."""
    monkeypatch.setattr("proxy.worker.acceptor._AMPLE", 3)
    room = 3
    async with proxy(tmp_path) as it, entrance(it, system_room=lambda: room) as (acceptor, port):
        await eventually(lambda: "by the loop" in repr(acceptor))
        room = 2
        acceptor.look()
        await eventually(lambda: "by the loop" not in repr(acceptor))

        with monkeypatch.context() as patch:
            patch.setattr("socket.socket.accept", _none_left)
            late = asyncio.create_task(ask(port, request()))
            await eventually(lambda: "paused" in repr(acceptor))
            assert acceptor.was_full()
            assert not late.done()
        room = 3
        assert (await late).status == 200
        await eventually(lambda: "by the loop" in repr(acceptor))


def _none_left(_: socket.socket) -> tuple[socket.socket, object]:
    raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))


@pytest.mark.parametrize(("text", "room"), [("3464\t0\t10000\n", 6536), ("", 2048), (None, 2048)])
def test_the_kernel_says_how_much_room_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, room: int
) -> None:
    """proc_sys_fs(5): file-nr; where it can't be read there is enough."""
    file = tmp_path / "file-nr"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr("proxy.worker.acceptor._FILE_NR", file)
    assert system_room() == room


async def test_a_rush_is_let_in_whole(tmp_path: Path) -> None:
    """More than are taken in one turn of the loop, far below the limit."""
    async with proxy(tmp_path) as it, entrance(it) as (_, port), contextlib.AsyncExitStack() as stack:
        it.server.open_connections -= 150
        callers = [await stack.enter_async_context(wire(port)) for _ in range(150)]
        for caller in callers:
            await caller.send(request(b"GET", b"/nowhere"))
        assert {(await caller.answer()).status for caller in callers} == {404}
        it.server.open_connections += 150


async def test_a_closed_one_accepts_nobody_and_leaves_those_there_alone(tmp_path: Path) -> None:
    """The port is closed at once, also while it was paused, and whoever accepted."""
    async with proxy(tmp_path) as it, entrance(it) as (acceptor, port), contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(wire(port)) for _ in range(ROOM)]
        await eventually(lambda: "paused" in repr(acceptor))
        acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            await ask(port, request())
        await callers[0].send(request())
        assert (await callers[0].answer()).status == 200


@pytest.mark.parametrize("turns", range(5))
def test_one_that_is_closed_while_it_starts_accepts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """After any turn of asyncio's own loop: a server that has begun to serve is one that can be closed."""
    monkeypatch.setattr("proxy.worker.acceptor._AMPLE", 3)

    async def close_soon() -> None:
        async with proxy(tmp_path) as it, entrance(it) as (acceptor, port):
            for _ in range(turns):
                await asyncio.sleep(0)
            acceptor.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(close_soon())


async def test_handshakes_that_fail_give_their_room_back(tmp_path: Path) -> None:
    """Who does not speak TLS is not let in, takes nobody's place for long, and disturbs nothing."""
    authority = Authority(tmp_path)
    tls = server_context(authority.identity("proxy"))
    async with proxy(tmp_path) as it, entrance(it, tls=tls) as (acceptor, port):
        for _ in range(ROOM):
            async with wire(port) as caller:
                await caller.send(request())
                await caller.closed()
        await eventually(lambda: f"room for {ROOM}" in repr(acceptor))
        async with wire(port) as silent:
            await eventually(lambda: f"room for {ROOM - 1}" in repr(acceptor))
            silent.reset()
            await eventually(lambda: f"room for {ROOM}" in repr(acceptor))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=ssl.create_default_context(cafile=authority.own.file)
        )
        writer.write(request())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()
