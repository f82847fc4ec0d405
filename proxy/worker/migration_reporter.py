"""Sends the keeper retry pins (before the caller is answered) and outcomes of exchanges on migrated routes."""

import asyncio
from collections.abc import Callable, Iterable

from proxy.link.messages import ClaimRequest, Outcomes, PinRelease, PinRequest
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin

# How long an answer may wait for its retry pin to be stored in every process.
KEEP_SECONDS = 1.0
# Waiting for a fallback's claim loses nothing: without the fallback the caller would get the bank's 401.
CLAIM_SECONDS = 5.0
# Successes are batched; failures are sent at once, since the guard may need them.
_BATCH_SECONDS = 0.5
_MOST_ROWS = 500
_NOTABLE = frozenset({"refused", "failed", "forbidden", "client_error"})


Report = PinRequest | PinRelease | ClaimRequest | Outcomes


class MigrationReporter:
    """The reporter of one worker; *send* sends a message to the keeper."""

    def __init__(self, *, send: Callable[[Report], None]) -> None:
        self._send = send
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._asked = 0
        self._waiting: list[asyncio.Future[bool]] = []
        self._rows: list[ExchangeOutcome] = []
        self._batch: asyncio.TimerHandle | None = None
        self._abandoned = False

    async def keep(self, digest: str, pin: RetryPin) -> bool:
        """Return True once *pin* is on disk and known to every process, so that retries of its exchange find it.

        Return False if that takes more than a second: pins then count as unreadable until it succeeds.
        """
        return await self._ask(PinRequest, digest, pin, KEEP_SECONDS)

    async def claim(self, digest: str, pin: RetryPin) -> bool:
        """Return whether every process has agreed that requests with this digest go where *pin* says."""
        return await self._ask(ClaimRequest, digest, pin, CLAIM_SECONDS)

    async def wait_for_change(self, seconds: float) -> None:
        """Return once `changed` is called, or after *seconds*."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(waiting)
        timer = loop.call_later(seconds, _give_up, waiting)
        try:
            await waiting
        finally:
            timer.cancel()

    def changed(self) -> None:
        """Wake all waiters of `wait_for_change`: the keeper has sent a message about migrations."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            _give_up(one)

    def release(self, digest: str, pin: RetryPin) -> None:
        """Replace the pin made while the exchange was in flight by *pin*, which ends soon."""
        self._send(PinRelease(digest, pin))

    def lengthen(self, pins: Iterable[tuple[str, RetryPin]]) -> None:
        """Have *pins* kept, without waiting: those that they replace are still valid for some seconds."""
        for digest, pin in pins:
            self._send(PinRequest(0, digest, pin))

    async def _ask(self, kind: type[PinRequest | ClaimRequest], digest: str, pin: RetryPin, seconds: float) -> bool:
        if self._abandoned:
            return False
        self._asked += 1
        asked = self._asked
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        self._answers[asked] = answer
        self._send(kind(asked, digest, pin))
        # Not asyncio.timeout, which needs a task: requests run without one.
        timer = loop.call_later(seconds, _give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            self._answers.pop(asked, None)

    def ended(self, row: ExchangeOutcome) -> None:
        """Queue the outcome of an exchange; never waits."""
        self._rows.append(row)
        if row.outcome in _NOTABLE or row.refused or len(self._rows) >= _MOST_ROWS:
            self.flush()
        elif self._batch is None:
            self._batch = asyncio.get_running_loop().call_later(_BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Send the queued outcomes."""
        if self._batch is not None:
            self._batch.cancel()
            self._batch = None
        if self._rows:
            rows, self._rows = self._rows, []
            self._send(Outcomes(tuple(rows)))

    def on_answer(self, ask: int, *, kept: bool) -> None:
        """Handle the keeper's answer to a pin or claim."""
        answer = self._answers.pop(ask, None)
        if answer is not None and not answer.done():
            answer.set_result(kept)

    def abandon(self) -> None:
        """Release all waiters: the keeper is gone."""
        self._abandoned = True
        self.changed()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(False)
        self._answers.clear()

    def __repr__(self) -> str:
        return f"<MigrationReporter {len(self._answers)} asked, {len(self._rows)} rows>"


def _give_up(answer: asyncio.Future[bool]) -> None:
    if not answer.done():
        answer.set_result(False)
