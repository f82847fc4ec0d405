"""The worker's end of the link to its keeper: lines of JSON over a socket pair that nobody else can reach."""

import asyncio
import json
from collections.abc import Callable
from typing import Any


class Link(asyncio.Protocol):
    """Takes the keeper's messages to *hear*; when the keeper is gone, *lost* is called."""

    def __init__(self, *, hear: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        self._hear = hear
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        """Keep the way up; uvloop's transports are no asyncio.WriteTransport to isinstance."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on each whole line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell that the other end is gone."""
        self._transport = None
        self._lost()

    def send(self, message: dict[str, Any]) -> None:
        """Send *message*; without the other end nothing happens, since this process is about to stop."""
        if self._transport is not None:
            self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """End the link."""
        if self._transport is not None:
            self._transport.close()
