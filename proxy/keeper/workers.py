"""Starts and supervises the worker processes of one snapshot; replaces a worker that dies or hangs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from proxy.clock import Clock
from proxy.events import Observer, WorkerEnded, WorkerHangs, WorkerNotStarted, WorkerRecovered, WorkerStarted
from proxy.keeper.heartbeat import CHECK_SECONDS, DEAD_SECONDS, STARTED_SECONDS, UNREADY_SECONDS
from proxy.keeper.sockets import Sockets
from proxy.keeper.worker_process import WorkerProcess, next_message, start_worker
from proxy.settings.worker_values import Snapshot, encode
from proxy.telemetry.status import WorkerState, WorkerStatus

_RESTART_SECONDS = (0.1, 5.0)
_STEADY_SECONDS = 10.0

Hear = Callable[[WorkerProcess, dict[str, Any]], None]


class Workers:
    """Keeps one worker process running per set of sockets, all with the same snapshot."""

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
        self._admitted = asyncio.Event()
        self._draining: float | None = None
        self._handed_over = False

    async def run(self) -> None:
        """Run the workers until they have drained and ended."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(), name="heartbeats")
            async with asyncio.TaskGroup() as keeping:
                for index in range(self.number):
                    keeping.create_task(self._keep(index), name=f"worker {index}")
            watching.cancel()

    def all_ready(self) -> bool:
        """Return whether every worker has reported ready."""
        return sum(worker.ready for worker in self._alive.values()) == self.number

    def admit(self) -> None:
        """Let ready workers, and all later ones, accept callers' connections."""
        self._admitted.set()

    def drain(self, *, grace: float, handed_over: bool = False) -> None:
        """Tell all workers to stop listening in *grace* seconds, finish what is in flight and exit.

        *handed_over*: other workers listen on the same sockets, so these must stay open.
        """
        self._draining = grace
        self._admitted.set()
        self._handed_over = handed_over
        for worker in self._alive.values():
            self._tell_to_drain(worker)

    def kill(self) -> None:
        """Kill all workers."""
        for worker in self._alive.values():
            if worker.process.returncode is None:
                worker.process.kill()

    def kill_worker(self, name: str) -> None:
        """Kill the worker *name* if it belongs to this set."""
        for worker in self._alive.values():
            if worker.name == name and worker.process.returncode is None:
                worker.process.kill()

    def broadcast(self, message: dict[str, Any]) -> list[str]:
        """Send *message* to every worker that serves, and return the names of these workers."""
        told = [worker for worker in self._alive.values() if worker.state is not WorkerState.STARTING]
        for worker in told:
            worker.send(message)
        return [worker.name for worker in told]

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """Return the status of each living worker."""
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
    def journal_problem(self) -> str:
        """Return why a worker can't write its journal, "" if none has reported a problem."""
        problems = (worker.journal_problem for worker in self._alive.values() if worker.journal_problem)
        return next((f"a worker's journal can't be written: {problem}" for problem in problems), "")

    async def _keep(self, index: int) -> None:
        delay = _RESTART_SECONDS[0]
        while self._draining is None:
            began = self._clock.monotonic()
            try:
                worker, reader = await start_worker(
                    index,
                    order={"snapshot": self._snapshot, "workers": self.number},
                    sockets=self._sockets.descriptors(index),
                    clock=self._clock,
                )
            except (OSError, RuntimeError) as error:  # EMFILE, EAGAIN, ENOMEM or no thread
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
        """Check the heartbeats of all workers periodically."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            for worker in self._alive.values():
                self._check(worker)

    def _check(self, worker: WorkerProcess) -> None:
        """Mark a worker without heartbeat as not ready; kill it if that lasts, so that it is replaced."""
        seconds, starting = worker.heartbeat.check(), worker.state is WorkerState.STARTING
        dead = seconds >= (STARTED_SECONDS if starting else DEAD_SECONDS)
        if not dead and (starting or worker.unresponsive or seconds < UNREADY_SECONDS):
            return
        if worker.process.returncode is not None:
            return  # it has ended; its last messages are still being read
        worker.unresponsive = True
        self._observe(WorkerHangs(worker=worker.index, pid=worker.process.pid, seconds=seconds, killed=dead))
        if dead:
            worker.heartbeat.received()  # restart the count, to report once unless the kill has no effect
            worker.process.kill()

    def _heard(self, worker: WorkerProcess) -> None:
        worker.heartbeat.received()
        if worker.unresponsive:
            worker.unresponsive = False
            self._observe(WorkerRecovered(worker=worker.index, pid=worker.process.pid))

    async def _live(self, worker: WorkerProcess, reader: asyncio.StreamReader) -> None:
        """Read messages from *worker* until it ends."""
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
        """Handle messages until the link closes; kill a worker that sends invalid messages, so that it is replaced."""
        while True:
            try:
                message = await next_message(reader)
            except ValueError:
                worker.process.kill()
                return
            if message is None:
                return
            self._heard(worker)
            if message["type"] == "ready":
                worker.ready = True
                await self._admitted.wait()
                if self._draining is None:
                    self._sockets.open(worker.index)
                worker.state = WorkerState.SERVING if self._draining is None else WorkerState.DRAINING
                for greeting in self._greetings():
                    worker.send(greeting)
                    await worker.taken()  # waits per message: two million retry pins would be 160 MB at once
                # The worker accepts callers only after this message, when it knows which requests belong to which side.
                worker.send({"type": "greeted"})
            else:
                self._hear(worker, message)

    def _tell_to_drain(self, worker: WorkerProcess) -> None:
        worker.state = WorkerState.DRAINING
        worker.send({"type": "drain", "grace": self._draining, "handed_over": self._handed_over})

    def __repr__(self) -> str:
        return f"<Workers {len(self._alive)} of {self.number}>"
