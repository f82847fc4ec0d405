"""Reads the journal that a worker leaves when it ends: only that shows what a killed worker had in flight."""

from typing import NamedTuple

from proxy.clock import Clock
from proxy.events import Observer, RequestsUnrecorded
from proxy.keeper.worker_answers import WorkerAnswers
from proxy.records.shipper import Shipper

_AGAIN_SECONDS = 1.0


class EndedWorker(NamedTuple):
    """A worker that has ended, and how many requests it has begun; those without a record began *since* (epoch)."""

    name: str
    requests: int
    since: float
    until: float


class LostJournals:
    """Reads each ended worker's journal with *shipper*, tells *answers*, and retries what could not be read.

    Requests that a worker has begun and that are not in its journal are reported to *observe*.
    """

    def __init__(self, *, shipper: Shipper, answers: WorkerAnswers, clock: Clock, observe: Observer) -> None:
        self._shipper = shipper
        self._answers = answers
        self._clock = clock
        self._observe = observe
        self._unread: set[EndedWorker] = set()

    def started(self, worker: str) -> None:
        """Count the records of *worker* from now on, before it serves."""
        self._shipper.count(worker)

    async def ended(self, worker: EndedWorker) -> None:
        """Read the journal of *worker*, which has ended."""
        self._answers.ended(worker.name)
        if not await self._read(worker):
            self._unread.add(worker)

    async def run(self) -> None:
        """Retry periodically, until cancelled."""
        while True:
            await self._clock.sleep(_AGAIN_SECONDS)
            for worker in tuple(self._unread):
                if await self._read(worker):
                    self._unread.discard(worker)

    async def _read(self, worker: EndedWorker) -> bool:
        read = await self._shipper.worker_ended(worker.name)
        if read:
            self._answers.recovered(worker.name)
            missing = worker.requests - self._shipper.counted(worker.name)
            if missing > 0:
                self._observe(
                    RequestsUnrecorded(worker=worker.name, count=missing, since=worker.since, until=worker.until)
                )
        return read

    def __repr__(self) -> str:
        return f"<LostJournals {len(self._unread)} not read>"
