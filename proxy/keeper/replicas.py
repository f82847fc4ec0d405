"""This replica among the others: adopts their decisions and publishes its own, as soon as possible."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.pin_publisher import PinPublisher
from proxy.keeper.pin_stream import LOST, PinStream
from proxy.keeper.replica_claims import ReplicaClaims
from proxy.keeper.replica_policies import ReplicaPolicies
from proxy.keeper.replica_preparation import ReplicaPreparation
from proxy.keeper.replication import ReplicasUnreachable, Replication
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.side import Policy
from proxy.migration.state import NEW, MigrationState
from proxy.migration.stores.redis import CONTACT_SECONDS, LEASE_SECONDS, Beat, EntryId, RedisStore
from proxy.stores.redis_client import StoreAway, ValueBroken, raise_if_cancelled

# A change reaches all replicas within two seconds: this, Redis and the links together take less than one.
_TOUCH_SECONDS = 0.25
_AGAIN_SECONDS = 0.25
_TRIES = 3
# After an outage other replicas may hold unpublished pins; they need as long to reconnect.
_SETTLING_SECONDS = 1.0
# The others wait for a silent replica for PIN_SECONDS, unless forced; without contact for longer, less a margin, what
# this one knows may be no longer true.
_KNOWN_SECONDS = PIN_SECONDS - 60.0
_UNSURE = (
    "the other replicas may have gone on without this one, so requests with a retry key wait until it has been reached"
)
_BACK = "it is back, and other replicas may have newer values"

# Opens the store; raises StoreAway.
Open = Callable[[], Awaitable[RedisStore]]


class Replicas(Replication):
    """The state shared by all replicas, for *weights* and *pins*; *host* and *entropy* make this replica's name.

    While Redis is unreliable the known state stays in force, and retry pins count as unreadable, since others may have
    pins that are unknown here.
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
        self._away = "it was not queried yet"
        self._was_away = False
        self._settled_at = 0.0
        # Since then, or later, the others have not heard of this replica, whose knowledge was complete.
        self._contact = clock.monotonic()
        self._missed: EntryId | None = None  # the newest entry at the end of a silence, until it was read
        self._preparation = ReplicaPreparation(weights, store=self._reached, clock=clock)
        self._policies = ReplicaPolicies()
        self._claims = ReplicaClaims(pins, clock=clock, entropy=entropy)
        self._stream = PinStream(pins, self._claims, clock=clock)
        self._publisher = PinPublisher(wrote=self._stream.wrote, clock=clock)
        self._publish_asked = asyncio.Event()
        pins.replicate = self.replicate
        pins.replicate_claim = self._claim

    alone = False

    @property
    def problem(self) -> str:
        """Return why Redis is unreliable, "" if it is reliable."""
        unsure = f"; {_UNSURE}" if self._weights.unsynced else ""
        return f"the Redis of [state]: {self._away}{unsure}" if self._away else ""

    @property
    def others(self) -> tuple[str, ...]:
        """Return the names of the other replicas that were alive when last asked, a quarter of a second ago."""
        return self._policies.alive

    async def begin(self) -> None:
        """Load the shared state before serving; if unreachable, the last known state stays in force."""
        # The name stays the same after a restart, so the others see that its requests in flight are known again.
        self._name = self._weights.document.replica or f"{self._host}-{self._entropy.token_bytes(8).hex()}"
        # However this replica ended: the others may have changed the weight without it (an orderly stop, `--force`, a
        # day without contact), so what it knew may be no longer true.
        self._weights.unsynced = True
        try:
            await self._join()
        except StoreAway as away:
            await self._leave(str(away))

    async def run(self) -> None:
        """Stay connected, until cancelled; retry an unreachable Redis four times a second."""
        try:
            while True:
                raise_if_cancelled()  # `_join` and `_leave` may raise StoreAway in place of the cancellation
                try:
                    store = self._store or await self._join()
                    raise_if_cancelled()
                    await self._stay(store)
                except StoreAway as away:
                    await self._leave(str(away))
                self._doubt_old_knowledge()
                await self._clock.sleep(_AGAIN_SECONDS)
        finally:
            await self.close()

    def _doubt_old_knowledge(self) -> None:
        """Note if the others may have gone on without this replica since its last contact with Redis."""
        if not self._weights.unsynced and self._clock.monotonic() - self._contact > _KNOWN_SECONDS:
            self._weights.unsynced = True
            self._weights.report_change()

    async def close(self) -> None:
        """Leave in order, so that no replica waits for this one."""
        store = self._store
        if store is not None:
            with contextlib.suppress(StoreAway):  # then the others wait for it
                await store.leave(self._name)
        await self._leave("this replica has left")

    def _reached(self) -> RedisStore:
        if self._store is None:
            raise ReplicasUnreachable(self.problem)
        return self._store

    async def put(self, name: str, state: MigrationState, *, before: MigrationState) -> bool:
        """Replace *before* by *state*; return False if the current state differs. Raise ReplicasUnreachable."""
        store = self._reached()
        try:
            for _ in range(_TRIES):
                sealed, theirs = await store.states()
                if theirs.get(name, NEW) != before:
                    self.publish_now()
                    return False
                if await store.swap(sealed, {**theirs, name: state}):
                    return True
        except StoreAway as away:
            # The write may have succeeded; then all replicas adopt it, including this one.
            raise ReplicasUnreachable(
                f"the Redis of [state]: {away}; `payproxy migration status` says what is in force"
            ) from None
        return False

    def publish_now(self) -> None:
        """Publish new states to the other replicas at once."""
        self._publish_asked.set()

    async def settled(self, states: Mapping[str, str]) -> bool:
        """Wait until every replica has prepared for *states*."""
        self._preparation.asked |= states
        self.publish_now()
        return await self._preparation.settled(states, me=self._name)

    @property
    def silent(self) -> str:
        """Return which replicas the others have not heard of, in words, "" if none."""
        return self._preparation.silent

    def gone_without(self, state: str) -> tuple[str, ...]:
        """Return the replicas that the forced change to *state* went on without, and that are not back."""
        return tuple(one for one in self._preparation.gone_without.get(state, ()) if one not in self._policies.alive)

    async def give_up_lost(self, state: str) -> tuple[str, ...]:
        """Remove the lost replicas from the list."""
        return await self._preparation.give_up_lost(state)

    async def decide_by(self, *policies: Mapping[str, Policy]) -> None:
        """Publish the policies, by migration, that workers here decide by, and fetch those of other replicas.

        Both publish first, so of two replicas that change their tables at once one sees the other.
        """
        self._policies.decide_by(policies)
        store = self._store
        if store is not None:
            with contextlib.suppress(StoreAway):
                await store.beat(self._name, self._own_beat())
                await self._fetch_policies(store)

    def policies(self) -> Mapping[str, list[Policy]]:
        """Return, by migration, the policies of other replicas' workers, as last received."""
        return self._policies.others

    async def _fetch_policies(self, store: RedisStore) -> None:
        changed = await self._policies.fetch(store, me=self._name)
        await self._preparation.note_silent(store, self._policies.lost)
        if changed:
            self._weights.report_change()

    async def replicate(self, pins: Mapping[str, RetryPin]) -> bool:
        """Return True once every serving replica has *pins*; False if that is not confirmed in time."""
        if self._store is None:
            return False  # `_join` publishes them
        return await self._publisher.publish(pins)

    async def _claim(self, digest: str, pin: RetryPin) -> bool:
        return (
            not self._away
            and self._store is not None
            and await self._claims.ask(self._store, digest, pin, me=self._name)
        )

    async def _join(self) -> RedisStore:
        """Merge the shared state and ours; raise StoreAway."""
        store = await self._open()
        try:
            for one in await store.repair():
                self._weights.write_line(f"migrations: {one}: it is written again from what this replica knows")
            with contextlib.suppress(ValueBroken):
                await store.states()  # a replica that can't read the states must not write there
            await self._stream.merge(store)
            await self._weights.save_replica(self._name)
            started = self._clock.monotonic()
            await store.beat(self._name, self._own_beat())
            await self._agree(store)
            await self._fetch_policies(store)
            complete = await self._stream.is_complete(store)
            # Read what another replica has re-added meanwhile, before it reported a loss.
            while await self._stream.take(store, wait=False, me=self._name):
                pass
        except BaseException:
            await store.close()
            raise
        self._store = store
        self._contact, self._missed = started, None
        # An entry that is gone is re-added by the replica that has seen it.
        self._away = _BACK if self._was_away or not complete else ""
        self._weights.unsynced = self._weights.unsynced and bool(self._away)
        self._settled_at = self._clock.monotonic() + _SETTLING_SECONDS
        self._weights.report_change()
        return store

    async def _stay(self, store: RedisStore) -> None:
        """Keep up with *store* until it fails; then raise StoreAway."""
        # No TaskGroup: if its tasks fail while it is cancelled, it raises their errors and drops the cancellation.
        work = self._touch(store), self._follow(store), self._publisher.run(store, me=self._name)
        tasks = [asyncio.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _touch(self, store: RedisStore) -> None:
        """Send our heartbeat and merge states four times a second, or at once after `publish_now`."""
        while True:
            raise_if_cancelled()
            started = self._clock.monotonic()
            await self._stream.look_for_losses(store)
            await self._beat(store)
            if self._missed is None and started - self._contact > LEASE_SECONDS:
                self._missed = await store.last_place()  # the others did not wait until this was read here
            await self._fetch_policies(store)
            await self._agree(store)
            self._note_contact(started)
            settled = self._clock.monotonic() >= self._settled_at
            if self._away and settled and await self._stream.is_complete(store):
                self._away = ""
                self._weights.unsynced = False
                self._weights.report_change()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TOUCH_SECONDS):
                    await self._publish_asked.wait()
            self._publish_asked.clear()

    def _note_contact(self, started: float) -> None:
        """Note that at monotonic *started* and later nobody went on without this replica, if it knows all."""
        if self._missed is not None and self._stream.taken < self._missed:
            return
        self._missed = None
        self._contact = started
        if not self._away:
            self._weights.contact_until = started + CONTACT_SECONDS
            self._weights.report_change()

    async def _agree(self, store: RedisStore) -> None:
        for _ in range(_TRIES):
            broken = ""
            try:
                before, theirs = await store.states()
            except ValueBroken as error:
                # The replicas rewrite it from what they know: each adds what is newer here (`Weights.merge`).
                before, theirs, broken = error.value, {}, str(error)
            newer = await self._weights.merge(theirs)
            if not newer and not broken and not (self._store is None and await store.is_stale(before)):
                return
            if broken:
                self._weights.write_line(f"migrations: {broken}: it is written again from what this replica knows")
            if await store.swap(before, {**theirs, **newer}):
                await self._weights.shared(newer)
                return

    async def _follow(self, store: RedisStore) -> None:
        """Adopt other replicas' pins as they arrive and confirm them: the senders wait for it."""
        while True:
            raise_if_cancelled()
            if await self._stream.take(store, wait=True, me=self._name):
                await self._beat(store)

    def _own_beat(self) -> Beat:
        unsettled = self._weights.unsettled
        states = self._weights.document.states
        prepared = {name: state.identity for name, state in states.items() if name not in unsettled}
        return Beat(
            taken=self._stream.taken,
            entries=self._stream.entries,
            prepared={**self._preparation.asked, **prepared},
            policies=self._policies.own,
        )

    async def _beat(self, store: RedisStore) -> None:
        if not await store.beat(self._name, self._own_beat()):
            raise StoreAway(LOST)

    async def _leave(self, cause: str) -> None:
        store, self._store = self._store, None
        self._policies.alive = ()
        self._away = cause
        self._was_away = True
        # An outage is noticed sooner: this replica was frozen, and others may have gone on without it.
        if store is not None and self._clock.monotonic() - self._contact > CONTACT_SECONDS:
            self._weights.unsynced = True
        self._weights.contact_until = 0.0
        self._publisher.give_up()
        self._weights.report_change()
        if store is not None:
            with contextlib.suppress(StoreAway):
                await store.close()

    def __repr__(self) -> str:
        return f"<Replicas {self._name} {self._away or 'in touch'}>"
