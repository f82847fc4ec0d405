"""What a worker tells its keeper of migrated exchanges: retry pins, before the caller is told; and outcomes."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin
from proxy.migration.pin_rows import pin_row

# Bounds what a caller waits for its answer so that its next try finds the pin everywhere.
KEEP_SECONDS = 1.0
# Nothing is lost while a fallback waits to be agreed on, and the bank's 401 is what its caller gets without.
CLAIM_SECONDS = 5.0
# What went well can wait; what did not may be what the guard has to see.
_BATCH_SECONDS = 0.5
_MOST_ROWS = 500
_NOTABLE = frozenset({"refused", "failed", "forbidden", "client_error"})


class MigrationReporter:
    """One worker's; *send* takes messages for the keeper."""

    def __init__(self, *, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._asked = 0
        self._waiting: list[asyncio.Future[bool]] = []
        self._rows: list[ExchangeOutcome] = []
        self._batch: asyncio.TimerHandle | None = None
        self._abandoned = False

    async def keep(self, digest: str, pin: RetryPin) -> bool:
        """Return once *pin* is on disk and in every process, so that retries of its exchange find it.

        False if that can't be done in a second: pins count as unreadable then until it can.
        """
        return await self._ask("pin", pin_row(digest, pin), KEEP_SECONDS)

    async def claim(self, digest: str, pin: RetryPin) -> bool:
        """Return once every process has agreed that requests with this digest go where *pin* says; False if not."""
        return await self._ask("claim", pin_row(digest, pin), CLAIM_SECONDS)

    async def news(self, seconds: float) -> None:
        """Return once `changed` was called, or *seconds* have passed."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(waiting)
        timer = loop.call_later(seconds, _give_up, waiting)
        try:
            await waiting
        finally:
            timer.cancel()

    def changed(self) -> None:
        """Let those go on who wait for news: the keeper has said something of migrations."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            _give_up(one)

    def release(self, digest: str, pin: RetryPin) -> None:
        """Let *pin*, which ends soon, take the place of one that was made while its exchange was in flight."""
        self._send({"type": "release", "row": pin_row(digest, pin)})

    async def _ask(self, kind: str, row: list[Any], seconds: float) -> bool:
        if self._abandoned:
            return False
        self._asked += 1
        asked = self._asked
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        self._answers[asked] = answer
        self._send({"type": kind, "ask": asked, "row": row})
        # Not asyncio.timeout, which needs a task: requests are driven without one.
        timer = loop.call_later(seconds, _give_up, answer)
        try:
            return await answer
        finally:
            timer.cancel()
            self._answers.pop(asked, None)

    def ended(self, row: ExchangeOutcome) -> None:
        """Take what came of an exchange; never waits."""
        self._rows.append(row)
        if row.outcome in _NOTABLE or row.refused or len(self._rows) >= _MOST_ROWS:
            self.flush()
        elif self._batch is None:
            self._batch = asyncio.get_running_loop().call_later(_BATCH_SECONDS, self.flush)

    def flush(self) -> None:
        """Send what was taken."""
        if self._batch is not None:
            self._batch.cancel()
            self._batch = None
        if self._rows:
            rows, self._rows = self._rows, []
            self._send({"type": "migrated", "rows": rows})

    def hear(self, message: dict[str, Any]) -> None:
        """Take the keeper's answer to a pin."""
        answer = self._answers.pop(message["ask"], None)
        if answer is not None and not answer.done():
            answer.set_result(bool(message["kept"]))

    def abandon(self) -> None:
        """Let nobody wait any longer: the keeper is gone."""
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
