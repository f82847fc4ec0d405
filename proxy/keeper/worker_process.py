"""One worker process: a new interpreter, linked to the keeper by a socket pair."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Sequence

from proxy.child_environment import child_environment
from proxy.clock import Clock
from proxy.keeper.heartbeat import Heartbeat
from proxy.link.channel import LIMIT
from proxy.link.codec import encode
from proxy.link.messages import Serve, ToWorker, WorkerReport
from proxy.link.request_counter import RequestCounter
from proxy.settings.worker_values import Snapshot
from proxy.telemetry.status import WorkerState

# glibc returns memory to the kernel on every large free; a higher trim threshold nearly doubles download speed. Setting
# any of these disables the adaptive mmap threshold, so that is set too: at its default of 128 KB every read buffer (256
# KB: uvloop's for TLS, asyncio's always) would be mapped and unmapped, at 15 to 30 us a request.
_LEAN = {
    "MALLOC_TRIM_THRESHOLD_": "33554432",
    "MALLOC_TOP_PAD_": "1048576",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
}
_MOST_PROBLEM = 500  # characters


class WorkerProcess:
    """One running worker; *name* is unique for each process start, *counter* counts its requests."""

    def __init__(
        self,
        index: int,
        *,
        name: str,
        process: asyncio.subprocess.Process,
        started: float,
        heartbeat: Heartbeat,
        counter: RequestCounter,
    ) -> None:
        self.index = index
        self.name = name
        self.process = process
        self.started = started
        self.heartbeat = heartbeat
        self.counter = counter
        self.state = WorkerState.STARTING
        self.ready = False
        self.unresponsive = False
        self.journal_problem = ""
        self.full = False
        self.in_flight = 0
        self.connections = 0
        self.late = 0
        self.late_seconds = 0.0
        self.late_route = ""
        self._writer: asyncio.StreamWriter | None = None

    def attach(self, writer: asyncio.StreamWriter) -> None:
        """Set *writer* as the link to the worker."""
        self._writer = writer

    def on_report(self, report: WorkerReport) -> None:
        """Store the worker's own state."""
        problem = report.journal_problem
        # Shown to people, so control characters from a worker are not accepted.
        self.journal_problem = problem[:_MOST_PROBLEM] if problem.isprintable() else "the journal can't be written"
        self.full = report.full
        # Limit the counts to a range that can be displayed.
        self.in_flight, self.connections, self.late = (
            min(max(count, 0), 10**9) for count in (report.in_flight, report.connections, report.late)
        )
        self.late_seconds = float(min(report.late_seconds, 10**9)) if report.late_seconds >= 0 else 0.0
        self.late_route = report.late_route[:_MOST_PROBLEM] if report.late_route.isprintable() else ""

    def send(self, message: ToWorker) -> None:
        """Send *message*; do nothing if the link is closed."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def drained(self) -> None:
        """Wait until the write buffer has drained; return at once if the worker is gone."""
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    def close(self) -> None:
        """Close the link and the counter."""
        self.counter.close()
        if self._writer is not None:
            self._writer.close()

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.name} pid {self.process.pid} {self.state}>"


async def start_worker(
    index: int, *, snapshot: Snapshot, workers: int, sockets: Sequence[int], clock: Clock
) -> tuple[WorkerProcess, asyncio.StreamReader]:
    """Start one of *workers* with the configuration *snapshot*; return it and the reader for its messages.

    *sockets* are the descriptors that it listens on. Raises OSError or RuntimeError if the process can't be started.
    """
    counter = RequestCounter()
    try:
        process, reader, writer = await _start_process(counter.descriptor, *sockets)
    except BaseException:
        counter.close()
        raise
    started = clock.now()
    name = f"w{index}-{process.pid}-{int(started * 1000):x}"
    heartbeat = Heartbeat(clock)
    worker = WorkerProcess(index, name=name, process=process, started=started, heartbeat=heartbeat, counter=counter)
    worker.attach(writer)
    worker.send(Serve(snapshot, name, workers, tuple(sockets), counter.descriptor))
    return worker, reader


async def _start_process(
    *descriptors: int,
) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """Start a process that inherits *descriptors*; return it, and the keeper's end of its link."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    try:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LIMIT)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-X",
                "no_debug_ranges",  # no columns in tracebacks: 0.25 MB
                "-m",
                "proxy.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                env=child_environment() | _LEAN,
            )
        except BaseException:
            writer.close()
            raise
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, reader, writer
