"""Starts and supervises the worker processes of one snapshot; replaces a worker that dies or hangs."""

import asyncio
from collections.abc import Callable, Iterable

from proxy.clock import Clock
from proxy.events import Observer, WorkerEnded, WorkerHangs, WorkerNotStarted, WorkerRecovered, WorkerStarted
from proxy.keeper.heartbeat import CHECK_SECONDS, DEAD_SECONDS, STARTED_SECONDS, UNREADY_SECONDS
from proxy.keeper.lost_journals import EndedWorker, LostJournals
from proxy.keeper.sockets import Sockets
from proxy.keeper.worker_process import WorkerProcess, start_worker
from proxy.link.channel import receive
from proxy.link.codec import MessageInvalid
from proxy.link.messages import Accept, Drain, Message, Ready, ToWorker
from proxy.settings.worker_values import Snapshot
from proxy.telemetry.status import WorkerState, WorkerStatus

_RESTART_SECONDS = (0.1, 5.0)
_STEADY_SECONDS = 10.0
_WRITTEN_SECONDS = 1.0

OnMessage = Callable[[WorkerProcess, Message], None]


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
        on_message: OnMessage,
        first_messages: Callable[[], Iterable[ToWorker]],
        journals: LostJournals,
        write_line: Callable[[str], None],
    ) -> None:
        self.number = number
        self._snapshot = snapshot
        self._sockets = sockets
        self._clock = clock
        self._observe = observe
        self._on_message = on_message
        self._first_messages = first_messages
        self._write_line = write_line
        self._journals = journals
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

        *handed_over*: other workers, or the next instance, listen on the same sockets, so these must stay open.
        """
        self._draining = grace
        self._admitted.set()
        self._handed_over = handed_over
        for worker in self._alive.values():
            self._send_drain(worker)

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

    def broadcast(self, message: ToWorker) -> list[str]:
        """Send *message* to every worker that serves, and return the names of these workers."""
        serving = [worker for worker in self._alive.values() if worker.state is not WorkerState.STARTING]
        for worker in serving:
            worker.send(message)
        return [worker.name for worker in serving]

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
                late=one.late,
                late_seconds=one.late_seconds,
                late_route=one.late_route,
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
            started_at = self._clock.monotonic()
            try:
                worker, reader = await start_worker(
                    index,
                    snapshot=self._snapshot,
                    workers=self.number,
                    sockets=self._sockets.descriptors(index),
                    clock=self._clock,
                )
            except (OSError, RuntimeError) as error:  # EMFILE, EAGAIN, ENOMEM or no thread
                delay = min(delay * 2, _RESTART_SECONDS[1])
                cause = getattr(error, "strerror", None) or str(error)
                self._observe(WorkerNotStarted(worker=index, cause=cause, retry_in=delay))
            else:
                await self._run_one(worker, reader)
                steady = self._clock.monotonic() - started_at > _STEADY_SECONDS
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

    def _on_heartbeat(self, worker: WorkerProcess) -> None:
        worker.heartbeat.received()
        if worker.unresponsive:
            worker.unresponsive = False
            self._observe(WorkerRecovered(worker=worker.index, pid=worker.process.pid))

    async def _run_one(self, worker: WorkerProcess, reader: asyncio.StreamReader) -> None:
        """Read messages from *worker* until it ends."""
        process = worker.process
        self._alive[worker.index] = worker
        self._journals.started(worker.name)
        self._observe(WorkerStarted(worker=worker.index, pid=process.pid))
        try:
            if self._draining is not None:
                self._send_drain(worker)
            await self._receive(worker, reader)
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            ended = self._end_of(worker)
            worker.close()
            del self._alive[worker.index]
        expected = self._draining is not None
        self._observe(
            WorkerEnded(worker=worker.index, pid=process.pid, exit_code=code, expected=expected, served=worker.ready)
        )
        await self._journals.ended(ended)

    def _end_of(self, worker: WorkerProcess) -> EndedWorker:
        """Return what is known of *worker*, which has just ended."""
        now, longest = self._clock.now(), self._snapshot.server.exchange_timeout
        # A request ends within exchange_timeout and is written at once, unless the disk is full or hangs.
        since = worker.started if worker.journal_problem else max(worker.started, now - longest - _WRITTEN_SECONDS)
        return EndedWorker(worker.name, worker.counter.count(), since, now)

    async def _receive(self, worker: WorkerProcess, reader: asyncio.StreamReader) -> None:
        """Handle messages until the link closes; kill a worker that sends no JSON arrays, so that it is replaced."""
        while True:
            try:
                message = await receive(reader)
            except MessageInvalid as error:
                self._on_heartbeat(worker)
                self._write_line(f"worker {worker.index} sent {error}; it is ignored")
                continue
            except ValueError:
                worker.process.kill()
                return
            if message is None:
                return
            self._on_heartbeat(worker)
            if isinstance(message, Ready):
                await self._let_serve(worker)
            else:
                self._on_message(worker, message)

    async def _let_serve(self, worker: WorkerProcess) -> None:
        worker.ready = True
        await self._admitted.wait()
        if self._draining is None:
            self._sockets.open(worker.index)
        worker.state = WorkerState.SERVING if self._draining is None else WorkerState.DRAINING
        for message in self._first_messages():
            worker.send(message)
            await worker.drained()  # waits per message: two million retry pins would be 160 MB at once
        worker.send(Accept())

    def _send_drain(self, worker: WorkerProcess) -> None:
        worker.state = WorkerState.DRAINING
        worker.send(Drain(self._draining or 0.0, self._handed_over))

    def __repr__(self) -> str:
        return f"<Workers {len(self._alive)} of {self.number}>"
