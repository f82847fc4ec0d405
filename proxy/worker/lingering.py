"""The lingering close of connections that were answered before the whole request was read: the rest is dropped."""

import asyncio

from proxy.http1.timer import Timer
from proxy.worker.timeouts import CallerTimeouts


class Lingering:
    """Limits lingering connections to *most*: each costs a descriptor, and CPU time to read what is dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._closes: dict[LingeringClose, None] = {}  # ordered by the time of their last bytes

    def __len__(self) -> int:
        return len(self._closes)

    def received(self, close: "LingeringClose") -> None:
        """Register *close*, whose connection has just received bytes; above the limit, end the one idle longest.

        That one has most likely sent everything.
        """
        self._closes.pop(close, None)
        self._closes[close] = None
        if len(self._closes) > self._most:
            next(iter(self._closes)).end()

    def discard(self, close: "LingeringClose") -> None:
        """Remove *close*."""
        self._closes.pop(close, None)

    def __repr__(self) -> str:
        return f"<Lingering {len(self._closes)}/{self._most}>"


class LingeringClose:
    """One connection's: `ended` once nothing came for a while, or it took too long in all."""

    def __init__(self, lingering: Lingering, *, timer: Timer, timeouts: CallerTimeouts) -> None:
        self._lingering = lingering
        self._timer = timer
        self._gap = timeouts.linger_gap
        self._loop = asyncio.get_running_loop()
        self._latest = self._loop.time() + timeouts.linger
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.received()

    def received(self) -> None:
        """Extend the deadline: bytes came, and were dropped."""
        if not self.ended.done():
            self._timer.start(min(self._gap, self._latest - self._loop.time()), self.end)
            self._lingering.received(self)

    def end(self) -> None:
        """Stop reading: the connection is closed then."""
        self._lingering.discard(self)
        if not self.ended.done():
            self.ended.set_result(None)
