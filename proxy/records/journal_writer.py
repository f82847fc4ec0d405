"""The thread that writes a worker's journal: what queued up during the last sync goes into the next one."""

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
from proxy.records.priority import Courtesy
from proxy.records.segment import JOURNALS, LOCK_SUFFIX, Segment, segment_path, segments, spool_size

Waiter = asyncio.Future[None]
# Lines to write, and all who wait for them to be on disk: lines that nobody waits for are entries of their own.
Lines = tuple[bytes, Sequence[Waiter]]
# None ends the thread.
Entry = Lines | None
# Tells waiters on the loop, in one call per batch: "" that their lines are on disk, else why they are not.
Settle = Callable[[Sequence[Waiter], str], None]

LARGEST_SEGMENT: Final = 64 * 1024 * 1024
# Entries taken into one write: joining a backlog of megabytes would keep the GIL from the loop.
MOST_ENTRIES: Final = 256
# Of lines of finished exchanges while the journal can't be written: some 5000 records. What is more is counted.
MOST_HELD_BYTES: Final = 4 * 1024 * 1024
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0
# A machine that dies takes at most so many seconds of finished records with it when no intent's sync carries them.
LAZY_SYNC_SECONDS: Final = 1.0


def reserve_of(spool_bytes: int, *, workers: int) -> int:
    """Return the bytes that the journal of each of *workers* reserves at once: a 32nd of the spool, all together.

    Small enough to free disk while sinks work, large enough to be opened rarely.
    """
    return min(LARGEST_SEGMENT, max(4096, spool_bytes // (32 * workers)))


class JournalWriter:
    """Owns segments and queue of one worker's journal; all but `put` and `join` runs in its thread.

    *prepare* is what has to succeed before a segment is opened; *loss* makes a line of a count and a cause; *told* is
    called, in the thread, after `opened` or `ended` has become true.
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
        told: Callable[[], None],
    ) -> None:
        self.cause = "the journal is not open"
        self.lost = 0
        self.dropped = 0  # records that whoever puts them here gave up
        self.turns = 0  # odd while the thread does something that a disk can hold up
        self.opened = False
        self.ended = False
        self._put_bytes = 0
        self._taken_bytes = 0
        self._dropped_told = 0
        self._data_directory = data_directory
        self._directory = data_directory / JOURNALS
        self._worker = worker
        self._spool_bytes = spool_bytes
        self._reserve = min(reserve, reserve_of(spool_bytes, workers=1))
        self._clock = clock
        self._prepare = prepare
        self._loss = loss
        self._settle = settle
        self._told = told
        self._inbox: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._writing = threading.Thread(target=self._run, name=f"journal {worker}", daemon=True)
        self._segment: Segment | None = None
        self._lock = -1
        self._unsynced = False
        self._sync_at = 0.0
        self._number = 0
        self._courtesy = Courtesy()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._probe_at = 0.0

    def __repr__(self) -> str:
        return f"<JournalWriter {self._worker} {self.cause or self._segment!r}>"

    def start(self) -> None:
        """Start the thread; `opened` is true after its first try to open a segment, however that ended."""
        self.turns = 1
        self._writing.start()

    @property
    def queued(self) -> int:
        """Return how many bytes wait to be written."""
        return self._put_bytes - self._taken_bytes

    def put(self, entry: Entry) -> None:
        """Queue lines; on the loop."""
        if entry is not None:
            self._put_bytes += len(entry[0])
        self._inbox.put(entry)

    def join(self) -> None:
        """Return once the thread has ended, which None in the queue makes it do."""
        self._writing.join()

    def refuse_late(self) -> None:
        """Tell those whose lines came when the thread had ended so; to be called after `join`."""
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
                self._told()
            self._write_until_told_to_end()
        finally:
            self.cause = "the journal is closed"
            self.turns |= 1
            self._end()
            self.turns += 1
            self.ended = True
            self._told()

    def _write_until_told_to_end(self) -> None:
        while True:
            entries = self._next()
            self.turns += 1
            last = None in entries
            batch = [entry for entry in entries if entry is not None]
            if self.cause:
                self._hold(batch)
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
        """Return all that is queued, waiting for the first as long as there is nothing else to do."""
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
        if dropped != self._dropped_told:
            lines.append(self._loss(dropped - self._dropped_told, "the disk did not take them in time"))
        try:
            self._append(b"".join(lines), sync=bool(waiters))
        except OSError as error:
            self._break(error)
            self._hold(batch)
        else:
            self._dropped_told = dropped
            if waiters:
                self._settle(waiters, "")
                self._courtesy.did(len(waiters), now=self._clock.monotonic())

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
        """Open the next segment and finish the current one; only then is a reader sure that this got its last line."""
        if spool_size(self._data_directory) + self._reserve > self._spool_bytes:
            raise OSError(errno.ENOSPC, "the journal has grown to spool_bytes; is a sink of the request log away?")
        numbers = [number for worker, number in segments(self._directory) if worker == self._worker]
        if self._segment is not None and self._unsynced:
            self._segment.sync()
        # No number twice: the keeper may have read something of a segment that is gone.
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
        """Take the journal out of service: its segment is never written or synced again."""
        self.cause = f"{error.strerror or type(error).__name__} ({errno.errorcode.get(error.errno or 0, 'no errno')})"
        self._probe_at = self._clock.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
        self._unsynced = False
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None

    def _hold(self, batch: list[Lines]) -> None:
        """Refuse the intents of *batch* and keep finished records for when the journal can be written again."""
        waiters: list[Waiter] = []
        for data, waiting in batch:
            if waiting:
                waiters += waiting
            elif self._held_bytes + len(data) <= MOST_HELD_BYTES:
                self._held.append(data)
                self._held_bytes += len(data)
            else:
                self.lost += data.count(b"\n")
        if waiters:
            self._settle(waiters, self.cause)

    def _probe(self) -> None:
        """Try to get back into service: a new segment, everything held written and synced."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._prepare()
            segment = self._open_segment()
            lost, dropped = self.lost, self.dropped
            missing = lost + dropped - self._dropped_told
            data = b"".join(self._held) + (self._loss(missing, self.cause) if missing else b"")
            segment.append(data)
            segment.sync()
        except OSError as error:
            opened = self._segment
            self._break(error)
            if opened is not None:
                # All that may be in it is still held, and a reserve a second would fill the disk.
                with contextlib.suppress(OSError):
                    opened.path.unlink()
            return
        self._held.clear()
        self._held_bytes = 0
        self.lost -= lost
        self._dropped_told = dropped
        self._pause = FIRST_PAUSE_SECONDS
        self.cause = ""

    def _take_lock(self) -> None:
        """Hold a lock for as long as this process lives: by it the keeper tells a dead worker's journal."""
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
