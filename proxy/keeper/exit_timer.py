"""Ends the keeper also while a disk hangs: an interpreter that ends in order waits for each of its threads."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

# After the last worker the journals are handed on and files closed, which takes a moment if the disk works.
CLOSING_SECONDS = 20.0


class ExitTimer:
    """Ends this process some time after `start`, unless it has ended by then; *say* tells the operator why.

    In a thread: the loop itself may be what waits for the disk under *data_directory*.
    """

    def __init__(self, data_directory: Path, *, say: Callable[[str], None]) -> None:
        self._data_directory = data_directory
        self._say = say

    def start(self, seconds: float = CLOSING_SECONDS) -> None:
        """End this process in *seconds*, at the latest; the first one that is over counts."""
        timer = threading.Timer(seconds, self._exit)
        timer.daemon = True
        timer.start()

    def _exit(self) -> None:
        self._say(
            f"stopped without having closed all files: the disk under {self._data_directory} does not answer. "
            "What the journals have is handed on after the next start"
        )
        os._exit(1)
