"""A worker's journal: an intent is on disk before anything is sent; finished exchanges are appended without waiting."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy.clock import Clock
from proxy.entropy import Entropy, uuid7
from proxy.errors import LogUnavailable
from proxy.records.journal_segments import LARGEST_SEGMENT, JournalSegments
from proxy.records.journal_writer import JournalWriter, Waiter
from proxy.records.mask import Mask
from proxy.records.masking_key import masking_key
from proxy.records.record import RecordBuilder, RecordContext, lost_records
from proxy.records.watchdog import MOST_QUEUED_BYTES, Watchdog
from proxy.request_summary import Attempt, RequestSummary

# Records are built on the event loop, in batches that block it for 0.3 ms. In the thread they would cost the same plus
# the thread switches, and the loop would wait up to 5 ms to get the GIL back.
BATCH_RECORDS: Final = 32
BATCH_SECONDS: Final = 0.02
# The longest time that building records may block the loop; 32 usual records take 0.4 ms.
STEP_SECONDS: Final = 0.001
# Requests in flight when the disk starts to hang still get their records; further records, of requests refused
# meanwhile, are only counted.
MOST_WAITING_BYTES: Final = 2 * MOST_QUEUED_BYTES


class Journal:
    """The write-ahead log of one worker, below *data_directory*; *worker* is a name unique to this process start.

    Without *durable* no intent waits for the disk. *spool_bytes* limits all journals and the keeper's stream together.
    Call `intend` and `finish` on the loop that awaited `open`. The keeper has a journal too, for its own records;
    *reserve* is the size in bytes that it preallocates. No intent waits for the disk once its exchange is
    *exchange_timeout* seconds old.
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
        exchange_timeout: float = math.inf,
    ) -> None:
        self._data_directory = data_directory
        self._context = context
        self._durable = durable
        self._clock = clock
        self._entropy = entropy
        self._builder: RecordBuilder | None = None
        self._finished: list[RequestSummary] = []
        self._flush_set = False
        self._intents: list[bytes] = []
        self._waiters: list[Waiter] = []
        self._started_at: list[float] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._writer = JournalWriter(
            JournalSegments(
                data_directory, worker=worker, spool_bytes=spool_bytes, reserve=reserve, monotonic=clock.monotonic
            ),
            worker=worker,
            clock=clock,
            prepare=self._prepare,
            loss=self._loss,
            settle=self._settle,
            changed=lambda: self._on_loop(self._news.set),
        )
        self._watchdog = Watchdog(
            self._writer, exchange_timeout=exchange_timeout, clock=clock, refuse=_settle_waiters, hung=self._news.set
        )

    def __repr__(self) -> str:
        return f"<Journal {self._writer!r} {len(self._finished)} to build>"

    async def open(self) -> None:
        """Start the thread; return after its first attempt. If that fails, a later success makes the journal usable."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        self._watchdog.start()
        while not (self._writer.opened or self._watchdog.is_hung):
            self._news.clear()
            await self._news.wait()

    def usable(self) -> bool:
        """Return whether intents can be written; if not, no request may be sent, not even a read."""
        return not (self._writer.cause or self._watchdog.trouble)

    @property
    def problem(self) -> str:
        """Return why intents can't be written, "" if they can."""
        return self._watchdog.trouble or self._writer.cause

    def intend(self, exchange: RequestSummary, attempt: Attempt) -> Waiter | None:
        """Return a future that resolves when the intent of *attempt* is on disk; None if not *durable*.

        Raises LogUnavailable, directly or through the future; then the attempt must not be sent.
        """
        if self._writer.cause or self._watchdog.trouble or self._builder is None or self._loop is None:
            raise _unavailable(self.problem)
        if not self._intents:
            # call_soon: all intents of this loop iteration go to the writer thread together. To wake the thread, and to
            # share the GIL with it, costs as much as the rest of an intent.
            self._loop.call_soon(self._hand_over)
        self._intents.append(self._builder.intent(exchange, attempt))
        if not self._durable:
            return None
        waiter: Waiter = self._loop.create_future()
        self._waiters.append(waiter)
        self._started_at.append(exchange.started)
        return waiter

    async def write(self, record: bytes) -> None:
        """Return once *record*, a whole line, is on disk; raises LogUnavailable if that fails."""
        if self.problem:
            raise _unavailable(self.problem)
        waiter = asyncio.get_running_loop().create_future()
        self._writer.put((record, (waiter,)))
        self._watchdog.expect((waiter,), (self._clock.monotonic(),))
        await waiter

    def note(self, record: bytes) -> None:
        """Append *record*, a whole line, without waiting; it stays in memory while the journal can't be written."""
        if self._writer.queued > MOST_WAITING_BYTES:
            self._writer.dropped += 1
            return
        self._writer.put((record, ()))
        self._watchdog.watch()

    def finish(self, exchange: RequestSummary) -> None:
        """Add the finished *exchange* to the next batch of records; never waits."""
        finished = self._finished
        finished.append(exchange)
        if len(finished) >= BATCH_RECORDS:
            self._flush()
        elif not self._flush_set and self._loop is not None:
            # Not cancelled if the batch fills earlier: at most 50 idle calls a second.
            self._flush_set = True
            self._loop.call_later(BATCH_SECONDS, self._flush_late)

    async def close(self) -> bool:
        """Write all finished records and stop; return False if the disk hangs, and give up what is not written."""
        if self._loop is None:
            return True
        self._hand_over()
        while self._finished:
            self._flush()
        self._writer.put(None)
        self._watchdog.watch()
        while not (self._writer.ended or self._watchdog.is_hung):
            self._news.clear()
            await self._news.wait()
        if self._writer.ended:
            self._writer.join()
            self._writer.refuse_late()
        return self._writer.ended

    def _flush_late(self) -> None:
        self._flush_set = False
        if self._finished:
            self._flush()

    def _hand_over(self) -> None:
        """Hand the intents of this loop iteration to the writer thread, in order."""
        if self._intents:
            lines, self._intents = self._intents, []
            waiters, self._waiters = self._waiters, []
            started_at, self._started_at = self._started_at, []
            self._writer.put((b"".join(lines), waiters))
            self._watchdog.expect(waiters, started_at)

    def _flush(self) -> None:
        # The intents come first: a record must not come before the intent of its exchange.
        self._hand_over()
        builder = self._builder
        if builder is None or self._writer.queued > MOST_WAITING_BYTES:
            self._writer.dropped += len(self._finished)
            self._finished = []
            return
        lines = []
        until = self._clock.monotonic() + STEP_SECONDS
        for exchange in self._finished:
            try:
                lines.append(builder.exchange(exchange))
            except (TypeError, ValueError, AttributeError, OverflowError) as error:
                # One exchange that can't be rendered must not lose the batch; a record states that it is missing.
                lines.append(self._loss(1, f"a record could not be built: {type(error).__name__}"))
            if self._clock.monotonic() >= until:
                break
        del self._finished[: len(lines)]
        if self._finished and not self._flush_set and self._loop is not None:
            self._flush_set = True
            self._loop.call_soon(self._flush_late)
        if lines:
            self._writer.put((b"".join(lines), ()))
            self._watchdog.watch()

    def _prepare(self) -> None:
        if self._builder is None:
            key = masking_key(self._data_directory, entropy=self._entropy)
            self._builder = RecordBuilder(self._context, Mask(key))

    def _loss(self, count: int, cause: str) -> bytes:
        now = self._clock.now()
        return lost_records(self._context, id=uuid7(self._entropy, now), now=now, count=count, cause=cause)

    def _settle(self, waiters: Sequence[Waiter], cause: str) -> None:
        """Settle all *waiters* with one wake-up of the loop; called in the writer thread."""
        self._on_loop(self._settled, waiters, cause)

    def _settled(self, waiters: Sequence[Waiter], cause: str) -> None:
        self._watchdog.settled += len(waiters)
        _settle_waiters(waiters, cause)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        # RuntimeError: the loop is closed, so nothing waits.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call, *arguments)


def _settle_waiters(waiters: Sequence[Waiter], cause: str) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if cause:
            waiter.set_exception(_unavailable(cause))
        else:
            waiter.set_result(None)


def _unavailable(cause: str) -> LogUnavailable:
    return LogUnavailable("The request log can't be written; nothing was sent.", cause=cause, retry_after=1)
