"""The worker processes: fresh interpreters, each with a socket pair to the keeper; one that dies is replaced."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.events import Observer, WorkerEnded, WorkerHangs, WorkerNotStarted, WorkerStarted
from proxy.keeper.silence import DEAD_SECONDS, LOOK_SECONDS, STARTED_SECONDS, UNREADY_SECONDS, Silence
from proxy.keeper.sockets import Sockets
from proxy.settings.snapshot import Snapshot, encode
from proxy.telemetry.status import WorkerState, WorkerStatus

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
_RESTART_SECONDS = (0.1, 5.0)
_STEADY_SECONDS = 10.0
_LINK_LIMIT = 1048576

Hear = Callable[["WorkerProcess", dict[str, Any]], None]


class WorkerProcess:
    """One living worker; *name* is unique for each process start."""

    def __init__(
        self, index: int, *, name: str, process: asyncio.subprocess.Process, started: float, silence: Silence
    ) -> None:
        self.index = index
        self.name = name
        self.process = process
        self.started = started
        self.silence = silence
        self.state = WorkerState.STARTING
        self.unresponsive = False
        self.journal_usable = True
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
        self.journal_usable, self.full = bool(message["journal_usable"]), bool(message["full"])
        # A number of a worker's must be one that can be shown.
        self.in_flight, self.connections = (min(max(int(count), 0), 10**9) for count in counts)

    def send(self, message: dict[str, Any]) -> None:
        """Send *message*; a worker that is gone hears nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """End the link."""
        if self._writer is not None:
            self._writer.close()

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.name} pid {self.process.pid} {self.state}>"


