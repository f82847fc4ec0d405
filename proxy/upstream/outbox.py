"""What one turn of the loop has to send, sent in one go at its end.

To write is also to wake whoever reads. Written as they come up, 20 to 50 us apart, most messages woke a process that
had just gone to sleep (0.74 wake-ups a request; of Envoy, which writes at the end of a turn, 0.25), and to wake one on
another core costs as much as the write. In a row they find the reader at work, and the code for it in the cache.
"""

import asyncio
from typing import Final, Protocol


class Sender(Protocol):
    """What has something to send."""

    def flush(self) -> None:
        """Send what there is; must not raise."""


# As many senders a turn, on a moving average, are worth gathering: waiting costs a lone message some 20 us.
_MANY: Final = 3


class Outbox:
    """The senders of one loop that have something to send: where turns are busy it goes out at their end, in order.

    Where they are not, at once.
    """

    def __init__(self) -> None:
        self._senders: list[Sender] = []
        self._usual = 0

    def put(self, sender: Sender) -> None:
        """Have *sender* flushed, now or when this turn's events are served, with all that it is given until then."""
        if not self._senders:
            asyncio.get_running_loop().call_soon(self._empty)
        self._senders.append(sender)
        if self._usual < _MANY:
            sender.flush()

    def _empty(self) -> None:
        senders, self._senders = self._senders, []
        self._usual = (self._usual + len(senders)) // 2
        flushed = 0
        try:
            for sender in senders:
                flushed += 1
                sender.flush()
        finally:
            for sender in senders[flushed:]:  # whatever broke, it is not theirs
                self.put(sender)

    def __repr__(self) -> str:
        return f"<Outbox {len(self._senders)} senders, usually {self._usual}>"
