"""Exits the keeper even if a disk hangs: a normal interpreter exit waits for every thread."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

# After the last worker the journals are shipped and files closed: a moment, if the disk works.
CLOSING_SECONDS = 20.0


class ExitTimer:
    """Exits this process a time after `start` unless it has ended before; *write_line* logs the reason.

    Runs in a thread, because the event loop itself may be blocked by the disk under *data_directory*.
    """

    def __init__(self, data_directory: Path, *, write_line: Callable[[str], None]) -> None:
        self._data_directory = data_directory
        self._write_line = write_line

    def start(self, seconds: float = CLOSING_SECONDS) -> None:
        """Exit this process in *seconds* at the latest; of several timers the first to expire counts."""
        timer = threading.Timer(seconds, self._exit)
        timer.daemon = True
        timer.start()

    def _exit(self) -> None:
        self._write_line(
            f"stopped without having closed all files: the disk under {self._data_directory} does not answer, "
            "or the device of a signing key does not. "
            "What is in the journals goes to the sinks after the next start"
        )
        os._exit(1)
