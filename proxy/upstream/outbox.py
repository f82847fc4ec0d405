"""What one turn of the loop has to send, sent in one go at its end.

To write is also to wake whoever reads. Written as they come up, 20 to 50 us apart, most messages woke a process that
had just gone to sleep (0.74 wake-ups a request; of Envoy, which writes at the end of a turn, 0.25), and to wake one on
another core costs as much as the write. In a row they find the reader at work, and the code for it in the cache.
"""

import asyncio
from typing import Protocol


class Sender(Protocol):
    """What has something to send."""

    def flush(self) -> None:
        """Send what there is; must not raise."""


class Outbox:
    """The senders of one loop that have something to send at the end of this turn, in the order in which they came."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._senders: list[Sender] = []

    def put(self, sender: Sender) -> None:
        """Have *sender* flushed when this turn's events are served; what it is asked to send by then goes with it."""
        if not self._senders:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._empty)
        self._senders.append(sender)

    def _empty(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.flush()

    def __repr__(self) -> str:
        return f"<Outbox {len(self._senders)} senders>"
