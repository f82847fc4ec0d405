import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.worker.graceful_close import LAST_HANDSHAKES_SECONDS, close_gracefully
from tests.support.clock import ManualClock

CALLERS = 50


def _listener(kind: str, directory: Path) -> tuple[socket.socket, Any]:
    if kind == "unix":
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: Any = str(directory / "s")
    else:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        address = ("127.0.0.1", 0)
    one.bind(address)
    one.listen(128)
    return one, one.getsockname()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_who_stands_in_the_queue_is_served(tmp_path: Path, kind: str) -> None:
    """Connections that the kernel has accepted and nobody has taken yet are answered, not reset."""
    listener, address = _listener(kind, tmp_path)
    callers = []
    for _ in range(CALLERS):
        caller = socket.socket(listener.family, socket.SOCK_STREAM)
        caller.connect(address)
        caller.sendall(b"hello")
        caller.settimeout(0)
        callers.append(caller)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()

    start = asyncio.start_unix_server if kind == "unix" else asyncio.start_server
    acceptor = await start(echo, sock=listener)
    await close_gracefully([acceptor], [listener], clock=SystemClock())

    loop = asyncio.get_running_loop()
    for caller in callers:
        async with asyncio.timeout(60):
            assert await loop.sock_recv(caller, 5) == b"hello"
        caller.close()
    # From Python 3.13 on asyncio also removes a Unix socket of its own from the disk.
    gone = pytest.raises(OSError, match=r"refused|No such file")
    with socket.socket(listener.family, socket.SOCK_STREAM) as late, gone:
        late.connect(address)


async def test_nobody_gets_into_the_queue_meanwhile(tmp_path: Path) -> None:
    """Who knocks while the door closes hears nothing, and is refused on the next knock: nothing of it is lost."""
    listener, address = _listener("tcp", tmp_path)
    accepted: list[asyncio.StreamWriter] = []
    acceptor = await asyncio.start_server(lambda _, writer: accepted.append(writer), sock=listener)
    loop = asyncio.get_running_loop()
    closing = asyncio.create_task(close_gracefully([acceptor], [listener], clock=SystemClock()))
    await asyncio.sleep(0)
    with socket.socket() as late:
        late.settimeout(0)
        with pytest.raises(ConnectionRefusedError):
            async with asyncio.timeout(60):
                await loop.sock_connect(late, address)
    await closing

    assert accepted == []


async def test_a_socket_that_never_listened_is_not_waited_for() -> None:
    """As of an instance that is stopped while it starts: it reports a hang-up for ever, and nobody stands there."""
    with socket.socket() as never:
        never.bind(("127.0.0.1", 0))
        clock = ManualClock()
        closing = asyncio.create_task(close_gracefully([], [never], clock=clock))
        await clock.advance(2 * LAST_HANDSHAKES_SECONDS)

        assert closing.done()
