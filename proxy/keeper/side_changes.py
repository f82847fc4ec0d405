"""Lets a change of side be certain: every key in flight that it would move is pinned, in all processes, before."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from proxy.clock import Clock
from proxy.keeper.replication import ReplicasUnreachable, Replication
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.migration.pin import merge
from proxy.migration.pin_rows import Pins, pins_of

# What a change may take, and whoever made it is kept waiting.
SETTLE_SECONDS = 2.0
# A worker that does not answer hangs: killed, its journal tells what it had in flight.
_KILL_SECONDS = 5.0
_AGAIN_SECONDS = 0.25


class SideChanges:
    """Settles what `Weights` says is unsettled.

    Until then each worker refuses a request with a retry key whose side the change would alter, if nothing is known of
    an earlier try. *message* makes what workers are told, *kill* ends a worker by its name.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        pins: RetryPins,
        answers: WorkerAnswers,
        message: Callable[[], dict[str, Any]],
        share: Callable[[], Replication],
        kill: Callable[[str], None],
        say: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.waiting_for = ""
        self._weights = weights
        self._pins = pins
        self._answers = answers
        self._message = message
        self._share = share
        self._kill = kill
        self._say = say
        self._clock = clock
        self._settling: asyncio.Task[None] | None = None
        self._done = asyncio.Event()  # a try to settle has ended, well or not
        self._began = 0.0

    @property
    def overdue(self) -> str:
        """Return what a change waits for that takes longer than it should, "" if none does."""
        late = self.waiting_for and self._clock.monotonic() - self._began > SETTLE_SECONDS
        return f"a change of side is not certain yet: {self.waiting_for}" if late else ""

    def begin(self) -> None:
        """Begin to settle, if anything is to be settled and it has not begun."""
        if self._weights.unsettled and (self._settling is None or self._settling.done()):
            self._settling = asyncio.get_running_loop().create_task(self._settle(), name="change of side")

    async def settled(self) -> bool:
        """Return whether all is settled, having waited SETTLE_SECONDS at most; not at all while replicas are away."""
        self._done.clear()
        self.begin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._weights.unsettled and not (self._share().problem and self._done.is_set()):
                    await self._done.wait()
                    if not self._share().problem:
                        self._done.clear()
        return not self._weights.unsettled

    async def ask_workers(self) -> None:
        """Return once every worker has said which of its keys in flight change their side now, and these are pinned.

        One that does not answer within 5 s is killed; what it had in flight is known when its journal is read.
        """
        serial = self._answers.ask(self._message(), also_ended=True)
        try:
            while True:
                try:
                    async with asyncio.timeout(_KILL_SECONDS):
                        rows = await self._answers.wait(serial)
                except TimeoutError:
                    for worker in self._answers.waiting(serial):
                        self._kill(worker)
                else:
                    break
        finally:
            self._answers.forget([serial])
        pins: Pins = {}
        for more in rows:
            merge(pins, pins_of(more))
        # What can't be written is in memory here and in every worker; without the file pins count as unreadable.
        await self._pins.keep(pins)

    async def close(self) -> None:
        """Give up."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait((self._settling,))

    async def _settle(self) -> None:
        self._began = self._clock.monotonic()
        while former := self._weights.unsettled:
            states = {name: self._weights.state(name).identity for name in former}
            self.waiting_for = self.waiting_for or "not every worker has said yet what it has in flight"
            await self.ask_workers()
            try:
                if not await self._share().settled(states):
                    continue
            except ReplicasUnreachable as away:
                self.waiting_for = str(away)
                self._done.set()
                await self._clock.sleep(_AGAIN_SECONDS)
                continue
            self.waiting_for = ""
            self._weights.settle(former)
            self._done.set()

    def __repr__(self) -> str:
        return f"<SideChanges {self.waiting_for or 'settled'}>"
