"""The thread that writes a worker's journal: entries queued during one sync go into the next write and sync."""

import asyncio
import contextlib
import errno
import fcntl
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy.clock import Clock
from proxy.records.batch_scheduling import BatchScheduling
from proxy.records.segment import JOURNALS, LOCK_SUFFIX, Segment, segment_path, segments, spool_size

Waiter = asyncio.Future[None]
# Lines to write, and the futures that wait for them; lines without waiters are separate entries.
Lines = tuple[bytes, Sequence[Waiter]]
# None ends the thread.
Entry = Lines | None
# Settles waiters on the loop, one call per batch: "" if their lines are on disk, else the reason why not.
Settle = Callable[[Sequence[Waiter], str], None]

LARGEST_SEGMENT: Final = 64 * 1024 * 1024
# Entries per write: joining a backlog of megabytes would hold the GIL and block the loop.
MOST_ENTRIES: Final = 256
# Lines of finished exchanges held while the journal can't be written: some 5000 records. More are only counted.
MOST_KEPT_BYTES: Final = 4 * 1024 * 1024
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0
# A host crash loses at most this many seconds of finished records when no intent causes a sync.
LAZY_SYNC_SECONDS: Final = 1.0


def reserve_of(spool_bytes: int, *, workers: int) -> int:
    """Return the bytes that the journal of each of *workers* preallocates at once: 1/32 of the spool for all of them.

    Small enough to free disk space while sinks keep up, large enough that a segment is rarely opened.
    """
    return min(LARGEST_SEGMENT, max(4096, spool_bytes // (32 * workers)))


class JournalWriter:
    """Owns segments and queue of one worker's journal; everything but `put` and `join` runs in its thread.

    *prepare* must succeed before a segment is opened; *loss* builds a line from a count and a cause; the thread calls
    *changed* after it has set `opened` or `ended`.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        worker: str,
        spool_bytes: int,
        reserve: int,
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
        self._data_directory = data_directory
        self._directory = data_directory / JOURNALS
        self._worker = worker
        self._spool_bytes = spool_bytes
        self._reserve = min(reserve, reserve_of(spool_bytes, workers=1))
        self._clock = clock
        self._prepare = prepare
        self._loss = loss
        self._settle = settle
        self._changed = changed
        self._inbox: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._writing = threading.Thread(target=self._run, name=f"journal {worker}", daemon=True)
        self._scheduling = BatchScheduling()
        self._segment: Segment | None = None
        self._lock = -1
        self._unsynced = False
        self._sync_at = 0.0
        self._number = 0
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._probe_at = 0.0

    def __repr__(self) -> str:
        return f"<JournalWriter {self._worker} {self.cause or self._segment!r}>"

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
            self._end()
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
            if self._unsynced and self._clock.monotonic() >= self._sync_at:
                self._sync_lazily()
            for data, _ in batch:
                self._taken_bytes += len(data)
            if last:
                return
            self.turns += 1

    def _next(self) -> list[Entry]:
        """Return all queued entries; wait for the first one until the next probe or sync is due."""
        timeout = None
        if self.cause:
            timeout = max(0.0, self._probe_at - self._clock.monotonic())
        elif self._unsynced:
            timeout = max(0.0, self._sync_at - self._clock.monotonic())
        try:
            entries = [self._inbox.get(timeout=timeout)]
        except queue.Empty:
            return []
        entries += [self._inbox.get_nowait() for _ in range(min(self._inbox.qsize(), MOST_ENTRIES))]
        return entries

    def _commit(self, batch: list[Lines]) -> None:
        waiters = [waiter for _, waiting in batch for waiter in waiting]
        lines = [data for data, _ in batch]
        dropped = self.dropped
        if dropped != self._dropped_reported:
            lines.append(self._loss(dropped - self._dropped_reported, "the disk did not take them in time"))
        try:
            self._append(b"".join(lines), sync=bool(waiters))
        except OSError as error:
            self._break(error)
            self._keep(batch)
        else:
            self._dropped_reported = dropped
            if waiters:
                self._settle(waiters, "")
                self._scheduling.count(len(waiters), now=self._clock.monotonic())

    def _append(self, data: bytes, *, sync: bool) -> None:
        segment = self._segment
        if segment is None or not segment.has_room(len(data)):
            segment = self._open_segment()
        segment.append(data)
        if sync:
            self._unsynced = False
            segment.sync()
        elif not self._unsynced:
            self._unsynced = True
            self._sync_at = self._clock.monotonic() + LAZY_SYNC_SECONDS

    def _open_segment(self) -> Segment:
        """Open the next segment, then finish the current one: a later segment tells readers that this is complete."""
        if spool_size(self._data_directory) + self._reserve > self._spool_bytes:
            raise OSError(errno.ENOSPC, "the journal has grown to spool_bytes; is a sink of the request log away?")
        numbers = [number for worker, number in segments(self._directory) if worker == self._worker]
        if self._segment is not None and self._unsynced:
            self._segment.sync()
        # Never reuse a number: the keeper may have read part of a deleted segment.
        number = max([self._number, *numbers]) + 1
        opened = Segment(segment_path(self._directory, self._worker, number), reserve=self._reserve)
        self._number = number
        if self._segment is not None:
            self._segment.finish()
        self._segment = opened
        return opened

    def _sync_lazily(self) -> None:
        self._unsynced = False
        try:
            if self._segment is not None:
                self._segment.sync()
        except OSError as error:
            self._break(error)

    def _break(self, error: OSError) -> None:
        """Take the journal out of service; its segment is never written or synced again."""
        self.cause = f"{error.strerror or type(error).__name__} ({errno.errorcode.get(error.errno or 0, 'no errno')})"
        self._probe_at = self._clock.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
        self._unsynced = False
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None

    def _keep(self, batch: list[Lines]) -> None:
        """Refuse the intents of *batch*; hold finished records until the journal can be written again."""
        waiters: list[Waiter] = []
        for data, waiting in batch:
            if waiting:
                waiters += waiting
            elif self._kept_bytes + len(data) <= MOST_KEPT_BYTES:
                self._kept.append(data)
                self._kept_bytes += len(data)
            else:
                self.lost += data.count(b"\n")
        if waiters:
            self._settle(waiters, self.cause)

    def _probe(self) -> None:
        """Try to resume service: open a segment, write and sync everything held."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._prepare()
            segment = self._open_segment()
            lost, dropped = self.lost, self.dropped
            missing = lost + dropped - self._dropped_reported
            data = b"".join(self._kept) + (self._loss(missing, self.cause) if missing else b"")
            segment.append(data)
            segment.sync()
        except OSError as error:
            opened = self._segment
            self._break(error)
            if opened is not None:
                # Everything in it is still held, and one reserve a second would fill the disk.
                with contextlib.suppress(OSError):
                    opened.path.unlink()
            return
        self._kept.clear()
        self._kept_bytes = 0
        self.lost -= lost
        self._dropped_reported = dropped
        self._pause = FIRST_PAUSE_SECONDS
        self.cause = ""

    def _take_lock(self) -> None:
        """Hold a file lock until this process ends: it tells the keeper which journals belong to dead workers."""
        if self._lock < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self._directory / f"{self._worker}{LOCK_SUFFIX}", flags, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise
            self._lock = lock

    def _end(self) -> None:
        if self._segment is not None:
            with contextlib.suppress(OSError):
                self._segment.sync()
            self._segment.finish()
        if self._lock >= 0:
            os.close(self._lock)
