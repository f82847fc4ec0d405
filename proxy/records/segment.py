"""One file of a journal: preallocated, appended to by one writer, read by others up to its first NUL."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.atomic_file import sync_directory

JOURNALS: Final = "journal"
STREAM: Final = "stream"
SUFFIX: Final = ".jsonl"
LOCK_SUFFIX: Final = ".lock"
# The first write to a preallocated block makes the file system change its metadata in the next sync, which then takes
# twice as long. So the first write covers the blocks of this many bytes, with NULs behind the lines: some 20 us more.
FIRST_WRITE_BYTES: Final = 64 * 1024


class Segment:
    """A file that is on disk, with its reserve, before the first line is written; raises OSError."""

    def __init__(self, path: Path, *, reserve: int) -> None:
        self.path = path
        self.reserve = reserve
        self.size = 0
        self._written = 0  # bytes of lines and of the NULs behind them
        # Check first: a failing fallocate would briefly take the last free blocks from other programs.
        disk = os.statvfs(path.parent)
        if disk.f_blocks and disk.f_bfree * disk.f_frsize < reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        try:
            # A full disk must fail here, before a request is sent, not when its record is written.
            os.posix_fallocate(self._descriptor, 0, reserve)
            os.fsync(self._descriptor)
            sync_directory(path.parent)
        except OSError:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise

    def __repr__(self) -> str:
        return f"<Segment {self.path.name} {self.size} of {self.reserve} bytes>"

    def has_room(self, size: int) -> bool:
        """Return whether *size* bytes fit into the reserve; anything larger goes into an empty segment."""
        return self.size == 0 or self.size + size <= self.reserve

    def append(self, data: bytes) -> None:
        """Append *data*, which ends with a line feed."""
        at, end = self.size, self.size + len(data)
        if end > self._written:
            self._written = max(end, min(self.reserve, -(-end // FIRST_WRITE_BYTES) * FIRST_WRITE_BYTES))
            data += bytes(self._written - end)
        written = os.pwrite(self._descriptor, data, at)
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], at + written)
        self.size = end

    def sync(self) -> None:
        """Sync everything appended to disk."""
        os.fdatasync(self._descriptor)

    def finish(self) -> None:
        """Truncate the unused reserve and close."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.size)
        self.abandon()

    def abandon(self) -> None:
        """Close and leave the file as it is: after a failed sync it is not touched again."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def segment_path(directory: Path, worker: str, number: int) -> Path:
    """Return the path of segment *number* of *worker* in the journals' *directory*."""
    return directory / f"{worker}-{number}{SUFFIX}"


def segments(directory: Path) -> Iterator[tuple[str, int]]:
    """Yield worker and number of each segment in *directory*, unordered; other files are skipped."""
    for name in os.listdir(directory) if directory.is_dir() else ():  # noqa: PTH208 - names only, without a Path each
        worker, dash, number = name.removesuffix(SUFFIX).rpartition("-")
        if name.endswith(SUFFIX) and dash and number.isdecimal():
            yield worker, int(number)


def spool_size(data_directory: Path) -> int:
    """Return the total size of journals and stream in bytes."""
    total = 0
    for directory in (data_directory / JOURNALS, data_directory / STREAM):
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total
