"""Keeps the history of the console over a restart: a file that is written every five minutes and at the end."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from proxy.atomic_file import replace_file
from proxy.clock import Clock
from proxy.telemetry.history import History

NAME = "history.bin"
_SECONDS = 300.0


class HistoryFile:
    """Loads and writes *history* in *directory*; what can't be read or written is said once and is no fault else."""

    def __init__(self, history: History, directory: Path, *, clock: Clock, write_line: Callable[[str], None]) -> None:
        self._history = history
        self._path = directory / NAME
        self._clock = clock
        self._write_line = write_line
        self._said = ""

    async def run(self) -> None:
        """Load it, and write it every five minutes until cancelled."""
        await self._load()
        while True:
            await self._clock.sleep(_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Replace the file."""
        data = self._history.dump()
        try:
            await asyncio.to_thread(replace_file, self._path, [data])
        except OSError as error:
            self._say(f"the console's history can't be written to {self._path}: {error.strerror}")

    async def _load(self) -> None:
        try:
            data = await asyncio.to_thread(self._path.read_bytes)
        except FileNotFoundError:
            return
        except OSError as error:
            self._say(f"the console's history can't be read from {self._path}: {error.strerror}")
            return
        if not self._history.load(data):
            self._say(f"the console's history begins anew: {self._path} is damaged or of another version")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._write_line(text)
