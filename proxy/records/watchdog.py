"""Watches the thread that writes a journal: a hanging disk reports no error, and no request may wait for it."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from proxy.clock import Clock
from proxy.records.journal_writer import JournalWriter, Waiter

# A disk call longer than this puts the journal out of service until it returns: callers give up after some 30 s.
HUNG_SECONDS: Final = 10.0
# Records of finished exchanges, some 16,000: above it no request is sent until the disk has caught up.
MOST_QUEUED_BYTES: Final = 16 * 1024 * 1024
LOOK_SECONDS: Final = 0.25


class Watchdog:
    """States in `trouble` why nothing may be sent, "" if it may; calls *refuse* with overdue waiters and the reason.

    An exchange waits at most *exchange_timeout*, counted from its start, and never longer than `hung_after`. *hung* is
    called when the disk starts to hang. The watchdog runs only while the thread has work.
    """

    def __init__(
        self,
        writer: JournalWriter,
        *,
        exchange_timeout: float,
        clock: Clock,
        refuse: Callable[[Sequence[Waiter], str], None],
        hung: Callable[[], None],
    ) -> None:
        self.trouble = ""
        self.is_hung = False
        self.settled = 0  # waiters that the thread has settled, in the order in which they were expected
        self.hung_after = min(HUNG_SECONDS, exchange_timeout)
        self._exchange_timeout = exchange_timeout
        self._writer = writer
        self._monotonic = clock.monotonic
        self._refuse = refuse
        self._on_hung = hung
        self._expected: deque[tuple[Sequence[Waiter], Sequence[float]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking = False
        self._seen = -1
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Watchdog {self.trouble or 'content'}>"

    def start(self) -> None:
        """Start watching the thread, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self.watch()

    def expect(self, waiters: Sequence[Waiter], started_at: Sequence[float]) -> None:
        """Add *waiters*, in the order in which the thread gets them, and the monotonic start of each one's exchange."""
        self._expected.append((waiters, started_at))
        if not self._looking:
            self.watch()

    def watch(self) -> None:
        """Schedule a check: the thread has new work."""
        if not self._looking and self._loop is not None:
            self._looking = True
            self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = False
        now, turns, queued = self._monotonic(), self._writer.turns, self._writer.queued
        if turns != self._seen:
            self._seen, self._since = turns, now
        busy = turns % 2 == 1
        stuck = now - self._since if busy else 0.0
        was_hung, self.is_hung = self.is_hung, stuck >= self.hung_after
        if self.is_hung:
            self.trouble = f"the disk has not answered for {self.hung_after:g} s"
        elif queued > MOST_QUEUED_BYTES:
            self.trouble = f"{queued // 1048576} MiB of records wait for the disk"
        else:
            self.trouble = ""
        self._forget_settled()
        if stuck:
            self._refuse_late(now)
        if self.is_hung and not was_hung:
            self._on_hung()
        if busy or (queued and not self._writer.ended) or self._expected:
            self.watch()

    def _forget_settled(self) -> None:
        expected = self._expected
        while expected and len(expected[0][0]) <= self.settled:
            self.settled -= len(expected.popleft()[0])

    def _refuse_late(self, now: float) -> None:
        for waiters, started_at in self._expected:
            if self.is_hung:
                self._refuse(waiters, self.trouble)
                continue
            started_by = now - self._exchange_timeout
            late = [waiter for waiter, since in zip(waiters, started_at, strict=True) if since <= started_by]
            if late:
                self._refuse(late, "the disk did not answer within exchange_timeout")
