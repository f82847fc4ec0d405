"""Publishes this replica's pins to the others, and waits until all of them have adopted them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from proxy.clock import Clock
from proxy.migration.pin import RetryPin, merge
from proxy.migration.pin_rows import Pins
from proxy.migration.stores.redis import EntryId, RedisStore
from proxy.stores.redis_client import raise_if_cancelled

# For a pin the asking worker waits one second, for a claim five.
_SHARE_SECONDS = 1.5
_LOOK_SECONDS = 0.01


class PinPublisher:
    """Publishes in batches: what arrives while one batch is sent goes into the next.

    *wrote* is called with the ids of the stream's new entries.
    """

    def __init__(self, *, wrote: Callable[[Sequence[EntryId]], None], clock: Clock) -> None:
        self._wrote = wrote
        self._clock = clock
        self._queue: list[tuple[Pins, asyncio.Future[bool]]] = []
        self._asked = asyncio.Event()

    async def publish(self, pins: Mapping[str, RetryPin]) -> bool:
        """Return True once every serving replica has *pins*; False if that is not confirmed in time."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append((dict(pins), answer))
        self._asked.set()
        try:
            async with asyncio.timeout(_SHARE_SECONDS):
                return await answer
        except TimeoutError:
            return False

    def give_up(self) -> None:
        """Answer all that wait: not confirmed."""
        batch, self._queue = self._queue, []
        _settle(batch, confirmed=False)

    async def run(self, store: RedisStore, *, me: str) -> None:
        """Publish what is asked for to *store* as the replica *me*, until it fails; then raise StoreAway."""
        while True:
            raise_if_cancelled()
            await self._asked.wait()
            self._asked.clear()
            batch, self._queue = self._queue, []
            pins: Pins = {}
            for more, _ in batch:
                merge(pins, more)
            confirmed = False
            try:
                places = await store.add_pins(pins)
                self._wrote(places)
                confirmed = not places or await self._taken_by_all(store, places[-1], me=me)
            finally:
                _settle(batch, confirmed=confirmed)

    async def _taken_by_all(self, store: RedisStore, place: EntryId, *, me: str) -> bool:
        """Wait until every other replica has read up to *place*; return False on timeout."""
        end = self._clock.monotonic() + _SHARE_SECONDS
        while self._clock.monotonic() < end:
            others, _ = await store.replicas()
            if all(beat.taken >= place for name, beat in others.items() if name != me):
                return True
            await self._clock.sleep(_LOOK_SECONDS)
        return False

    def __repr__(self) -> str:
        return f"<PinPublisher {len(self._queue)} waiting>"


def _settle(batch: list[tuple[Pins, asyncio.Future[bool]]], *, confirmed: bool) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_result(confirmed)