class Workers:
    """Keeps as many workers alive as there are sets of sockets, all with one snapshot."""

    def __init__(
        self,
        number: int,
        *,
        snapshot: Snapshot,
        sockets: Sockets,
        clock: Clock,
        observe: Observer,
        hear: Hear,
        greetings: Callable[[], Iterable[dict[str, Any]]],
        ended: Callable[[str], Awaitable[None]],
    ) -> None:
        self.number = number
        self._snapshot = encode(snapshot).decode()
        self._sockets = sockets
        self._clock = clock
        self._observe = observe
        self._hear = hear
        self._greetings = greetings
        self._ended = ended
        self._alive: dict[int, WorkerProcess] = {}
        self._draining: float | None = None
        self._handed_over = False

    async def run(self) -> None:
        """Keep the workers until they were told to drain and have ended."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(), name="heartbeats")
            async with asyncio.TaskGroup() as keeping:
                for index in range(self.number):
                    keeping.create_task(self._keep(index), name=f"worker {index}")
            watching.cancel()

    def drain(self, *, grace: float, handed_over: bool = False) -> None:
        """Tell all workers to stop listening in *grace* seconds, end what is in flight and leave.

        *handed_over*: other workers listen on the same sockets, which must stay open for them.
        """
        self._draining = grace
        self._handed_over = handed_over
        for worker in self._alive.values():
            self._tell_to_drain(worker)

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self._alive.values():
            if worker.process.returncode is None:
                worker.process.kill()

    def broadcast(self, message: dict[str, Any]) -> list[str]:
        """Send *message* to every worker that serves, and return their names."""
        told = [worker for worker in self._alive.values() if worker.state is not WorkerState.STARTING]
        for worker in told:
            worker.send(message)
        return [worker.name for worker in told]

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """Return the living workers as people see them."""
        return tuple(
            WorkerStatus(
                worker=one.index,
                pid=one.process.pid,
                state=WorkerState.UNRESPONSIVE if one.unresponsive else one.state,
                started=one.started,
                full=one.full,
                in_flight=one.in_flight,
                connections=one.connections,
            )
            for one in self._alive.values()
        )

    @property
    def journals_usable(self) -> bool:
        """Return whether every worker can write its journal, as far as it said."""
        return all(worker.journal_usable for worker in self._alive.values())

    async def _keep(self, index: int) -> None:
        delay = _RESTART_SECONDS[0]
        while self._draining is None:
            began = self._clock.monotonic()
            try:
                worker, reader = await self._start(index)
            except (OSError, RuntimeError) as error:  # no descriptor, process, thread or memory is left for it
                delay = min(delay * 2, _RESTART_SECONDS[1])
                cause = getattr(error, "strerror", None) or str(error)
                self._observe(WorkerNotStarted(worker=index, cause=cause, retry_in=delay))
            else:
                await self._live(worker, reader)
                steady = self._clock.monotonic() - began > _STEADY_SECONDS
                delay = _RESTART_SECONDS[0] if steady else min(delay * 2, _RESTART_SECONDS[1])
            if self._draining is None:
                await self._clock.sleep(delay)

    async def _watch(self) -> None:
        """Count who is not heard as not ready, and kill who is not heard for long: it is replaced as a dead one is."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            for worker in self._alive.values():
                silent = worker.silence.look()
                starting = worker.state is WorkerState.STARTING
                if silent >= (STARTED_SECONDS if starting else DEAD_SECONDS) and worker.process.returncode is None:
                    self._observe(WorkerHangs(worker=worker.index, pid=worker.process.pid, seconds=silent, killed=True))
                    worker.silence.heard()  # said once
                    worker.process.kill()
                elif silent >= UNREADY_SECONDS and not starting and not worker.unresponsive:
                    worker.unresponsive = True
                    self._observe(
                        WorkerHangs(worker=worker.index, pid=worker.process.pid, seconds=silent, killed=False)
                    )

    async def _start(self, index: int) -> tuple[WorkerProcess, asyncio.StreamReader]:
        """Start a worker and return it with what it says; raises OSError or RuntimeError if it can't be done now."""
        sockets = self._sockets.descriptors(index)
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
        started = self._clock.now()
        name = f"w{index}-{process.pid}-{int(started * 1000):x}"
        worker = WorkerProcess(index, name=name, process=process, started=started, silence=Silence(self._clock))
        worker.attach(writer)
        worker.send(
            {"type": "serve", "snapshot": self._snapshot, "worker": name, "workers": self.number, "sockets": sockets}
        )
        return worker, reader

    async def _live(self, worker: WorkerProcess, reader: asyncio.StreamReader) -> None:
        """Listen to *worker* until it ends."""
        process = worker.process
        self._alive[worker.index] = worker
        self._observe(WorkerStarted(worker=worker.index, pid=process.pid))
        try:
            if self._draining is not None:
                self._tell_to_drain(worker)
            await self._listen(worker, reader)
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            worker.close()
            del self._alive[worker.index]
        expected = self._draining is not None
        self._observe(WorkerEnded(worker=worker.index, pid=process.pid, exit_code=code, expected=expected))
        await self._ended(worker.name)

    async def _listen(self, worker: WorkerProcess, reader: asyncio.StreamReader) -> None:
        """Hear *worker* until it is gone; one whose words can't be told apart is ended, and replaced as a dead one."""
        while True:
            try:
                message = await _message(reader)
            except ValueError:
                worker.process.kill()
                return
            if message is None:
                return
            worker.silence.heard()
            worker.unresponsive = False
            if message["type"] == "ready":
                if self._draining is None:
                    self._sockets.open(worker.index)
                worker.state = WorkerState.SERVING if self._draining is None else WorkerState.DRAINING
                for greeting in self._greetings():
                    worker.send(greeting)
                # It takes callers from here on: not before it knows which requests belong to which side.
                worker.send({"type": "greeted"})
            else:
                self._hear(worker, message)

    def _tell_to_drain(self, worker: WorkerProcess) -> None:
        worker.state = WorkerState.DRAINING
        worker.send({"type": "drain", "grace": self._draining, "handed_over": self._handed_over})

    def __repr__(self) -> str:
        return f"<Workers {len(self._alive)} of {self.number}>"


async def _message(reader: asyncio.StreamReader) -> dict[str, Any] | None:
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
