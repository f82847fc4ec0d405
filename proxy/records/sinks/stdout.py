"""Sink to standard output, one JSON line each; a slow reader delays this sink and nothing else."""

import asyncio
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from proxy.records.sinks.sink import SinkUnavailable

# A pipe that poll() reports writable takes this much whole, without blocking (POSIX: PIPE_BUF).
_PIECE_BYTES = 4096
_POLL_MILLISECONDS = 200


Render = Callable[[bytes], bytes]


class StdoutSink:
    """Writes to *descriptor* in its own thread and never blocks there for longer than one poll.

    *render*, for a terminal, turns each record into a line for people, or b"" to skip it.
    """

    name = "stdout"

    def __init__(self, descriptor: int = 1, *, render: Render | None = None) -> None:
        self._render = render
        self._descriptor = descriptor
        self._closing = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="stdout sink")
        self._rest = b""

    def __repr__(self) -> str:
        return f"<StdoutSink {self._descriptor}>"

    async def write(self, batch: list[bytes]) -> None:
        """Write *batch*; returns after the pipe or file has all of it."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._write, batch)

    async def close(self) -> None:
        """Make a `write` that waits for a full pipe fail; the descriptor stays open: it belongs to the process."""
        self._closing.set()
        await asyncio.to_thread(self._executor.shutdown)

    def _write(self, batch: list[bytes]) -> None:
        if self._render is not None:
            batch = [line for line in map(self._render, batch) if line]
            if not batch:
                return
        try:
            # After a failure within a line, end that line before writing it again.
            data = memoryview(self._rest + b"\n".join(batch) + b"\n")
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            while data:
                if self._closing.is_set():
                    raise SinkUnavailable("standard output is closing")
                if not poll.poll(_POLL_MILLISECONDS):
                    continue
                try:
                    written = os.write(self._descriptor, data[:_PIECE_BYTES])
                except BlockingIOError:
                    # Writable, but for less than a piece, on a non-blocking pipe.
                    self._closing.wait(_POLL_MILLISECONDS / 1000)
                    continue
                self._rest = b"" if data[written - 1] == ord("\n") else b"\n"
                data = data[written:]
        except SinkUnavailable:
            raise
        except OSError as error:
            raise SinkUnavailable(error.errno, error.strerror) from None
