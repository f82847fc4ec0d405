"""The two ends of the link, a socket pair that no other process can reach: one message a line."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.link.codec import decode, encode
from proxy.link.messages import Message

# Of a line from a worker.
LIMIT = 1048576


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message, None if the other end is gone; raise ValueError, MessageInvalid among them."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return None
    # A killed process may have sent an incomplete line.
    return decode(line) if line.endswith(b"\n") else None


class WorkerChannel(asyncio.Protocol):
    """The worker's end: passes messages to *on_message*, and calls *on_lost* when the keeper is gone.

    A message that can't be read ends the link; *on_invalid* gets the reason before.
    """

    def __init__(
        self,
        *,
        on_message: Callable[[Message], None],
        on_invalid: Callable[[str], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_message = on_message
        self._on_invalid = on_invalid
        self._on_lost = on_lost
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        """Store the transport; uvloop's transports are not instances of asyncio.WriteTransport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse and pass on each complete line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                message = decode(line)
            except ValueError as error:
                self._on_invalid(str(error))
                self.close()
                return
            self._on_message(message)

    def connection_lost(self, _error: Exception | None) -> None:
        """Report that the keeper is gone."""
        self._transport = None
        self._on_lost()

    def send(self, message: Message) -> None:
        """Send *message*; do nothing if the keeper is gone, since this process is about to stop."""
        if self._transport is not None:
            self._transport.write(encode(message))

    def close(self) -> None:
        """Close the link."""
        if self._transport is not None:
            self._transport.close()
