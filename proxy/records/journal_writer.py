"""The thread that writes a worker's journal: entries queued during one sync go into the next write and sync."""

import asyncio
import contextlib
import errno
import math
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from proxy.clock import Clock
from proxy.records.batch_scheduling import BatchScheduling
from proxy.records.journal_segments import JournalSegments
from proxy.records.rewritten import FirstWrite

Waiter = asyncio.Future[None]
# Lines to write, and the futures that wait for them; lines without waiters are separate entries.
Lines = tuple[bytes, Sequence[Waiter]]
# None ends the thread.
Entry = Lines | None
# Settles waiters on the loop, one call per batch: "" if their lines are on disk, else the reason why not.
Settle = Callable[[Sequence[Waiter], str], None]

# Entries per write: joining a backlog of megabytes would hold the GIL and block the loop.
MOST_ENTRIES: Final = 256
# Lines of finished exchanges held while the journal can't be written: some 5000 records. More are only counted.
MOST_KEPT_BYTES: Final = 4 * 1024 * 1024
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0


class JournalWriter:
    """Owns the queue of one worker's journal and writes to *segments*; all but `put` and `join` runs in its thread.

    *prepare* must succeed before a segment is opened; *loss* builds a line from a count and a cause; the thread calls
    *changed* after it has set `opened` or `ended`.
    """

    def __init__(
        self,
        segments: JournalSegments,
        *,
        worker: str,
        clock: Clock,
        prepare: Callable[[], None],
        loss: Callable[[int, str], bytes],
        settle: Settle,
        changed: Callable[[], None],
    ) -> None:
        self.cause = "the journal is not open"
        self.lost = 0
        self.dropped = 0  # records that the caller of `put` gave up
        self.turns = 0  # odd while the thread runs something that can block on the disk
        self.opened = False
        self.ended = False
        self._put_bytes = 0
        self._taken_bytes = 0
        self._dropped_reported = 0
        self._segments = segments
        self._worker = worker
        self._clock = clock
        self._prepare = prepare
        self._loss = loss
        self._settle = settle
        self._changed = changed
        self._inbox: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._writing = threading.Thread(target=self._run, name=f"journal {worker}", daemon=True)
        self._scheduling = BatchScheduling()
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._first_write = FirstWrite()
        self._pause = FIRST_PAUSE_SECONDS
        self._probe_at = 0.0

    def __repr__(self) -> str:
        return f"<JournalWriter {self._worker} {self.cause or self._segments!r}>"

    def start(self) -> None:
        """Start the thread; it sets `opened` after its first attempt to open a segment, successful or not."""
        self.turns = 1
        self._writing.start()

    @property
    def queued(self) -> int:
        """Return the number of bytes that wait to be written."""
        return self._put_bytes - self._taken_bytes

    def put(self, entry: Entry) -> None:
        """Queue lines; called on the loop."""
        if entry is not None:
            self._put_bytes += len(entry[0])
        self._inbox.put(entry)

    def join(self) -> None:
        """Wait until the thread has ended; None in the queue ends it."""
        self._writing.join()

    def refuse_late(self) -> None:
        """Refuse lines that were queued after the thread ended; call it after `join`."""
        with contextlib.suppress(queue.Empty):
            while True:
                entry = self._inbox.get_nowait()
                if entry is not None and entry[1]:
                    self._settle(entry[1], self.cause)

    def _run(self) -> None:
        try:
            try:
                self._probe()
            finally:
                self.turns += 1
                self.opened = True
                self._changed()
            self._write_until_ended()
        finally:
            self.cause = "the journal is closed"
            self.turns |= 1
            self._segments.close()
            self.turns += 1
            self.ended = True
            self._changed()

    def _write_until_ended(self) -> None:
        while True:
            entries = self._next()
            self.turns += 1
            last = None in entries
            batch = [entry for entry in entries if entry is not None]
            if self.cause:
                self._keep(batch)
                if last or self._clock.monotonic() >= self._probe_at:
                    self._probe()
            elif batch:
                self._commit(batch)
            if self._segments.sync_at < math.inf and self._clock.monotonic() >= self._segments.sync_at:
                self._sync_lazily()
            for data, _ in batch:
                self._taken_bytes += len(data)
            if last:
                return
            self.turns += 1

    def _next(self) -> list[Entry]:
        """Return all queued entries; wait for the first one until the next probe or sync is due."""
        due = self._probe_at if self.cause else self._segments.sync_at
        timeout = max(0.0, due - self._clock.monotonic()) if due < math.inf else None
        try:
            entries = [self._inbox.get(timeout=timeout)]
        except queue.Empty:
            return []
        entries += [self._inbox.get_nowait() for _ in range(min(self._inbox.qsize(), MOST_ENTRIES))]
        return entries

    def _commit(self, batch: list[Lines]) -> None:
        waiters = [waiter for _, waiting in batch for waiter in waiting]
        dropped = self.dropped
        if dropped != self._dropped_reported:
            # It comes first: if it has to be kept there is room for it.
            loss = self._loss(dropped - self._dropped_reported, "the disk did not take them in time")
            batch = [(loss, ()), *batch]
            self._dropped_reported = dropped
        try:
            self._segments.append(b"".join([data for data, _ in batch]), sync=bool(waiters))
        except OSError as error:
            self._break(error)
            self._keep(batch, at=self._segments.append_at)
        else:
            if waiters:
                self._settle(waiters, "")
                self._scheduling.count(len(waiters), now=self._clock.monotonic())

    def _sync_lazily(self) -> None:
        try:
            self._segments.sync()
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        """Take the journal out of service; its segment is never written or synced again.

        What of it was not synced yet is held, to be written again.
        """
        self.cause = f"{error.strerror or type(error).__name__} ({errno.errorcode.get(error.errno or 0, 'no errno')})"
        self._probe_at = self._clock.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
        if self._segments.number:
            self._first_write.begin(self._segments.number)
        for at, data in self._segments.abandon():
            self._keep([(data, ())], at=at)

    def _keep(self, batch: list[Lines], *, at: int | None = None) -> None:
        """Refuse the intents of *batch*; hold finished records until the journal can be written again.

        *at* is where the batch may be in the abandoned segment, None if it was never written.
        """
        waiters: list[Waiter] = []
        for data, waiting in batch:
            if waiting:
                waiters += waiting
            elif self._kept_bytes + len(data) <= MOST_KEPT_BYTES:
                self._kept.append(data)
                self._kept_bytes += len(data)
                if at is not None:
                    self._first_write.add(at, len(data))
            else:
                self.lost += data.count(b"\n")
            if at is not None:
                at += len(data)
        if waiters:
            self._settle(waiters, self.cause)

    def _probe(self) -> None:
        """Try to resume service: open a segment, write and sync everything held."""
        try:
            self._segments.lock()
            self._prepare()
            self._segments.open_next()
            self._first_write.begin(self._segments.number - 1)
            self._segments.append(b"".join([self._first_write.header(), *self._kept] if self._kept else []), sync=True)
        except OSError as error:
            # Everything in it is still held, and one reserve a second would fill the disk.
            with contextlib.suppress(OSError):
                self._segments.discard()
            self._break(error)
            return
        self._kept.clear()
        self._kept_bytes = 0
        self._first_write = FirstWrite()
        self._pause = FIRST_PAUSE_SECONDS
        cause, self.cause = self.cause, ""
        self._report_lost(cause)

    def _report_lost(self, cause: str) -> None:
        """Write how many records were lost; not while trying, since the number must not be told twice."""
        lost, dropped = self.lost, self.dropped
        missing = lost + dropped - self._dropped_reported
        if missing:
            self.lost -= lost
            self._dropped_reported = dropped
            self._commit([(self._loss(missing, cause), ())])
