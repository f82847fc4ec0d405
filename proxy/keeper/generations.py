"""Replaces one generation by another without interrupting callers."""

import asyncio
from collections.abc import Awaitable, Callable

from proxy.clock import Clock
from proxy.keeper.generation import Generation
from proxy.link.messages import ToWorker

# Time limit for new workers: they start in half a second, but the machine may be busy.
_READY_SECONDS = 20.0
_POLL_SECONDS = 0.02
_NOT_SERVED = "its workers did not start to serve; their messages are above"
# Grace time for workers beyond exchange_timeout, before they are killed.
KILL_AFTER_SECONDS = 5.0


class Generations:
    """The active generation and the older ones that still have requests in flight."""

    def __init__(self, first: Generation, *, clock: Clock) -> None:
        self.current = first
        self.alive = [first]
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop` was called and every generation has ended."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self.current.workers.admit()
            tasks.create_task(self._run_one(self.current), name=repr(self.current))
            await self._stopping.wait()

    async def succeed(self, new: Generation, *, hand_over: Callable[[], Awaitable[str]]) -> str:
        """Switch to *new* once it serves, then drain the current one; return the reason on failure, else "".

        *hand_over* is awaited when the new workers are ready, before they serve; it returns an objection, or "".
        """
        if self._tasks is None or self._stopping.is_set():
            await new.token_manager.close()
            await new.signatures.close()
            return _NOT_SERVED
        self.alive.append(new)
        life = self._tasks.create_task(self._run_one(new), name=repr(new))
        objection = _NOT_SERVED
        if await self._wait_for(new.workers.all_ready, life=life) and not (objection := await hand_over()):
            new.workers.admit()
            objection = "" if await self._wait_for(new.serves, life=life) else _NOT_SERVED
        if objection:
            new.workers.drain(grace=0, handed_over=True)
            new.workers.kill()
            return objection
        old, self.current = self.current, new
        self._tasks.create_task(self._drain(old), name=f"retire {old!r}")
        return ""

    def broadcast(self, message: ToWorker) -> list[str]:
        """Send *message* to every serving worker of all generations, and return their names."""
        return [worker for one in self.alive for worker in one.workers.broadcast(message)]

    def stop(self, *, grace: float, handed_over: bool) -> None:
        """Tell all workers to stop listening in *grace* seconds, finish what is in flight and exit.

        *handed_over*: the listening sockets stay open for the next instance.
        """
        self._stopping.set()
        for one in self.alive:
            one.workers.drain(grace=grace, handed_over=handed_over)

    def have_workers(self) -> bool:
        """Return whether a worker of any generation is running."""
        return any(one.workers.statuses() for one in self.alive)

    def kill(self) -> None:
        """Kill all workers."""
        for one in self.alive:
            one.workers.kill()

    def kill_worker(self, name: str) -> None:
        """Kill the worker *name*; it is replaced."""
        for one in self.alive:
            one.workers.kill_worker(name)

    async def _wait_for(self, what: Callable[[], bool], *, life: asyncio.Task[None]) -> bool:
        """Wait until *what* returns true; return False if *life* ends first or time runs out."""
        end = self._clock.monotonic() + _READY_SECONDS
        while not what():
            if life.done() or self._stopping.is_set() or self._clock.monotonic() > end:
                return False
            await self._clock.sleep(_POLL_SECONDS)
        return True

    async def _run_one(self, generation: Generation) -> None:
        try:
            await generation.run()
        except ExceptionGroup:
            # A generation that never served must not stop the active one.
            if generation is self.current:
                raise
        finally:
            self.alive.remove(generation)

    async def _drain(self, old: Generation) -> None:
        old.workers.drain(grace=0, handed_over=True)
        end = self._clock.monotonic() + old.snapshot.server.exchange_timeout + KILL_AFTER_SECONDS
        while old.workers.statuses():
            if self._clock.monotonic() > end:
                old.workers.kill()
                return
            await self._clock.sleep(_POLL_SECONDS)

    def __repr__(self) -> str:
        return f"<Generations {self.alive!r}>"
