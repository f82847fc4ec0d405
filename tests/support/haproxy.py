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

# Nothing is sent a second time: neither after a lost connection (retries 0) nor to another server (no redispatch).
# Without "timeout check" a replica on a busy machine would be down that takes longer for /readyz than "inter".
_CONFIGURATION = """\
global
    log stdout format raw local0
    stats socket {directory}/haproxy.sock mode 600 level user

defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    retries 0
    no option redispatch
    timeout connect 5s
    timeout check 10s
    timeout client 125s
    timeout server 205s

frontend callers
    bind 127.0.0.1:{port}
    default_backend payproxy

backend payproxy
    balance roundrobin
    option httpchk GET /readyz
    default-server check inter 200ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down
"""


class HAProxy:
    """One HAProxy in front of *servers*: by name the port for callers and the admin port, whose /readyz it asks."""

    def __init__(self, directory: Path, servers: Mapping[str, tuple[int, int]]) -> None:
        self.port = lasting_port()
        self.log = directory / "haproxy.log"
        self._socket = directory / "haproxy.sock"
        self._configuration = directory / "haproxy.cfg"
        lines = [f"    server {name} 127.0.0.1:{traffic} port {admin}\n" for name, (traffic, admin) in servers.items()]
        self._configuration.write_text(_CONFIGURATION.format(directory=directory, port=self.port) + "".join(lines))

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
        return {name: row for name, row in rows.items() if name != "BACKEND"}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["HAProxy"]:
        """Run it for the block, once it answers."""
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if program is None:
            pytest.skip("haproxy is not installed")
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program, "-db", "-f", str(self._configuration), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
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
