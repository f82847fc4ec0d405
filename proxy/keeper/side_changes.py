"""Makes a change of side safe: first every key in flight that it would move is pinned in all processes."""

import asyncio
import contextlib
from collections.abc import Callable

from proxy.clock import Clock
from proxy.keeper.replication import ReplicasUnreachable, Replication
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.link.messages import MigrationStates
from proxy.migration.pin import merge
from proxy.migration.pin_rows import Pins

# How long a change may take, while the person or guard that made it waits.
SETTLE_SECONDS = 2.0
# A worker without answer hangs: it is killed, and its journal shows what it had in flight.
_KILL_SECONDS = 5.0
_AGAIN_SECONDS = 0.25


class SideChanges:
    """Settles the former settings that `Weights` reports as unsettled.

    Until then each worker refuses a request with a retry key whose side the change would alter, if no earlier attempt
    is known. *message* builds the message to the workers, *kill* ends a worker by its name.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        pins: RetryPins,
        answers: WorkerAnswers,
        message: Callable[[], MigrationStates],
        replication: Callable[[], Replication],
        kill: Callable[[str], None],
        write_line: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.waiting_for = ""
        self._weights = weights
        self._pins = pins
        self._answers = answers
        self._message = message
        self._replication = replication
        self._kill = kill
        self._write_line = write_line
        self._clock = clock
        self._settling: asyncio.Task[None] | None = None
        self._done = asyncio.Event()  # an attempt to settle has ended, successfully or not
        self._started = 0.0

    @property
    def overdue(self) -> str:
        """Return what a change has been waiting for longer than SETTLE_SECONDS, "" if none has."""
        late = self.waiting_for and self._clock.monotonic() - self._started > SETTLE_SECONDS
        return f"a change of side is not certain yet: {self.waiting_for}" if late else ""

    def begin(self) -> None:
        """Start settling if something is unsettled and no task runs."""
        if self._weights.unsettled and (self._settling is None or self._settling.done()):
            self._settling = asyncio.get_running_loop().create_task(self._settle(), name="change of side")

    async def settled(self) -> bool:
        """Wait up to SETTLE_SECONDS, less if replicas are unreachable, and return whether all is settled."""
        self._done.clear()
        self.begin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._weights.unsettled and not (self._replication().problem and self._done.is_set()):
                    await self._done.wait()
                    if not self._replication().problem:
                        self._done.clear()
        return not self._weights.unsettled

    async def ask_workers(self) -> None:
        """Ask every worker which of its keys in flight change sides, and pin these.

        A worker without answer within 5 s is killed; what it had in flight is known when its journal is read.
        """
        serial = self._answers.ask(self._message(), also_ended=True)
        try:
            while True:
                try:
                    async with asyncio.timeout(_KILL_SECONDS):
                        answers = await self._answers.wait(serial)
                except TimeoutError:
                    for worker in self._answers.waiting(serial):
                        self._kill(worker)
                else:
                    break
        finally:
            self._answers.forget([serial])
        pins: Pins = {}
        for answer in answers:
            merge(pins, answer.pins)
        # If the write fails the pins are in memory here and in every worker, and the file counts as unreadable.
        await self._pins.keep(pins)

    async def close(self) -> None:
        """Stop settling."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait((self._settling,))

    async def _settle(self) -> None:
        self._started = self._clock.monotonic()
        while former := self._weights.unsettled:
            states = {name: self._weights.state(name).identity for name in former}
            self.waiting_for = self.waiting_for or "not every worker has reported yet what it has in flight"
            await self.ask_workers()
            try:
                if not await self._replication().settled(states):
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
