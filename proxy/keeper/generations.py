"""How one generation takes over from another without a caller noticing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.clock import Clock
from proxy.keeper.generation import Generation

# New workers start in half a second; on a machine that is short of time they get this long.
_READY_SECONDS = 20.0
_POLL_SECONDS = 0.02
_NOT_SERVED = "its workers did not come to serve; what they said of it stands above"
# What workers get beyond exchange_timeout before they are killed.
KILL_AFTER_SECONDS = 5.0


class Generations:
    """The generation in force and those that end what they have in flight."""

    def __init__(self, first: Generation, *, clock: Clock) -> None:
        self.current = first
        self.living = [first]
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Live until `stop` was called and every generation has ended."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self.current.workers.admit()
            tasks.create_task(self._live(self.current), name=repr(self.current))
            await self._stopping.wait()

    async def succeed(self, new: Generation, *, hand_over: Callable[[], Awaitable[str]]) -> str:
        """Let *new* take over once it serves, and the current one drain; return why it did not, "" if it did.

        *hand_over* is awaited when the new workers are ready, before they serve anyone; it returns an objection, or "".
        """
        if self._tasks is None or self._stopping.is_set():
            await new.mints.close()
            return _NOT_SERVED
        self.living.append(new)
        life = self._tasks.create_task(self._live(new), name=repr(new))
        objection = _NOT_SERVED
        if await self._comes(new.workers.all_ready, life=life) and not (objection := await hand_over()):
            new.workers.admit()
            objection = "" if await self._comes(new.serves, life=life) else _NOT_SERVED
        if objection:
            new.workers.drain(grace=0, handed_over=True)
            new.workers.kill()
            return objection
        old, self.current = self.current, new
        self._tasks.create_task(self._retire(old), name=f"retire {old!r}")
        return ""

    def broadcast(self, message: dict[str, Any]) -> list[str]:
        """Send *message* to every worker that serves, of all generations, and return their names."""
        return [worker for one in self.living for worker in one.workers.broadcast(message)]

    def stop(self, *, grace: float) -> None:
        """Tell all workers to stop listening in *grace* seconds, end what is in flight and leave."""
        self._stopping.set()
        for one in self.living:
            one.workers.drain(grace=grace)

    def have_workers(self) -> bool:
        """Return whether a worker of any generation lives."""
        return any(one.workers.statuses() for one in self.living)

    def kill(self) -> None:
        """End all workers at once."""
        for one in self.living:
            one.workers.kill()

    def kill_worker(self, name: str) -> None:
        """End the worker process *name* at once; another takes its place."""
        for one in self.living:
            one.workers.kill_worker(name)

    async def _comes(self, what: Callable[[], bool], *, life: asyncio.Task[None]) -> bool:
        """Return whether *what* comes true while *life* goes on."""
        end = self._clock.monotonic() + _READY_SECONDS
        while not what():
            if life.done() or self._stopping.is_set() or self._clock.monotonic() > end:
                return False
            await self._clock.sleep(_POLL_SECONDS)
        return True

    async def _live(self, generation: Generation) -> None:
        try:
            await generation.run()
        except ExceptionGroup:
            # One that never came to serve must not take down the one that does.
            if generation is self.current:
                raise
        finally:
            self.living.remove(generation)

    async def _retire(self, old: Generation) -> None:
        old.workers.drain(grace=0, handed_over=True)
        end = self._clock.monotonic() + old.snapshot.server.exchange_timeout + KILL_AFTER_SECONDS
        while old.workers.statuses():
            if self._clock.monotonic() > end:
                old.workers.kill()
                return
            await self._clock.sleep(_POLL_SECONDS)

    def __repr__(self) -> str:
        return f"<Generations {self.living!r}>"
