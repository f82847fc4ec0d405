"""The worker's end of the link to the keeper: JSON lines over a socket pair that no other process can reach."""

import asyncio
import json
from collections.abc import Callable
from typing import Any


class Link(asyncio.Protocol):
    """Passes the keeper's messages to *hear*; calls *lost* when the keeper is gone."""

    def __init__(self, *, hear: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        self._hear = hear
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        """Store the transport; uvloop's transports are not instances of asyncio.WriteTransport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse and pass on each complete line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def connection_lost(self, _error: Exception | None) -> None:
        """Report that the keeper is gone."""
        self._transport = None
        self._lost()

    def send(self, message: dict[str, Any]) -> None:
        """Send *message*; do nothing if the keeper is gone, since this process is about to stop."""
        if self._transport is not None:
            self._transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the link."""
        if self._transport is not None:
            self._transport.close()
