"""What a worker tells its keeper of migrated exchanges: retry pins, before the caller is told; and outcomes."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.clock import Clock
from proxy.migration.pin import PIN_SECONDS
from proxy.migration.row import MigratedRow

# Bounds what a caller waits for its answer so that its next try finds the pin everywhere.
KEEP_SECONDS = 1.0
# What went well can wait; what did not may be what the guard has to see.
_BATCH_SECONDS = 0.5
_MOST_ROWS = 500
_NOTABLE = frozenset({"refused", "failed", "forbidden", "client_error"})


class WorkerShift:
    """One worker's; *send* takes messages for the keeper."""

    def __init__(self, *, send: Callable[[dict[str, Any]], None], clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._asked = 0
        self._rows: list[MigratedRow] = []
        self._batch: asyncio.TimerHandle | None = None
        self._abandoned = False

    async def keep(self, digest: str, side: str, upstream: str) -> bool:
        """Return once the exchange's retry key is pinned to *side* and *upstream*, on disk and in every worker.

        False if that can't be done in a second: pins count as unreadable then until it can.
        """
        if self._abandoned:
            return False
        self._asked += 1
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers[self._asked] = answer
        until = self._clock.now() + PIN_SECONDS
        self._send(
            {"type": "pin", "ask": self._asked, "digest": digest, "side": side, "upstream": upstream, "until": until}
        )
        asked = self._asked
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                return await answer
        except TimeoutError:
            return False
        finally:
            self._answers.pop(asked, None)

    def ended(self, row: MigratedRow) -> None:
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
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(False)
        self._answers.clear()

    def __repr__(self) -> str:
        return f"<WorkerShift {len(self._answers)} asked, {len(self._rows)} rows>"
