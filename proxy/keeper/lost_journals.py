"""Reads the journal that a worker leaves when it ends: only that shows what a killed worker had in flight."""

from proxy.clock import Clock
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.records.shipper import Shipper

_AGAIN_SECONDS = 1.0


class LostJournals:
    """Reads each ended worker's journal with *shipper*, tells *answers*, and retries what could not be read."""

    def __init__(self, *, shipper: Shipper, answers: WorkerAnswers, clock: Clock) -> None:
        self._shipper = shipper
        self._answers = answers
        self._clock = clock
        self._unread: set[str] = set()

    async def ended(self, worker: str) -> None:
        """Read the journal of *worker*, which has ended."""
        self._answers.ended(worker)
        if not await self._read(worker):
            self._unread.add(worker)

    async def run(self) -> None:
        """Retry periodically, until cancelled."""
        while True:
            await self._clock.sleep(_AGAIN_SECONDS)
            for worker in tuple(self._unread):
                if await self._read(worker):
                    self._unread.discard(worker)

    async def _read(self, worker: str) -> bool:
        read = await self._shipper.worker_ended(worker)
        if read:
            self._answers.recovered(worker)
        return read

    def __repr__(self) -> str:
        return f"<LostJournals {len(self._unread)} not read>"
