"""This replica among the others: what they decide is taken over, what was decided here is told, as soon as can be."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.share import ShareAway, ShareUnusable
from proxy.keeper.weights import Weights
from proxy.migration.pin import RetryPin
from proxy.migration.state import NEW, State
from proxy.migration.stores.pins import Pins
from proxy.migration.stores.redis import START, Place, RedisStore, StoreAway
from proxy.migration.stores.seal import Seal, read_key
from proxy.settings.masked_url import UrlUnusable
from proxy.settings.sections import Settings

# A change is everywhere within two seconds: this, the Redis and the links together take less than one.
_TOUCH_SECONDS = 0.25
_AGAIN_SECONDS = 0.25
_ACK_LOOK_SECONDS = 0.01
# The worker that asks waits one second, for the disk and its fellows too.
_SHARE_SECONDS = 0.8
_TRIES = 3
# After an outage others may have pinned what nobody could be told: as long as they need to be back too.
_SETTLING_SECONDS = 1.0
_BACK = "it is back, and other replicas may have more to tell"

# Opens the store; raises StoreAway.
Open = Callable[[], Awaitable[RedisStore]]


class Replicas:
    """What all replicas share, for *weights* and *pins*; *name* is this replica's, unique for each start of a keeper.

    While the Redis can't be relied on, what is known holds, and retry pins
    count as unreadable, since others may have pinned what we don't hear of.
    """

    def __init__(
        self,
        open_store: Open,
        *,
        name: str,
        weights: Weights,
        pins: RetryPins,
        clock: Clock,
    ) -> None:
        self._open = open_store
        self._name = name
        self._weights = weights
        self._pins = pins
        self._clock = clock
        self._store: RedisStore | None = None
        self._away = "it was not asked yet"
        self._was_away = False
        self._settled_at = 0.0
        self._taken: Place = START
        self._hurried = asyncio.Event()
        self._queue: list[tuple[Pins, asyncio.Future[bool]]] = []
        self._sharing = asyncio.Event()
        pins.share = self.share

    alone = False

    @property
    def problem(self) -> str:
        """Return why the Redis can't be relied on, "" if it can."""
        return f"the Redis of [state]: {self._away}" if self._away else ""

    async def begin(self) -> None:
        """Take what is shared before anyone is served; where that can't be had now, the last known holds."""
        try:
            await self._join()
        except StoreAway as away:
            await self._leave(str(away))

    async def run(self) -> None:
        """Stay in touch, until cancelled; a Redis that is away is tried again four times a second."""
        try:
            while True:
                try:
                    store = self._store or await self._join()
                    _heed_cancellation()
                    await self._stay(store)
                except StoreAway as away:
                    await self._leave(str(away))
                await self._clock.sleep(_AGAIN_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave in order: nobody need wait for this replica."""
        store = self._store
        if store is not None:
            with contextlib.suppress(StoreAway):
                await store.leave(self._name)
        await self._leave("this replica has left")

    async def put(self, name: str, state: State, *, before: State) -> bool:
        """Put *state* in place of *before*; False if something else stands there. Raises ShareAway."""
        if self._store is None:
            raise ShareAway(self.problem)
        try:
            for _ in range(_TRIES):
                sealed, theirs = await self._store.states()
                if theirs.get(name, NEW) != before:
                    self.hurry()
                    return False
                if await self._store.swap(sealed, {**theirs, name: state}):
                    return True
        except StoreAway as away:
            # What was sent may have arrived; then all replicas take it over, this one too.
            raise ShareAway(
                f"the Redis of [state]: {away}; `payproxy migration status` says what is in force"
            ) from None
        return False

    def hurry(self) -> None:
        """Tell the others at once what they don't know."""
        self._hurried.set()

    async def share(self, pins: Mapping[str, RetryPin]) -> bool:
        """Return once every replica that serves has *pins*; False if that can't be said in time."""
        if self._store is None:
            return False  # `_join` brings them
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append((dict(pins), answer))
        self._sharing.set()
        try:
            async with asyncio.timeout(_SHARE_SECONDS):
                return await answer
        except TimeoutError:
            return False

    async def _join(self) -> RedisStore:
        """Bring together what is there and what is here; raises StoreAway."""
        store = await self._open()
        try:
            there: Pins = {}
            taken = START
            while (found := await store.pins(taken, wait=False))[1] != taken:
                there |= found[0]
                taken = found[1]
            await self._adopt(there)
            now = self._clock.now()
            missing = {
                digest: pin for digest, pin in self._pins.pins.items() if there.get(digest) != pin and pin.until > now
            }
            await store.add_pins(missing)
            await store.beat(self._name, taken)
            await self._agree(store)
        except BaseException:
            await store.close()
            raise
        self._store, self._taken = store, taken
        self._away = _BACK if self._was_away else ""
        self._settled_at = self._clock.monotonic() + _SETTLING_SECONDS
        self._weights.look()
        return store

    async def _stay(self, store: RedisStore) -> None:
        """Stay in touch by *store* until that fails; raises StoreAway then."""
        # No TaskGroup: where its tasks fail while it is cancelled, it tells of the failure and drops the cancellation.
        tasks = [asyncio.create_task(one(store)) for one in (self._touch, self._follow, self._pass_on)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _touch(self, store: RedisStore) -> None:
        """Say that we live, and agree on states, four times a second, or at once if `hurry` was called."""
        while True:
            _heed_cancellation()
            await self._beat(store)
            await self._agree(store)
            if self._away and self._clock.monotonic() >= self._settled_at:
                self._away = ""
                self._weights.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TOUCH_SECONDS):
                    await self._hurried.wait()
            self._hurried.clear()

    async def _agree(self, store: RedisStore) -> None:
        for _ in range(_TRIES):
            before, theirs = await store.states()
            to_tell = await self._weights.meet(theirs)
            if not to_tell:
                return
            if await store.swap(before, {**theirs, **to_tell}):
                await self._weights.shared(to_tell)
                return

    async def _follow(self, store: RedisStore) -> None:
        """Take over the pins of others as they come, and say so: they wait for it."""
        while True:
            _heed_cancellation()
            found, place = await store.pins(self._taken, wait=True)
            if place != self._taken:
                await self._adopt(found)
                self._taken = place
                await self._beat(store)

    async def _pass_on(self, store: RedisStore) -> None:
        """Bring our pins to the others: what comes while one batch is on its way goes into the next."""
        while True:
            _heed_cancellation()
            await self._sharing.wait()
            self._sharing.clear()
            batch, self._queue = self._queue, []
            pins: Pins = {}
            for more, _ in batch:
                pins |= more
            told = False
            try:
                told = await self._taken_by_all(store, await store.add_pins(pins))
            finally:
                _settle(batch, told=told)

    async def _taken_by_all(self, store: RedisStore, place: Place) -> bool:
        """Return whether every other replica has read up to *place*, giving them time for it."""
        end = self._clock.monotonic() + _SHARE_SECONDS
        while self._clock.monotonic() < end:
            others = await store.replicas()
            if all(taken >= place for name, taken in others.items() if name != self._name):
                return True
            await self._clock.sleep(_ACK_LOOK_SECONDS)
        return False

    async def _adopt(self, pins: Pins) -> None:
        now = self._clock.now()
        new = {d: pin for d, pin in pins.items() if self._pins.pins.get(d) != pin and pin.until > now}
        if new:
            await self._pins.keep(new, share=False)

    async def _beat(self, store: RedisStore) -> None:
        if not await store.beat(self._name, self._taken):
            raise StoreAway("it has lost what was there")

    async def _leave(self, cause: str) -> None:
        store, self._store = self._store, None
        self._away = cause
        self._was_away = True
        batch, self._queue = self._queue, []
        _settle(batch, told=False)
        self._weights.look()
        if store is not None:
            with contextlib.suppress(StoreAway):
                await store.close()

    def __repr__(self) -> str:
        return f"<Replicas {self._name} {self._away or 'in touch'}>"


def _heed_cancellation() -> None:
    """Stop a task whose cancellation the client has dropped: seen with redis-py 8.1, while it connected."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settle(batch: list[tuple[Pins, asyncio.Future[bool]]], *, told: bool) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_result(told)


def replicas_of(settings: Settings, *, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy) -> Replicas:
    """Return the replica that *settings* make of this instance; raises ShareUnusable."""
    section = settings.state
    try:
        url = section.redis()
        keys = [read_key(Path(file)) for file in section.encryption_key_files]
    except UrlUnusable as error:
        raise ShareUnusable(f"state.url_file: {section.url_file} {error}") from None
    except OSError as error:
        raise ShareUnusable(f"state.encryption_key_files: {error.filename}: {error.strerror}") from None
    if url is None or not keys:
        raise ShareUnusable("[state] names no Redis, or no key to seal with")

    async def opened() -> RedisStore:
        # Read anew each time: a file may have been replaced meanwhile.
        try:
            keys = [await asyncio.to_thread(read_key, Path(file)) for file in section.encryption_key_files]
            fresh = await asyncio.to_thread(section.redis)
        except (OSError, UrlUnusable):
            raise StoreAway("its URL or keys can't be read any more") from None
        seal = Seal(keys, environment=settings.environment, entropy=entropy)
        return RedisStore(fresh or url, ca_file=section.ca_file, environment=settings.environment, seal=seal)

    return Replicas(opened, name=entropy.token_bytes(8).hex(), weights=weights, pins=pins, clock=clock)
