"""The worker as the process that it is, with this test at the other end of its link."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from proxy.link.codec import decode, encode
from proxy.link.messages import Accept, Acknowledged, Message, NewPins, Ready, Serve
from proxy.migration.pin import RetryPin
from proxy.migration.side import Side
from tests.worker.values import snapshot

_SOON = 60.0
Kind = TypeVar("Kind")


@dataclass(kw_only=True)
class Linked:
    """A worker that was told to serve on *port*, and its link."""

    port: int
    stderr: Path
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: Message) -> None:
        """Send *message* as its keeper would."""
        self.writer.write(encode(message))

    async def next(self, kind: type[Kind]) -> Kind:
        """Return the next message of that kind."""
        async with asyncio.timeout(_SOON):
            while True:
                message = decode(await self.reader.readline())
                if isinstance(message, kind):
                    return message


@pytest.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Linked]:
    """Start a worker and tell it to serve."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    said = tmp_path / "stderr"
    with socket.create_server(("127.0.0.1", 0)) as door, said.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy.worker", str(theirs.fileno()),
            pass_fds=(theirs.fileno(), door.fileno()), stdin=asyncio.subprocess.DEVNULL,
            stderr=stderr, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        worker = Linked(port=door.getsockname()[1], stderr=said, process=process, reader=reader, writer=writer)
        worker.send(Serve(snapshot(tmp_path, 1), "w0-1-1", 1, (door.fileno(),)))
        yield worker
        writer.close()
        async with asyncio.timeout(_SOON):
            await process.wait()


async def _answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_nobody_is_served_before_the_greeting_is_over(linked: Linked) -> None:
    """A worker that does not know the weights and pins yet must not choose a side."""
    await linked.next(Ready)
    asking = asyncio.create_task(_answer(linked.port))
    # It answers its keeper, so it runs, and could have answered the caller too.
    for serial in range(1, 20):
        linked.send(NewPins({}, serial))
        await linked.next(Acknowledged)
    assert not asking.done()

    linked.send(Accept())

    async with asyncio.timeout(_SOON):
        assert (await asking).startswith(b"HTTP/1.1 404")


async def test_pins_are_answered_for(linked: Linked) -> None:
    """By the serial of their message, at once; those of the greeting have none."""
    await linked.next(Ready)
    pins = {f"{1:016x}": RetryPin(Side.MODERN, "bank", 4e9)}
    linked.send(NewPins(pins))
    linked.send(NewPins(pins, 7))

    assert (await linked.next(Acknowledged)).serial == 7


async def test_without_a_keeper_it_serves_nobody(linked: Linked) -> None:
    """A keeper that dies before the greeting leaves no worker behind."""
    await linked.next(Ready)

    linked.writer.close()

    async with asyncio.timeout(_SOON):
        assert await linked.process.wait() == 0


@pytest.mark.parametrize("serves", [False, True])
async def test_a_keeper_of_another_version_is_one_line_in_words(linked: Linked, *, serves: bool) -> None:
    """The package was replaced under a running instance: what it says can't be read, so it may not serve."""
    await linked.next(Ready)
    if serves:
        linked.send(Accept())

    linked.writer.write(b'["Accept","with a field of tomorrow"]\n')

    async with asyncio.timeout(_SOON):
        assert await linked.process.wait() == 1
    assert linked.stderr.read_text() == (
        "payproxy: a worker ends, because its keeper sent a malformed Accept. The package was replaced while this "
        "instance ran: restart payproxy\n"
    )
