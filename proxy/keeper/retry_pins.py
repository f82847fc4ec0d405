"""Retry pins in the keeper: confirmed once they are on disk, in every worker and, if shared, in every replica."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from proxy.clock import Clock
from proxy.errors import MALFORMED
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.link.messages import ClaimCheck, ClaimDropped, NewPins
from proxy.migration.in_flight import LINGER_SECONDS
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin, merge
from proxy.migration.pin_rows import Pins, pins_of
from proxy.migration.pin_table import SHARDS
from proxy.migration.stores.pins import PinFile

# How long to wait for workers to confirm a pin; the worker that asks waits as long.
_TAKEN_SECONDS = 1.0
# The same for a claim: its worker waits for five seconds, also for the disk and for replicas.
_AGREED_SECONDS = 2.0
# More pins in one message would block a worker for longer than a millisecond.
_PINS_IN_A_MESSAGE = 500

# Returns once the other replicas have the pins; False if they can't be reached.
Share = Callable[[Mapping[str, RetryPin]], Awaitable[bool]]
# Returns once every other replica has agreed that a request goes where its pin says; False if one does not.
ShareClaim = Callable[[str, RetryPin], Awaitable[bool]]

_Queued = tuple[Pins, asyncio.Future[bool], bool]


class RetryPins:
    """All retry pins of this instance. *changed* is called when `problem` changes. *migration_of* maps a route's name.

    Call the methods on the event loop, except `keep_uncertain`, which is called from another thread.
    """

    def __init__(
        self,
        file: PinFile,
        *,
        clock: Clock,
        answers: WorkerAnswers,
        changed: Callable[[], None],
        migration_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.replicate: Share | None = None
        self.replicate_claim: ShareClaim | None = None
        self._file = file
        self._clock = clock
        self._answers = answers
        self._changed = changed
        self._migration_of = migration_of
        self._problem = file.problem
        self._loop = asyncio.get_running_loop()
        self._queue: list[_Queued] = []  # pins, whom to answer, whether a worker here asked
        self._committing: asyncio.Task[None] | None = None
        self._confirming: set[asyncio.Task[None]] = set()

    @property
    def problem(self) -> str:
        """Return why pins can't be read or written on this machine, "" if they can."""
        return self._file.problem

    def __len__(self) -> int:
        """Return the number of pins."""
        return len(self._file.table)

    def get(self, digest: str) -> RetryPin | None:
        """Return the valid pin of *digest*, if any."""
        with self._file.guard:
            return self._file.table.get(digest, self._clock.now())

    def open_pins(self, migration: str) -> dict[str, tuple[int, float]]:
        """Return, per side, how many pins of *migration* are valid and when the last one expires (epoch seconds).

        Pins of attempts in flight are excluded, since these nearly always end well.
        """
        with self._file.guard:
            return self._file.table.open_pins(migration, self._clock.now())

    def in_flight(self, migration: str) -> dict[str, tuple[int, float]]:
        """Return the pins of attempts still in flight, in the form of `open_pins`."""
        soon = self._clock.now() + 2 * LINGER_SECONDS + 60
        with self._file.guard:
            return self._file.table.open_pins(migration, soon, in_flight=True)

    def parts(self) -> Iterator[Pins]:
        """Yield all pins, one shard (some thousand) at a time."""
        for shard in range(SHARDS):
            with self._file.guard:
                pins = dict(self._file.table.shard(shard))
            if pins:
                yield pins

    async def open(self) -> None:
        """Read the pins from disk; `problem` is set if that fails."""
        await asyncio.to_thread(self._file.load, now=self._clock.now())
        self._report_problem()

    async def look_after(self) -> None:
        """Remove expired pins and retry failed reads and writes; called about every second."""
        unread = bool(self.problem)
        await asyncio.to_thread(self._file.look_after, now=self._clock.now())
        if unread and not self.problem:
            for message in self.messages():  # newly readable pins are unknown to the workers
                self._answers.broadcast(message)
        self._report_problem()

    async def keep(self, pins: Mapping[str, RetryPin], *, replicate: bool = True) -> bool:
        """Return True once *pins* are on disk, in every worker and, with *replicate*, in every replica; else False.

        Without *replicate*, they come from a replica: workers get only what is new here.
        """
        if not pins:
            return True
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._queue.append((dict(pins), answer, replicate))
        if self._committing is None:
            self._committing = self._loop.create_task(self._commit(), name="retry pins to disk")
        kept = await answer
        if replicate and self.replicate is not None:
            return await self.replicate(pins) and kept
        return kept

    async def claim(self, worker: str, digest: str, pin: RetryPin) -> bool:
        """Return True once no process but *worker* can send the request *digest* elsewhere than *pin* says.

        The pin is then kept. False if a process may send it elsewhere: then nothing has changed.
        """
        agreed = await self.agree(digest, pin, but=worker)
        if agreed and self.replicate_claim is not None:
            agreed = await self.replicate_claim(digest, pin)
        if agreed:
            return await self.keep({digest: pin})
        self._answers.broadcast(ClaimDropped(digest))
        return False

    async def release(self, digest: str, pin: RetryPin) -> None:
        """Apply the new end of a pin whose attempt in flight has ended well."""
        if self.get(digest) is not None:
            await self.keep({digest: pin})

    async def agree(self, digest: str, pin: RetryPin, *, but: str = "") -> bool:
        """Ask all workers except *but* if the request *digest* may go where *pin* says; they refuse it meanwhile.

        An IN_FLIGHT pin, made only by a change of side, is no objection. The asking worker knew of no earlier attempt,
        so the pin belongs to the attempt that is to move, or to another one whose worker or replica objects itself.
        """
        known = self.get(digest)
        elsewhere = known is not None and (known.side, known.upstream) != (pin.side, pin.upstream)
        if known is not None and elsewhere and known.reason is not Reason.IN_FLIGHT:
            return False
        serial = self._answers.ask(ClaimCheck(digest, pin), also_ended=True, but=but)
        try:
            async with asyncio.timeout(_AGREED_SECONDS):
                return all(answer.agreed for answer in await self._answers.wait(serial))
        except TimeoutError:
            return False
        finally:
            self._answers.forget([serial])

    def keep_uncertain(self, exchanges: Iterable[Mapping[str, Any]]) -> None:
        """Pin the retries of *exchanges* (from `records.unanswered.uncertain`). Called outside the event loop's thread.

        Written to disk on return; if that fails they are still in memory, and `problem` says so.
        """
        pins: Pins = {}
        now = self._clock.now()
        for one in exchanges:
            # Skip a malformed journal line instead of stopping.
            with contextlib.suppress(*MALFORMED):
                if one["reason"] == Reason.IN_FLIGHT:
                    # Counted from now: while the instance was down no caller could try again.
                    until = now + LINGER_SECONDS
                else:
                    until = datetime.fromisoformat(one["time"]).timestamp() + PIN_SECONDS
                name = self._migration_of(one["route"])
                row = [one["retry"], one["side"], one["upstream"], until, name, one["reason"]]
                merge(pins, pins_of([row]))
        _, new = self._file.keep({digest: pin for digest, pin in pins.items() if pin.until > now}, now=now)
        if new:
            self._loop.call_soon_threadsafe(self._found, new)

    def messages(self) -> Iterator[NewPins]:
        """Yield all pins as messages for a worker that has just started."""
        for pins in self.parts():
            yield from _messages(pins)

    def close(self) -> None:
        """Close the pin file."""
        self._file.close()

    async def _commit(self) -> None:
        """Write the queue in batches: what arrives during one write goes into the next."""
        try:
            while self._queue:
                batch, self._queue = self._queue, []
                pins: Pins = {}
                asked: set[str] = set()
                for more, _, here in batch:
                    merge(pins, more)
                    asked.update(more if here else ())
                kept, new = await asyncio.to_thread(self._file.keep, pins, now=self._clock.now())
                self._report_problem()
                # The pin now kept may differ: one of another attempt of the same request may rank higher. One that was
                # known already is sent again to whom it may still be on its way: its answer means that it has arrived.
                sent = {digest: self.get(digest) or pin for digest, pin in pins.items() if digest in asked | new.keys()}
                self._start(self._confirm(batch, self._publish(sent), kept=kept), name="retry pins in all workers")
        finally:
            self._committing = None

    async def _confirm(self, batch: list[_Queued], serials: list[int], *, kept: bool) -> None:
        """Answer the waiters of *batch* once every worker has confirmed it."""
        try:
            async with asyncio.timeout(_TAKEN_SECONDS):
                for serial in serials:
                    await self._answers.wait(serial)
        except TimeoutError:
            kept = False
        finally:
            self._answers.forget(serials)
            for _, answer, _ in batch:
                if not answer.done():
                    answer.set_result(kept)

    def _publish(self, pins: Pins) -> list[int]:
        """Send *pins* to all workers; return the serials of the messages."""
        return [self._answers.ask(message) for message in _messages(pins)]

    def _start(self, work: Any, *, name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    def _found(self, pins: Pins) -> None:
        self._report_problem()
        self._answers.forget(self._publish(pins))
        if self.replicate is not None:
            self._start(self.replicate(pins), name="retry pins of a lost worker")

    def _report_problem(self) -> None:
        if self._file.problem != self._problem:
            self._problem = self._file.problem
            self._changed()

    def __repr__(self) -> str:
        return f"<RetryPins {len(self)}{' unreadable' if self.problem else ''}>"


def _messages(pins: Pins) -> Iterator[NewPins]:
    items = iter(pins.items())
    while part := dict(islice(items, _PINS_IN_A_MESSAGE)):
        yield NewPins(part)
