"""Retry pins in the keeper: on disk, in every worker and, where replicas share them, there too, before it says so."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from proxy.clock import Clock
from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.stores.pins import PinFile, Pins, pin_row, pins_of

# What a worker that does not say that it has a pin is waited for; the one that asks waits as long.
_TAKEN_SECONDS = 1.0
# A line of the link with more of them would hold up a worker for longer than a millisecond.
_PINS_IN_A_MESSAGE = 500

# Sends a message to every worker that serves, and returns their names.
Broadcast = Callable[[dict[str, Any]], Iterable[str]]
# Returns once other replicas have pins; False if they can't be told.
Share = Callable[[Mapping[str, RetryPin]], Awaitable[bool]]


class RetryPins:
    """All retry pins of this instance; *changed* is called when `problem` has.

    `keep` and the rest belong on the loop, `keep_uncertain` in another thread.
    """

    def __init__(self, file: PinFile, *, clock: Clock, broadcast: Broadcast, changed: Callable[[], None]) -> None:
        self.pins: Pins = {}
        self.share: Share | None = None
        self._file = file
        self._clock = clock
        self._broadcast = broadcast
        self._changed = changed
        self._problem = file.problem
        self._loop = asyncio.get_running_loop()
        self._queue: list[tuple[Pins, asyncio.Future[bool]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._confirming: set[asyncio.Task[None]] = set()
        self._serial = 0
        self._awaited: dict[int, tuple[set[str], asyncio.Event]] = {}

    @property
    def problem(self) -> str:
        """Return why pins can't be read or kept on this machine, "" if they can."""
        return self._file.problem

    async def open(self) -> None:
        """Read what is on disk; `problem` says if that can't be done."""
        self._take(await asyncio.to_thread(self._file.load, now=self._clock.now()))

    async def look_after(self) -> None:
        """Forget what has expired, and try again what failed; to be called every second or so."""
        now = self._clock.now()
        held = await asyncio.to_thread(self._file.look_after, now=now)
        found = {digest: pin for digest, pin in held.items() if digest not in self.pins}
        self.pins = {digest: pin for digest, pin in self.pins.items() if pin.until > now} | found
        self._forget(self._publish(found))
        self._tell()

    async def keep(self, pins: Mapping[str, RetryPin], *, share: bool = True) -> bool:
        """Return once *pins*, by digest, are on disk and in every worker, if *share* in every replica; False if not."""
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._queue.append((dict(pins), answer))
        if self._committing is None:
            self._committing = self._loop.create_task(self._commit(), name="retry pins to disk")
        kept = await answer
        if share and self.share is not None:
            return await self.share(pins) and kept
        return kept

    def keep_uncertain(self, exchanges: Iterable[Mapping[str, Any]]) -> None:
        """Pin what retries of *exchanges* (`records.unknown.uncertain`) must keep to; for other threads than the loop.

        On disk on return; what can't be written is in memory all the same, and `problem` says so.
        """
        pins: Pins = {}
        for one in exchanges:
            # A line of a journal that no worker wrote is no reason to stop reading it.
            with contextlib.suppress(LookupError, TypeError, ValueError):
                until = datetime.fromisoformat(one["time"]).timestamp() + PIN_SECONDS
                pins |= pins_of([[one["retry"], one["side"], one["upstream"], until]])
        pins = {digest: pin for digest, pin in pins.items() if not _holds(self.pins.get(digest), pin)}
        if pins:
            self._file.keep(pins, now=self._clock.now())
            self._loop.call_soon_threadsafe(self._found, pins)

    def messages(self) -> list[dict[str, Any]]:
        """Return what a worker that has just started must hear: all of them."""
        return _messages(self.pins, serial=0)

    def taken(self, worker: str, serial: int) -> None:
        """Note that *worker* has the pins of the message *serial*."""
        awaited = self._awaited.get(serial)
        if awaited is not None:
            awaited[0].discard(worker)
            if not awaited[0]:
                awaited[1].set()

    def gone(self, worker: str) -> None:
        """Wait no longer for *worker*, which has ended."""
        for serial in tuple(self._awaited):
            self.taken(worker, serial)

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
                    pins |= more
                kept = await asyncio.to_thread(self._file.keep, pins, now=self._clock.now())
                self._take(pins)
                confirming = self._loop.create_task(self._confirm(batch, self._publish(pins), kept=kept))
                self._confirming.add(confirming)
                confirming.add_done_callback(self._confirming.discard)
        finally:
            self._committing = None

    async def _confirm(self, batch: list[tuple[Pins, asyncio.Future[bool]]], serials: list[int], *, kept: bool) -> None:
        """Answer who asked for *batch*, once every worker has it."""
        try:
            async with asyncio.timeout(_TAKEN_SECONDS):
                for serial in serials:
                    await self._awaited[serial][1].wait()
        except TimeoutError:
            kept = False
        finally:
            self._forget(serials)
            for _, answer in batch:
                if not answer.done():
                    answer.set_result(kept)

    def _publish(self, pins: Pins) -> list[int]:
        """Send *pins* to all workers; return the serials of the messages."""
        messages = _messages(pins, serial=self._serial + 1)
        for message in messages:
            self._serial += 1
            event = asyncio.Event()
            workers = set(self._broadcast(message))
            self._awaited[self._serial] = (workers, event)
            if not workers:
                event.set()
        return [message["serial"] for message in messages]

    def _forget(self, serials: Iterable[int]) -> None:
        for serial in serials:
            self._awaited.pop(serial, None)

    def _found(self, pins: Pins) -> None:
        self._take(pins)
        self._forget(self._publish(pins))
        if self.share is not None:
            sharing = self._loop.create_task(self._share_later(pins), name="retry pins of a lost worker")
            self._confirming.add(sharing)
            sharing.add_done_callback(self._confirming.discard)

    async def _share_later(self, pins: Pins) -> None:
        if self.share is not None:
            await self.share(pins)

    def _take(self, pins: Pins) -> None:
        self.pins |= pins
        self._tell()

    def _tell(self) -> None:
        if self._file.problem != self._problem:
            self._problem = self._file.problem
            self._changed()

    def __repr__(self) -> str:
        return f"<RetryPins {len(self.pins)}{' unreadable' if self.problem else ''}>"


def _holds(known: RetryPin | None, pin: RetryPin) -> bool:
    """Return whether the worker has asked for it itself, some moments after its exchange began."""
    return known is not None and known.until >= pin.until and (known.side, known.upstream) == (pin.side, pin.upstream)


def _messages(pins: Pins, *, serial: int) -> list[dict[str, Any]]:
    """Return *pins* as the link carries them; *serial* is that of the first message, 0 if nobody waits."""
    rows = [pin_row(digest, pin) for digest, pin in pins.items()]
    return [
        {
            "type": "pins",
            "pins": rows[at : at + _PINS_IN_A_MESSAGE],
            "serial": serial and serial + at // _PINS_IN_A_MESSAGE,
        }
        for at in range(0, len(rows), _PINS_IN_A_MESSAGE)
    ]
