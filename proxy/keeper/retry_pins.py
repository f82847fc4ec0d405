"""Retry pins in the keeper: on disk, in every worker and, where replicas share them, there too, before it says so."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from proxy.clock import Clock
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.migration.in_flight import LINGER_SECONDS
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin, merge, merged
from proxy.migration.pin_rows import Pins, pin_row, pins_of
from proxy.migration.pin_table import SHARDS
from proxy.migration.stores.pins import PinFile

# What a worker that does not say that it has a pin is waited for; the one that asks waits as long.
_TAKEN_SECONDS = 1.0
# The same for a claim: its worker waits for five seconds, for the disk and for replicas too.
_AGREED_SECONDS = 2.0
# A line of the link with more of them would hold up a worker for longer than a millisecond.
_PINS_IN_A_MESSAGE = 500

# Returns once other replicas have pins; False if they can't be told.
Share = Callable[[Mapping[str, RetryPin]], Awaitable[bool]]
# Returns once every other replica has agreed that a request goes where its pin says; False if one does not.
ShareClaim = Callable[[str, RetryPin], Awaitable[bool]]


class RetryPins:
    """All retry pins of this instance; *changed* is called when `problem` has. *migration_of* names that of a route.

    `keep` and the rest belong on the loop, `keep_uncertain` in another thread.
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
        self.share: Share | None = None
        self.share_claim: ShareClaim | None = None
        self._file = file
        self._clock = clock
        self._answers = answers
        self._changed = changed
        self._migration_of = migration_of
        self._problem = file.problem
        self._loop = asyncio.get_running_loop()
        self._queue: list[tuple[Pins, asyncio.Future[bool]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._confirming: set[asyncio.Task[None]] = set()

    @property
    def problem(self) -> str:
        """Return why pins can't be read or kept on this machine, "" if they can."""
        return self._file.problem

    def __len__(self) -> int:
        """Return how many pins there are."""
        return len(self._file.table)

    def get(self, digest: str) -> RetryPin | None:
        """Return the pin of *digest* that holds now."""
        with self._file.guard:
            return self._file.table.get(digest, self._clock.now())

    def open_pins(self, migration: str) -> dict[str, tuple[int, float]]:
        """Return by side how many pins of *migration* hold, and until when the last of them does (epoch seconds).

        Those of tries in flight, which nearly always end well, do not count.
        """
        with self._file.guard:
            return self._file.table.open_pins(migration, self._clock.now())

    def in_flight(self, migration: str) -> dict[str, tuple[int, float]]:
        """Return, as `open_pins`, the pins of tries that are in flight still."""
        soon = self._clock.now() + 2 * LINGER_SECONDS + 60
        with self._file.guard:
            return self._file.table.open_pins(migration, soon, in_flight=True)

    def parts(self) -> Iterator[Pins]:
        """Yield all pins, some thousand at a time."""
        for shard in range(SHARDS):
            with self._file.guard:
                pins = dict(self._file.table.shard(shard))
            if pins:
                yield pins

    async def open(self) -> None:
        """Read what is on disk; `problem` says if that can't be done."""
        await asyncio.to_thread(self._file.load, now=self._clock.now())
        self._tell()

    async def look_after(self) -> None:
        """Forget what has expired, and try again what failed; to be called every second or so."""
        unread = bool(self.problem)
        await asyncio.to_thread(self._file.look_after, now=self._clock.now())
        if unread and not self.problem:
            for message in self.messages():  # what could not be read before is new to the workers
                self._answers.forget([self._answers.ask(message)])
        self._tell()

    async def keep(self, pins: Mapping[str, RetryPin], *, share: bool = True) -> bool:
        """Return once *pins*, by digest, are on disk and in every worker, if *share* in every replica; False if not."""
        if not pins:
            return True
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._queue.append((dict(pins), answer))
        if self._committing is None:
            self._committing = self._loop.create_task(self._commit(), name="retry pins to disk")
        kept = await answer
        if share and self.share is not None:
            return await self.share(pins) and kept
        return kept

    async def claim(self, worker: str, digest: str, pin: RetryPin) -> bool:
        """Return once no process but *worker* sends the request *digest* elsewhere than where *pin* says, and it holds.

        False if one may: then nothing has changed.
        """
        agreed = await self.agree(digest, pin, but=worker)
        if agreed and self.share_claim is not None:
            agreed = await self.share_claim(digest, pin)
        if agreed:
            return await self.keep({digest: pin})
        self.withdraw(digest)
        return False

    async def release(self, pins: Pins) -> None:
        """Let pins that were made for tries in flight, which have ended well, end as *pins* say."""
        await self.keep({digest: pin for digest, pin in pins.items() if self.get(digest) is not None})

    async def agree(self, digest: str, pin: RetryPin, *, but: str = "") -> bool:
        """Ask all workers but one whether the request *digest* may go where *pin* says; they refuse it meanwhile.

        A pin that only a change of side made is no objection: who asks knew of no earlier try, so it is that of the
        try which is to move, or of another one whose worker or replica objects.
        """
        known = self.get(digest)
        elsewhere = known is not None and (known.side, known.upstream) != (pin.side, pin.upstream)
        if known is not None and elsewhere and known.reason is not Reason.IN_FLIGHT:
            return False
        serial = self._answers.ask({"type": "claim", "row": pin_row(digest, pin)}, also_ended=True, but=but)
        try:
            async with asyncio.timeout(_AGREED_SECONDS):
                return all(await self._answers.wait(serial))
        except TimeoutError:
            return False
        finally:
            self._answers.forget([serial])

    def withdraw(self, digest: str) -> None:
        """Let all workers forget a claim that came to nothing."""
        self._answers.forget([self._answers.ask({"type": "unclaim", "digest": digest})])

    def keep_uncertain(self, exchanges: Iterable[Mapping[str, Any]]) -> None:
        """Pin what retries of *exchanges* (`records.unknown.uncertain`) must keep to; for other threads than the loop.

        On disk on return; what can't be written is in memory all the same, and `problem` says so.
        """
        pins: Pins = {}
        for one in exchanges:
            # A line of a journal that no worker wrote is no reason to stop reading it.
            with contextlib.suppress(LookupError, TypeError, ValueError):
                until = datetime.fromisoformat(one["time"]).timestamp() + PIN_SECONDS
                name = self._migration_of(one["route"])
                pins |= pins_of([[one["retry"], one["side"], one["upstream"], until, name, one["reason"]]])
        now = self._clock.now()
        with self._file.guard:
            known = {digest: self._file.table.get(digest, now) for digest in pins}
            pins = {d: pin for d, pin in pins.items() if pin.until > now and merged(known[d], pin) is not None}
        if pins:
            self._file.keep(pins, now=now)
            self._loop.call_soon_threadsafe(self._found, pins)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what a worker that has just started must hear: all of them."""
        for pins in self.parts():
            for message in _messages(pins):
                yield {**message, "serial": 0}

    def close(self) -> None:
        """Close the file, with all that was kept in it."""
        self._file.close()

    async def _commit(self) -> None:
        """Write what is asked for: all that came during the last write goes into the next."""
        try:
            while self._queue:
                batch, self._queue = self._queue, []
                pins: Pins = {}
                for more, _ in batch:
                    merge(pins, more)
                kept = await asyncio.to_thread(self._file.keep, pins, now=self._clock.now())
                self._tell()
                # What is kept may be more than what was asked for: another try of the same request may weigh more.
                told = {digest: self.get(digest) or pin for digest, pin in pins.items()}
                self._own(self._confirm(batch, self._publish(told), kept=kept), name="retry pins in all workers")
        finally:
            self._committing = None

    async def _confirm(self, batch: list[tuple[Pins, asyncio.Future[bool]]], serials: list[int], *, kept: bool) -> None:
        """Answer who asked for *batch*, once every worker has it."""
        try:
            async with asyncio.timeout(_TAKEN_SECONDS):
                for serial in serials:
                    await self._answers.wait(serial)
        except TimeoutError:
            kept = False
        finally:
            self._answers.forget(serials)
            for _, answer in batch:
                if not answer.done():
                    answer.set_result(kept)

    def _publish(self, pins: Pins) -> list[int]:
        """Send *pins* to all workers; return the serials of the messages."""
        return [self._answers.ask(message) for message in _messages(pins)]

    def _own(self, work: Any, *, name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    def _found(self, pins: Pins) -> None:
        self._tell()
        self._answers.forget(self._publish(pins))
        if self.share is not None:
            self._own(self.share(pins), name="retry pins of a lost worker")

    def _tell(self) -> None:
        if self._file.problem != self._problem:
            self._problem = self._file.problem
            self._changed()

    def __repr__(self) -> str:
        return f"<RetryPins {len(self)}{' unreadable' if self.problem else ''}>"


def _messages(pins: Pins) -> list[dict[str, Any]]:
    """Return *pins* as the link carries them."""
    rows = [pin_row(digest, pin) for digest, pin in pins.items()]
    return [
        {"type": "pins", "pins": rows[at : at + _PINS_IN_A_MESSAGE]} for at in range(0, len(rows), _PINS_IN_A_MESSAGE)
    ]
