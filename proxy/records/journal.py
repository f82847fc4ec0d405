"""A worker's journal: intents are on disk before anything is sent, finished exchanges follow without anyone waiting."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy.account import Account, Attempt
from proxy.clock import Clock
from proxy.entropy import Entropy, uuid7
from proxy.errors import LogUnavailable
from proxy.records.mask import Mask
from proxy.records.masking_key import masking_key
from proxy.records.record import RecordBuilder, RecordContext, lost_records
from proxy.records.writer import LARGEST_SEGMENT, JournalWriter, Waiter

# Records are built on the loop, in batches that hold it up for some 0.3 ms. In the thread they would cost as much
# plus the switches, and the loop would wait up to 5 ms to get the GIL back.
BATCH_RECORDS: Final = 32
BATCH_SECONDS: Final = 0.02
# How long building records may hold up the loop at a time; 32 usual ones take 0.4 ms.
STEP_SECONDS: Final = 0.001


class Journal:
    """The write-ahead file of one worker, below *data_directory*; *worker* is a name that no other process start has.

    *durable* False: the same journal, but nobody waits for the disk. *spool_bytes* bounds what all journals and the
    keeper's stream take together. `intend` and `finish` belong on the loop that `open` was awaited on. The keeper has
    one too, for records that it builds itself; *reserve* is what such a small one takes on disk, in bytes.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        worker: str,
        context: RecordContext,
        durable: bool,
        clock: Clock,
        entropy: Entropy,
        spool_bytes: int,
        reserve: int = LARGEST_SEGMENT,
    ) -> None:
        self._data_directory = data_directory
        self._context = context
        self._durable = durable
        self._clock = clock
        self._entropy = entropy
        self._builder: RecordBuilder | None = None
        self._finished: list[Account] = []
        self._flush_set = False
        self._intents: list[bytes] = []
        self._waiters: list[Waiter] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = asyncio.Event()
        self._writer = JournalWriter(
            data_directory,
            worker=worker,
            spool_bytes=spool_bytes,
            reserve=reserve,
            clock=clock,
            prepare=self._prepare,
            loss=self._loss,
            settle=self._settle,
            opened=lambda: self._on_loop(self._opened.set),
        )

    def __repr__(self) -> str:
        return f"<Journal {self._writer!r} {len(self._finished)} to build>"

    async def open(self) -> None:
        """Start, and return after the first try; if that fails the journal is not usable until a later one succeeds."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        await self._opened.wait()

    def usable(self) -> bool:
        """Return whether intents can be written; if not, nothing may be sent, reads neither."""
        return not self._writer.cause

    def intend(self, exchange: Account, attempt: Attempt) -> Waiter | None:
        """Return what ends once it is on disk that *attempt* is about to be sent; not durable: None at once.

        Either raises LogUnavailable, and then it may not be sent.
        """
        if self._writer.cause or self._builder is None or self._loop is None:
            raise _unavailable(self._writer.cause)
        if not self._intents:
            # Behind everything that this turn of the loop still has to do, so that its intents wake the thread once.
            # To wake it, and to share the GIL with it, costs as much as the rest of an intent.
            self._loop.call_soon(self._hand_over)
        self._intents.append(self._builder.intent(exchange, attempt))
        if not self._durable:
            return None
        waiter: Waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    async def write(self, record: bytes) -> None:
        """Return once *record*, a whole line, is on disk; raises LogUnavailable if it can't be."""
        if self._writer.cause:
            raise _unavailable(self._writer.cause)
        waiter = asyncio.get_running_loop().create_future()
        self._writer.put((record, (waiter,)))
        await waiter

    def note(self, record: bytes) -> None:
        """Append *record*, a whole line, without waiting; kept in memory while the journal can't be written."""
        self._writer.put((record, ()))

    def finish(self, exchange: Account) -> None:
        """Take the finished *exchange* into the next batch of records; never waits."""
        finished = self._finished
        finished.append(exchange)
        if len(finished) >= BATCH_RECORDS:
            self._flush()
        elif not self._flush_set and self._loop is not None:
            # Not cancelled when the batch fills before: at most 50 idle calls a second.
            self._flush_set = True
            self._loop.call_later(BATCH_SECONDS, self._flush_late)

    async def close(self) -> None:
        """Write all that is finished, and end."""
        if self._loop is None:
            return
        self._hand_over()
        while self._finished:
            self._flush()
        self._writer.put(None)
        await asyncio.to_thread(self._writer.join)
        self._writer.refuse_late()

    def _flush_late(self) -> None:
        self._flush_set = False
        if self._finished:
            self._flush()

    def _hand_over(self) -> None:
        """Give this turn's intents to the thread, in order."""
        if self._intents:
            lines, self._intents = self._intents, []
            waiters, self._waiters = self._waiters, []
            self._writer.put((b"".join(lines), waiters))

    def _flush(self) -> None:
        # A record must not come before the intent of its exchange.
        self._hand_over()
        builder = self._builder
        if builder is None:
            self._writer.lost += len(self._finished)
            self._finished = []
            return
        lines = []
        until = self._clock.monotonic() + STEP_SECONDS
        for exchange in self._finished:
            try:
                lines.append(builder.exchange(exchange))
            except (TypeError, ValueError, AttributeError, OverflowError) as error:
                # One exchange that can't be told must not take the batch with it; that it is missing is told.
                lines.append(self._loss(1, f"a record could not be built: {type(error).__name__}"))
            if self._clock.monotonic() >= until:
                break
        del self._finished[: len(lines)]
        if self._finished and not self._flush_set and self._loop is not None:
            self._flush_set = True
            self._loop.call_soon(self._flush_late)
        if lines:
            self._writer.put((b"".join(lines), ()))

    def _prepare(self) -> None:
        if self._builder is None:
            key = masking_key(self._data_directory, entropy=self._entropy)
            self._builder = RecordBuilder(self._context, Mask(key))

    def _loss(self, count: int, cause: str) -> bytes:
        now = self._clock.now()
        return lost_records(self._context, id=uuid7(self._entropy, now), now=now, count=count, cause=cause)

    def _settle(self, waiters: Sequence[Waiter], cause: str) -> None:
        """Wake the loop once for all *waiters*; called by the writer's thread."""
        self._on_loop(_answer, waiters, cause)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        # A loop that is closed has nobody waiting.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call, *arguments)


def _answer(waiters: Sequence[Waiter], cause: str) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if cause:
            waiter.set_exception(_unavailable(cause))
        else:
            waiter.set_result(None)


def _unavailable(cause: str) -> LogUnavailable:
    return LogUnavailable("The request log can't be written; nothing was sent.", cause=cause, retry_after=1)
