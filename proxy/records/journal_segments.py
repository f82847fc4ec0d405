"""The segments of a worker's journal: which file gets the next lines, and until when they must be synced."""

import contextlib
import errno
import fcntl
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.records.segment import JOURNALS, LOCK_SUFFIX, Segment, segment_path, segments, spool_size

LARGEST_SEGMENT: Final = 64 * 1024 * 1024
# A host crash loses at most this many seconds of finished records when no intent causes a sync.
LAZY_SYNC_SECONDS: Final = 1.0
# What waits for that sync is held in memory, to be written again if it fails. With more it is synced at once.
MOST_UNSYNCED_BYTES: Final = 2 * 1024 * 1024


def reserve_of(spool_bytes: int, *, workers: int) -> int:
    """Return the bytes that the journal of each of *workers* preallocates at once: 1/32 of the spool for all of them.

    Small enough to free disk space while sinks keep up, large enough that a segment is rarely opened.
    """
    return min(LARGEST_SEGMENT, max(4096, spool_bytes // (32 * workers)))


class JournalSegments:
    """Appends to one open segment of *worker*'s journal, and opens the next one when it is full.

    All methods but `close` raise OSError. After an error of `append` or `sync`, `abandon` the segment: what of it is on
    disk is unknown. `sync_at` is the monotonic second at which appended lines must be synced, infinity if all are.
    `number` is that of the segment opened last, `append_at` the byte at which the last `append` began in it. `unsynced`
    is what was appended to it since the last sync, each with the byte at which it begins.
    """

    def __init__(
        self, data_directory: Path, *, worker: str, spool_bytes: int, reserve: int, monotonic: Callable[[], float]
    ) -> None:
        self.sync_at = math.inf
        self.number = 0
        self.append_at = 0
        self.unsynced: list[tuple[int, bytes]] = []
        self._unsynced_bytes = 0
        self._data_directory = data_directory
        self._directory = data_directory / JOURNALS
        self._worker = worker
        self._spool_bytes = spool_bytes
        self._reserve = min(reserve, reserve_of(spool_bytes, workers=1))
        self._monotonic = monotonic
        self._lock = -1
        self._segment: Segment | None = None

    def __repr__(self) -> str:
        return f"<JournalSegments of {self._worker} {self._segment!r}>"

    def lock(self) -> None:
        """Hold a file lock until this process ends: it tells the keeper which journals belong to dead workers."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self._directory / f"{self._worker}{LOCK_SUFFIX}", flags, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise
            self._lock = lock

    def open_next(self) -> Segment:
        """Open the next segment, then finish the current one: a later segment tells readers that this is complete."""
        if spool_size(self._data_directory) + self._reserve > self._spool_bytes:
            raise OSError(errno.ENOSPC, "the journal has grown to spool_bytes; is a sink of the request log away?")
        numbers = [number for worker, number in segments(self._directory) if worker == self._worker]
        if self._segment is not None and self.sync_at < math.inf:
            self.sync()
        # Never reuse a number: the keeper may have read part of a deleted segment.
        number = max([self.number, *numbers]) + 1
        opened = Segment(segment_path(self._directory, self._worker, number), reserve=self._reserve)
        self.number = number
        if self._segment is not None:
            self._segment.finish()
        self._segment = opened
        return opened

    def append(self, data: bytes, *, sync: bool) -> None:
        """Append *data*, whole lines; return with them on disk if *sync*, else `sync_at` tells until when to sync."""
        segment = self._segment
        self.append_at = segment.size if segment is not None else 0
        if segment is None or not segment.has_room(len(data)):
            segment = self.open_next()
            self.append_at = 0
        segment.append(data)
        if sync:
            self.sync()
            return
        self.unsynced.append((self.append_at, data))
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes > MOST_UNSYNCED_BYTES:
            self.sync_at = self._monotonic()
        elif self.sync_at == math.inf:
            self.sync_at = self._monotonic() + LAZY_SYNC_SECONDS

    def sync(self) -> None:
        """Sync everything appended to disk."""
        self.sync_at = math.inf
        if self._segment is not None:
            self._segment.sync()
        self._forget_unsynced()

    def abandon(self) -> list[tuple[int, bytes]]:
        """Never write or sync the open segment again; its file stays. Return what was `unsynced` in it."""
        unsynced = self.unsynced
        self._forget_unsynced()
        self.sync_at = math.inf
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None
        return unsynced

    def _forget_unsynced(self) -> None:
        self.unsynced = []
        self._unsynced_bytes = 0

    def discard(self) -> None:
        """Abandon the open segment and delete its file."""
        segment = self._segment
        self.abandon()
        if segment is not None:
            segment.path.unlink()

    def close(self) -> None:
        """Sync and finish the open segment, as far as the disk allows, and release the lock."""
        if self._segment is not None:
            with contextlib.suppress(OSError):
                self._segment.sync()
            self._segment.finish()
        if self._lock >= 0:
            os.close(self._lock)
