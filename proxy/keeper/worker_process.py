"""One worker process: a fresh interpreter with a socket pair to the keeper, lines of JSON in both directions."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.keeper.heartbeat import Heartbeat
from proxy.telemetry.status import WorkerState

# What a worker may inherit: nothing in which a secret could stand.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG")
# glibc gives memory back on every large free; kept a little longer, downloads run at nearly twice the speed. Naming one
# of these turns off the mmap threshold that adapts itself, so that is named too: at its start of 128 KB the buffer of
# every read (256 KB: uvloop's of TLS, asyncio's of everything) would be mapped and unmapped, for 15 to 30 us a request.
_LEAN = {
    "MALLOC_TRIM_THRESHOLD_": "33554432",
    "MALLOC_TOP_PAD_": "1048576",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    # aiohttp's lists of callbacks in Python: in C they bring libstdc++ along, 1.1 MB, and no request touches one.
    "FROZENLIST_NO_EXTENSIONS": "1",
}
_LINK_LIMIT = 1048576
_MOST_PROBLEM = 500  # characters


class WorkerProcess:
    """One living worker; *name* is unique for each process start."""

    def __init__(
        self, index: int, *, name: str, process: asyncio.subprocess.Process, started: float, heartbeat: Heartbeat
    ) -> None:
        self.index = index
        self.name = name
        self.process = process
        self.started = started
        self.heartbeat = heartbeat
        self.state = WorkerState.STARTING
        self.ready = False
        self.unresponsive = False
        self.journal_problem = ""
        self.full = False
        self.in_flight = 0
        self.connections = 0
        self._writer: asyncio.StreamWriter | None = None

    def attach(self, writer: asyncio.StreamWriter) -> None:
        """Take *writer* as the way to the worker."""
        self._writer = writer

    def take(self, message: dict[str, Any]) -> None:
        """Keep what it says of itself with its counters; raises KeyError or TypeError."""
        counts = message["in_flight"], message["connections"]
        if not all(isinstance(count, int) for count in counts):
            raise TypeError("a worker counts in whole numbers")
        problem = str(message["journal_problem"])
        # People are shown it: no lines of a worker's own making.
        self.journal_problem = problem[:_MOST_PROBLEM] if problem.isprintable() else "the journal can't be written"
        self.full = bool(message["full"])
        # A number of a worker's must be one that can be shown.
        self.in_flight, self.connections = (min(max(int(count), 0), 10**9) for count in counts)

    def send(self, message: dict[str, Any]) -> None:
        """Send *message*; a worker that is gone hears nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def taken(self) -> None:
        """Wait until the worker has taken most of what was sent; one that is gone takes nothing."""
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def close(self) -> None:
        """End the link."""
        if self._writer is not None:
            self._writer.close()

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.name} pid {self.process.pid} {self.state}>"


async def start_worker(
    index: int, *, order: dict[str, Any], sockets: Sequence[int], clock: Clock
) -> tuple[WorkerProcess, asyncio.StreamReader]:
    """Start a worker that does as *order* says and return it with what it sends.

    *sockets* are the descriptors that it listens on. Raises OSError or RuntimeError if it can't be started now.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    try:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINK_LIMIT)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "proxy.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *sockets),
                env=_environment(),
            )
        except BaseException:
            writer.close()
            raise
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    started = clock.now()
    name = f"w{index}-{process.pid}-{int(started * 1000):x}"
    worker = WorkerProcess(index, name=name, process=process, started=started, heartbeat=Heartbeat(clock))
    worker.attach(writer)
    worker.send({"type": "serve", **order, "worker": name, "sockets": list(sockets)})
    return worker, reader


async def next_message(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message, None when the worker is gone; raises ValueError for what is none."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return None
    # A worker that was killed may have said half of it.
    if not line.endswith(b"\n"):
        return None
    message = json.loads(line)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("a message is an object with a type")  # noqa: TRY004 - of a peer's data, not of ours
    return message


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # The package is found by its place, whatever the working directory and whether or not it is installed.
    return kept | _LEAN | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}
