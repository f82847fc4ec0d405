"""A real HAProxy on loopback that spreads requests over replicas, as docs/operations.md recommends it for payments."""

import asyncio
import contextlib
import csv
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.ports import lasting_port

_SOON_SECONDS = 60.0

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "compose" / "haproxy.cfg"
# Beside it, so that a test can ask for states.
_SOCKET = "global\n  stats socket {} mode 600 level user\n"


class HAProxy:
    """One HAProxy in front of *servers*: by name the port for callers and the admin port, whose /readyz it asks.

    *variables* are those by which *configuration* gets the addresses.
    """

    def __init__(
        self, directory: Path, servers: Mapping[str, tuple[int, int]], *, configuration: Path = CONFIGURATION
    ) -> None:
        self.port = lasting_port()
        self.log = directory / "haproxy.log"
        self._configuration = configuration
        self._socket = directory / "haproxy.sock"
        self._names = {f"payproxy-{number}": name for number, name in enumerate(servers, 1)}
        self._asked = directory / "haproxy-socket.cfg"
        self._asked.write_text(_SOCKET.format(self._socket))
        self.variables = {"LISTEN": f"127.0.0.1:{self.port}"}
        for number, (traffic, admin) in enumerate(servers.values(), 1):
            self.variables[f"PAYPROXY_{number}"] = f"127.0.0.1:{traffic}"
            self.variables[f"PAYPROXY_{number}_ADMIN_PORT"] = str(admin)

    async def up(self) -> set[str]:
        """Return the names of the servers that get requests."""
        return {name for name, row in (await self._servers()).items() if row["status"].startswith("UP")}

    async def in_flight(self, name: str) -> int:
        """Return how many requests the server *name* has now."""
        return int((await self._servers())[name]["scur"])

    async def _servers(self) -> dict[str, dict[str, str]]:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(b"show stat\n")
            text = (await reader.read()).decode().removeprefix("# ")
        finally:
            writer.close()
        rows = {row["svname"]: row for row in csv.DictReader(text.splitlines()) if row["pxname"] == "payproxy"}
        return {name: rows[server] for server, name in self._names.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["HAProxy"]:
        """Run it for the block, once it answers."""
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if program is None:
            pytest.skip("haproxy is not installed")
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program, "-db", "-f", str(self._configuration), "-f", str(self._asked),
                env=self.variables, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            async with asyncio.timeout(_SOON_SECONDS):
                while not await self._answers():
                    assert process.returncode is None, self.log.read_text()
                    await asyncio.sleep(0.02)
            yield self
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            await self.up()
            return True
        return False
