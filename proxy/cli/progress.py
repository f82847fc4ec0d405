"""Progress of what takes long, on stderr if that is a terminal: one line, drawn again and removed at the end."""

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from proxy.cli.output import takes_escapes
from proxy.clock import Clock, SystemClock

# What is done sooner needs none.
AFTER_SECONDS = 2.0
_EVERY_SECONDS = 0.5
# To the start of the line, and clear it (ECMA-48 EL).
_CLEAR = "\r\x1b[K"

Item = TypeVar("Item")


class Progress:
    """What is being done (*what*), and how far it is; written by the command, read by the thread that draws."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.records = 0

    def counted(self, records: Iterable[Item]) -> Iterator[Item]:
        """Yield *records* and count them."""
        for record in records:
            self.records += 1
            yield record

    def line(self, seconds: float) -> str:
        """Return the line after *seconds*."""
        counted = f"{self.records:,} records, " if self.records else ""
        return f"{self.what}: {counted}{seconds:.0f} s"


@contextmanager
def progress(
    what: str, *, stream: TextIO | None = None, after: float = AFTER_SECONDS, clock: Clock | None = None
) -> Iterator[Progress]:
    """Show, from *after* seconds on, *what* the block does, on *stream* (default stderr), if it takes escapes."""
    shown = Progress(what)
    stream = stream or sys.stderr
    if not takes_escapes(stream):
        yield shown
        return
    ended = threading.Event()
    drawing = threading.Thread(
        target=_draw, args=(shown, stream, ended, after, clock or SystemClock()), name="progress", daemon=True
    )
    drawing.start()
    try:
        yield shown
    finally:
        ended.set()
        drawing.join()


def _draw(shown: Progress, stream: TextIO, ended: threading.Event, after: float, clock: Clock) -> None:
    started = clock.monotonic()
    if ended.wait(after):
        return
    while True:
        stream.write(f"{_CLEAR}{shown.line(clock.monotonic() - started)}")
        stream.flush()
        if ended.wait(_EVERY_SECONDS):
            stream.write(_CLEAR)
            stream.flush()
            return
