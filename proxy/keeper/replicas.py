"""This replica among the others: what they decide is taken over, what was decided here is told, as soon as can be."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxy.clock import Clock, timestamp
from proxy.entropy import Entropy
from proxy.keeper.replica_claims import ReplicaClaims
from proxy.keeper.replication import ReplicasUnreachable
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.seen_entries import SeenEntries
from proxy.keeper.weights import Weights
from proxy.migration.pin import RetryPin, merge, merged
from proxy.migration.pin_rows import Pins
from proxy.migration.state import NEW, State
from proxy.migration.stores.redis import START, Beat, Place, RedisStore, StoreAway, ValueBroken

# A change is everywhere within two seconds: this, the Redis and the links together take less than one.
_TOUCH_SECONDS = 0.25
_AGAIN_SECONDS = 0.25
_LOOK_SECONDS = 0.01
# What a replica that has not told what it has in flight is waited for before that is said.
_TOLD_SECONDS = 0.8
# Of pins the worker that asks waits for one second, of a claim for five.
_SHARE_SECONDS = 1.5
_TRIES = 3
# --force holds for replicas that turn out to be gone within this: they count as living for LEASE_SECONDS.
_FORCED_SECONDS = 10.0
# After an outage others may have pinned what nobody could be told: as long as they need to be back too.
_SETTLING_SECONDS = 1.0
_BACK = "it is back, and other replicas may have more to tell"
_LOST = "it has lost what was there"

# Opens the store; raises StoreAway.
Open = Callable[[], Awaitable[RedisStore]]


class Replicas:
    """What all replicas share, for *weights* and *pins*; *host* and *entropy* make this replica's name.

    While the Redis can't be relied on, what is known holds, and retry pins count as unreadable, since others may have
    pinned what we don't hear of.
    """

    def __init__(
        self, open_store: Open, *, host: str, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy
    ) -> None:
        self._open = open_store
        self._host = host
        self._name = ""
        self._weights = weights
        self._pins = pins
        self._clock = clock
        self._entropy = entropy
        self._store: RedisStore | None = None
        self._away = "it was not asked yet"
        self._was_away = False
        self._settled_at = 0.0
        self._taken: Place = START
        self._seen = SeenEntries()
        self._prepared: dict[str, str] = {}
        self._forced = ""  # the identity of the state to which an operator forced a change
        self._forced_until = 0.0
        self._policies: dict[str, list[dict[str, Any]]] = {}
        self._others: dict[str, list[dict[str, Any]]] = {}
        self._claims = ReplicaClaims(pins, clock=clock, entropy=entropy)
        self._hurried = asyncio.Event()
        self._queue: list[tuple[Pins, asyncio.Future[bool]]] = []
        self._sharing = asyncio.Event()
        pins.share = self.share
        pins.share_claim = self._claim

    alone = False

    @property
    def problem(self) -> str:
        """Return why the Redis can't be relied on, "" if it can."""
        return f"the Redis of [state]: {self._away}" if self._away else ""

    async def begin(self) -> None:
        """Take what is shared before anyone is served; where that can't be had now, the last known holds."""
        # The same after a restart: the others know then that what it had in flight is known again.
        document = self._weights.document
        self._name = document.replica or f"{self._host}-{self._entropy.token_bytes(8).hex()}"
        # The name is written down with the first join: before it, and after an orderly stop, nothing is known of what
        # others have sent.
        self._weights.unmet = not document.replica or document.left
        try:
            await self._join()
        except StoreAway as away:
            await self._leave(str(away))

    async def run(self) -> None:
        """Stay in touch, until cancelled; a Redis that is away is tried again four times a second."""
        try:
            while True:
                _heed_cancellation()  # what `_join` and `_leave` raise may have taken the place of it
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
            await self._weights.call(self._name, left=True)
            try:
                await store.leave(self._name)
            except StoreAway:  # the others wait for it then
                await self._weights.call(self._name, left=False)
        await self._leave("this replica has left")

    async def put(self, name: str, state: State, *, before: State) -> bool:
        """Put *state* in place of *before*; False if something else stands there. Raises ShareAway."""
        if self._store is None:
            raise ReplicasUnreachable(self.problem)
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
            raise ReplicasUnreachable(
                f"the Redis of [state]: {away}; `payproxy migration status` says what is in force"
            ) from None
        return False

    def hurry(self) -> None:
        """Tell the others at once what they don't know."""
        self._hurried.set()

    async def settled(self, states: Mapping[str, str]) -> bool:
        """Return once no other replica sends by what was in force before *states*, identities by migration.

        Their keys in flight that move are pinned then, and known here. False once other states are in force here, as
        where the guards of two replicas act at once. Raises ShareAway while nothing can be said.
        """
        self._prepared |= states
        self.hurry()
        end = self._clock.monotonic() + _TOLD_SECONDS
        while True:
            store = self._store
            if store is None:
                raise ReplicasUnreachable(self.problem)
            try:
                living, lost = await store.replicas()
            except StoreAway as away:
                raise ReplicasUnreachable(f"the Redis of [state]: {away}") from None
            late = [
                name
                for name, beat in living.items()
                if name != self._name and any(beat.prepared.get(one) != state for one, state in states.items())
            ]
            if any(self._weights.state(name).identity != state for name, state in states.items()):
                return False
            if lost and self._forced in states.values() and self._clock.monotonic() < self._forced_until:
                for name in lost:
                    await store.forget(name)
                self._weights.say(f"migrations: goes on without replica {', '.join(sorted(lost))}, as was asked for")
                continue
            if not late and not lost:
                return True
            if lost or self._clock.monotonic() > end:
                raise ReplicasUnreachable(_missing(late, lost))
            await self._clock.sleep(_LOOK_SECONDS)

    async def decide_by(self, *policies: Mapping[str, dict[str, Any]]) -> None:
        """Tell the others by which policies, by migration, workers here decide, and hear by which theirs do.

        Of two replicas that change their tables at once one hears of the other: both tell first.
        """
        names = {name for some in policies for name in some}
        self._policies = {name: [some[name] for some in policies if name in some] for name in names}
        store = self._store
        if store is not None:
            with contextlib.suppress(StoreAway):
                await store.beat(self._name, self._own_beat())
                await self._hear_others(store)

    def policies(self) -> Mapping[str, list[dict[str, Any]]]:
        """Return by migration the policies by which workers of other replicas decide, as last heard."""
        return self._others

    async def _hear_others(self, store: RedisStore) -> None:
        living, _ = await store.replicas()
        others: dict[str, list[dict[str, Any]]] = {}
        for replica, beat in sorted(living.items()):
            for name, policies in beat.policies.items():
                known = others.setdefault(name, [])
                if replica != self._name:
                    known += [policy for policy in policies if policy not in known]
        if others != self._others:
            self._others = others
            self._weights.look()

    async def give_up_lost(self, state: str) -> tuple[str, ...]:
        """Wait no longer for replicas that went without leaving, and return their names; raises ShareAway.

        The change to *state* goes on without those too that are found to be gone meanwhile; no other change does.
        """
        if self._store is None:
            raise ReplicasUnreachable(self.problem)
        self._forced, self._forced_until = state, self._clock.monotonic() + _FORCED_SECONDS
        try:
            _, lost = await self._store.replicas()
            for name in lost:
                await self._store.forget(name)
        except StoreAway as away:
            raise ReplicasUnreachable(f"the Redis of [state]: {away}") from None
        return tuple(lost)

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

    async def _claim(self, digest: str, pin: RetryPin) -> bool:
        return (
            not self._away
            and self._store is not None
            and await self._claims.ask(self._store, digest, pin, me=self._name)
        )

    async def _join(self) -> RedisStore:
        """Bring together what is there and what is here; raises StoreAway."""
        store = await self._open()
        try:
            for one in await store.repair():
                self._weights.say(f"migrations: {one}: it is written again by what this replica knows")
            with contextlib.suppress(ValueBroken):
                await store.states()  # whoever can't read what is there says nothing there
            there: Pins = {}
            stale: dict[Place, Pins] = {}
            in_use = await store.keys_in_use()
            self._seen = SeenEntries()
            taken = START
            while (found := await store.news(taken, wait=False)).place != taken:
                # A replica that has the first key alone, as in the last round of a change of keys, could not read them.
                stale |= {place: pins for place, (key, pins) in found.stale.items() if key not in in_use}
                merge(there, found.pins)
                taken = found.place
                self._seen.read(found.places)
                await self._adopt(found.pins)
            now = self._clock.now()
            for digest in {digest for pins in stale.values() for digest in pins}:
                del there[digest]
            for part in self._pins.parts():
                missing = {d: p for d, p in part.items() if p.until > now and merged(there.get(d), p) is not None}
                self._seen.wrote(await store.add_pins(missing))
            if stale:
                await store.remove([*stale])
                self._seen.remove(stale)
            self._taken = taken
            await self._weights.call(self._name, left=False)
            await store.beat(self._name, self._own_beat())
            await self._agree(store)
            await self._hear_others(store)
            complete = await self._is_complete(store)
            # What another replica has brought again meanwhile, before it said that there is less than it had seen.
            while await self._take(store, wait=False):
                pass
        except BaseException:
            await store.close()
            raise
        self._store = store
        # What another replica has seen there and is gone, that one brings again.
        self._away = _BACK if self._was_away or not complete else ""
        self._weights.unmet = self._weights.unmet and bool(self._away)
        self._settled_at = self._clock.monotonic() + _SETTLING_SECONDS
        self._weights.look()
        return store

    async def _is_complete(self, store: RedisStore) -> bool:
        """Return whether no replica that lives has seen more entries of the stream than there are."""
        entries, _ = await store.entries()
        living, _ = await store.replicas()
        return all(beat.entries <= entries for beat in living.values())

    async def _take(self, store: RedisStore, *, wait: bool) -> bool:
        """Take over what has come behind our place in the stream, if anything; return whether there was something."""
        found = await store.news(self._taken, wait=wait)
        if found.place == self._taken:
            return False
        self._seen.read(found.places)
        await self._adopt(found.pins)
        self._taken = found.place
        for claim in found.claims:
            self._claims.hear(store, claim, me=self._name)
        return True

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
            await self._look_for_losses(store)
            await self._beat(store)
            await self._hear_others(store)
            await self._agree(store)
            settled = self._clock.monotonic() >= self._settled_at
            if self._away and settled and await self._is_complete(store):
                self._away = ""
                self._weights.unmet = False
                self._weights.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TOUCH_SECONDS):
                    await self._hurried.wait()
            self._hurried.clear()

    async def _look_for_losses(self, store: RedisStore) -> None:
        """Raise StoreAway where entries of the stream are gone that must be there: `_join` brings them again then."""
        seen = self._seen.copy()
        entries, oldest = await store.entries()
        self._seen.forget(oldest)
        if seen.since(oldest) > entries:
            raise StoreAway(_LOST)

    async def _agree(self, store: RedisStore) -> None:
        for _ in range(_TRIES):
            broken = ""
            try:
                before, theirs = await store.states()
            except ValueBroken as error:
                # It is written again by what the replicas know: each brings what is newer here (`Weights.meet`).
                before, theirs, broken = error.value, {}, str(error)
            to_tell = await self._weights.meet(theirs)
            if not to_tell and not broken and not (self._store is None and await store.is_stale(before)):
                return
            if broken:
                self._weights.say(f"migrations: {broken}: it is written again by what this replica knows")
            if await store.swap(before, {**theirs, **to_tell}):
                await self._weights.shared(to_tell)
                return

    async def _follow(self, store: RedisStore) -> None:
        """Take over the pins of others as they come, and say so: they wait for it."""
        while True:
            _heed_cancellation()
            if await self._take(store, wait=True):
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
                merge(pins, more)
            told = False
            try:
                places = await store.add_pins(pins)
                self._seen.wrote(places)
                told = not places or await self._taken_by_all(store, places[-1])
            finally:
                _settle(batch, told=told)

    async def _taken_by_all(self, store: RedisStore, place: Place) -> bool:
        """Return whether every other replica has read up to *place*, giving them time for it."""
        end = self._clock.monotonic() + _SHARE_SECONDS
        while self._clock.monotonic() < end:
            others, _ = await store.replicas()
            if all(beat.taken >= place for name, beat in others.items() if name != self._name):
                return True
            await self._clock.sleep(_LOOK_SECONDS)
        return False

    async def _adopt(self, pins: Pins) -> None:
        now = self._clock.now()
        new = {d: pin for d, pin in pins.items() if pin.until > now and merged(self._pins.get(d), pin) is not None}
        if new:
            await self._pins.keep(new, share=False)

    def _own_beat(self) -> Beat:
        unsettled = self._weights.unsettled
        states = self._weights.document.states
        prepared = {name: state.identity for name, state in states.items() if name not in unsettled}
        return Beat(
            taken=self._taken,
            entries=self._seen.since(0),
            prepared={**self._prepared, **prepared},
            policies=self._policies,
        )

    async def _beat(self, store: RedisStore) -> None:
        if not await store.beat(self._name, self._own_beat()):
            raise StoreAway(_LOST)

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


def _missing(late: list[str], lost: Mapping[str, float]) -> str:
    """Return for which replicas a change waits."""
    if not lost:
        return f"replica {', '.join(late)} has not said yet what it has in flight"
    gone = ", ".join(f"{name} (since {timestamp(at)[:19]}Z)" for name, at in sorted(lost.items()))
    return (
        f"replica {gone} went without stopping in order, and what it had in flight is known only when it is back with "
        "its data directory; --force with `set` or `rollback` goes on without it"
    )


def _heed_cancellation() -> None:
    """Stop a task whose cancellation the client has dropped: seen with redis-py 8.1, while it connected."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settle(batch: list[tuple[Pins, asyncio.Future[bool]]], *, told: bool) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_result(told)
