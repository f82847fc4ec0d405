"""Sink to a file, one JSON line each; reopens it after it was moved or deleted, as logrotate does."""

import asyncio
import contextlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proxy.records.sinks.sink import SinkUnavailable, file_target

# No record is longer: its texts are bounded when it is built.
_LONGEST_LINE = 1048576


class FileSink:
    """Appends to *path*; creates it with 0600."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.target = file_target(path)
        self._descriptor = -1
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="file sink")

    def __repr__(self) -> str:
        return f"<FileSink {self._path}>"

    async def write(self, batch: list[bytes]) -> None:
        """Write *batch* and sync it to disk: the shipper keeps it no longer."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._write, batch)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._executor.shutdown)
        self._shut()

    def _write(self, batch: list[bytes]) -> None:
        try:
            self._open_if_moved()
            before = os.fstat(self._descriptor)
            data = memoryview(b"\n".join([*batch, b""]))
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
                if stat.S_ISREG(before.st_mode):
                    os.fdatasync(self._descriptor)
            except OSError:
                # Otherwise the batch would come again after half a line.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before.st_size)
                raise
        except OSError as error:
            raise SinkUnavailable(error.errno, error.strerror, str(self._path)) from None

    def _open_if_moved(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                    return
            self._shut()
        # Opening a pipe without reader fails: opened for reading too, it would take records until it is full.
        flags = os.O_WRONLY | os.O_NONBLOCK if self._path.is_fifo() else os.O_RDWR | os.O_CREAT
        self._descriptor = os.open(self._path, flags | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.set_blocking(self._descriptor, True)
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self._cut_half_line()

    def _cut_half_line(self) -> None:
        """Cut a partial line that a killed keeper left at the end; that record comes again."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._descriptor, size - len(tail) + tail.rfind(b"\n") + 1)

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
