"""Callers in large numbers, made of plain sockets; and the calm one beside them, whose waiting is measured."""

import asyncio
import contextlib
import resource
import socket
import statistics
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.journeys.caller import Address, Connection, Request, connected

_ANSWER_SECONDS = 30.0
_RESET = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def soft_limit(soft: int) -> Iterator[None]:
    """Let this process, and what it starts, have *soft* descriptors; skips where even root's limit is lower."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < soft:
        pytest.skip(f"the hard limit of open files is {before[1]}, {soft} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def came(address: Address, *, receive_buffer: int = 0) -> socket.socket:
    """Return a connection that waits *_ANSWER_SECONDS* at most for anything."""
    one = socket.socket()
    one.settimeout(_ANSWER_SECONDS)
    if receive_buffer:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        one.connect(address)
    except BaseException:
        one.close()
        raise
    return one


def asked(one: socket.socket, request: Request) -> bytes:
    """Send *request* and return its answer, which must have a Content-Length."""
    one.sendall(request.encode("localhost"))
    return answered(one)


def answered(one: socket.socket) -> bytes:
    """Return the next answer; b"" if the connection ends without one."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = one.recv(65536)
        if not piece:
            return b""
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(lines[b"content-length"])
    while len(body) < length:
        body += one.recv(length - len(body))
    return head + b"\r\n\r\n" + body


def reset(one: socket.socket) -> None:
    """End a connection with RST, which leaves no TIME_WAIT behind."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    one.close()


class Calm:
    """A caller that asks again and again on one connection, and how long each answer took, in seconds."""

    def __init__(self, request: Request) -> None:
        self.took: list[float] = []
        self.statuses: set[int] = set()
        self._request = request

    @property
    def p50(self) -> float:
        """Return the median wait."""
        return statistics.median(self.took)

    async def ask_on(self, connection: Connection, *, gap: float) -> None:
        """Ask without end, *gap* seconds after each answer."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self.statuses.add((await connection.ask(self._request)).status)
            self.took.append(loop.time() - started)
            await asyncio.sleep(gap)


@asynccontextmanager
async def calm(address: Address, request: Request | None = None, *, gap: float = 0.01) -> AsyncIterator[Calm]:
    """Have a calm caller ask for the block, on a connection that stands before it begins."""
    one = Calm(request or Request())
    async with connected(address) as connection:
        task = asyncio.create_task(one.ask_on(connection, gap=gap))
        try:
            yield one
        finally:
            task.cancel()
            done, _ = await asyncio.wait((task,))
        for each in done:
            if not each.cancelled():
                each.result()
