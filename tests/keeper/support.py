"""An admin listener of a pretended keeper, and a client that sends exactly the bytes it is given."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from proxy.clock import SystemClock
from proxy.keeper.admin import AdminApp
from proxy.keeper.admin_server import AdminServer
from proxy.keeper.heartbeat import Heartbeat
from proxy.keeper.lost_journals import EndedWorker, LostJournals
from proxy.keeper.worker_process import WorkerProcess
from proxy.link.request_counter import RequestCounter
from proxy.settings.addresses import TcpAddress, UnixAddress
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status
from tests.telemetry.support import status

CLOCK = SystemClock()
LOOPBACK = TcpAddress(host="127.0.0.1", port=0)


class _NoJournals:
    def started(self, worker: str) -> None:
        """Count nothing."""

    async def ended(self, worker: EndedWorker) -> None:
        """Read nothing."""


def no_journals() -> LostJournals:
    """Return what reads no journal of a worker that has ended."""
    return cast("LostJournals", _NoJournals())


def worker_of(process: asyncio.subprocess.Process) -> WorkerProcess:
    """Return *process* as the keeper knows a worker."""
    heartbeat, counter = Heartbeat(CLOCK), RequestCounter()
    return WorkerProcess(0, name="w", process=process, started=0.0, heartbeat=heartbeat, counter=counter)


@dataclass(kw_only=True)
class Keeper:
    """What an admin listener needs of a keeper; tests change *status*."""

    status: Status = field(default_factory=status)
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(status=lambda: self.status)

    def server(
        self,
        directory: Path,
        *,
        listen: TcpAddress | UnixAddress | None = LOOPBACK,
        hosts: Collection[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> AdminServer:
        """Return its admin server, not open yet."""
        application = AdminApp(status=lambda: self.status, metrics=self.metrics, hosts=hosts).application()
        return AdminServer(application, directory=directory, listen=listen, tls=tls)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body parsed."""
        return json.loads(self.body)


@asynccontextmanager
async def connection(
    place: tuple[str, int] | Path, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a host and port or a Unix socket's path."""
    if isinstance(place, Path):
        reader, writer = await asyncio.open_unix_connection(str(place))
    else:
        reader, writer = await asyncio.open_connection(*place, ssl=tls, server_hostname="localhost" if tls else None)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):  # the server may have closed it with bytes unread, which is a reset
            await writer.wait_closed()


async def send(place: tuple[str, int] | Path, request: bytes, *, tls: ssl.SSLContext | None = None) -> Answer:
    """Send *request* and read the one answer until the connection closes, at most 5 s."""
    async with asyncio.timeout(60), connection(place, tls=tls) as (reader, writer):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in pairs}
        # An answer to HEAD has a length and no body.
        length = 0 if request.startswith(b"HEAD ") else int(headers.get("content-length", "0"))
        body = await reader.readexactly(length)
    return Answer(status=int(first.split()[1]), headers=headers, body=body)


def names(directory: Path) -> list[str]:
    """Return the names of what is in *directory*."""
    return sorted(path.name for path in directory.iterdir())


async def get(
    place: tuple[str, int] | Path, path: str, *headers: str, method: str = "GET", tls: ssl.SSLContext | None = None
) -> Answer:
    """Send a well-formed request with Host localhost unless *headers* has another."""
    lines = [f"{method} {path} HTTP/1.1", *headers, "Connection: close"]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.insert(1, "Host: localhost")
    return await send(place, ("\r\n".join(lines) + "\r\n\r\n").encode(), tls=tls)
