"""This replica at the stream of retry pins in Redis: what it has read there, and what must not be lost of it."""

from collections.abc import Iterable

from proxy.clock import Clock
from proxy.keeper.replica_claims import ReplicaClaims
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.seen_entries import SeenEntries
from proxy.migration.pin import PASSING, RetryPin, merge
from proxy.migration.pin_ends import adds, shortened_by_clocks
from proxy.migration.pin_rows import Pins
from proxy.migration.stores.redis import START, EntryId, RedisStore
from proxy.stores.redis_client import StoreAway

LOST = "it has lost its data"


class PinStream:
    """Brings the stream's entries to *pins* and *claims*; *taken* is the place of the last one. Raises StoreAway."""

    def __init__(self, pins: RetryPins, claims: ReplicaClaims, *, clock: Clock) -> None:
        self._pins = pins
        self._claims = claims
        self._clock = clock
        self._seen = SeenEntries()
        self.taken: EntryId = START

    @property
    def entries(self) -> int:
        """Return how many entries of the stream this replica has seen."""
        return self._seen.since(0)

    def wrote(self, places: Iterable[EntryId]) -> None:
        """Note entries that this replica has added."""
        self._seen.wrote(places)

    async def merge(self, store: RedisStore) -> None:
        """Adopt all pins of the stream, and add ours that are missing there."""
        there: Pins = {}
        stale: dict[EntryId, Pins] = {}
        in_use = await store.keys_in_use()
        self._seen = SeenEntries()
        taken = START
        while (found := await store.new_entries(taken, wait=False)).place != taken:
            # With only the first key, as in the last step of a key change, a replica could not read these.
            stale |= {place: pins for place, (key, pins) in found.stale.items() if key not in in_use}
            merge(there, found.pins)
            taken = found.place
            self._seen.read(found.places)
            await self._adopt(found.pins)
        now = self._clock.now()
        for digest in {digest for pins in stale.values() for digest in pins}:
            del there[digest]
        for part in self._pins.parts():
            missing = {d: p for d, p in part.items() if p.until > now and adds(there.get(d), p)}
            self._seen.wrote(await store.add_pins(missing))
        if stale:
            await store.remove([*stale])
            self._seen.remove(stale)
        self.taken = taken

    async def take(self, store: RedisStore, *, wait: bool, me: str) -> bool:
        """Adopt new entries after our position in the stream; return whether there were any."""
        found = await store.new_entries(self.taken, wait=wait)
        if found.place == self.taken:
            return False
        self._seen.read(found.places)
        await self._adopt(found.pins)
        self.taken = found.place
        for claim in found.claims:
            self._claims.on_claim(store, claim, me=me)
        return True

    async def is_complete(self, store: RedisStore) -> bool:
        """Return whether no living replica has seen more entries of the stream than there are."""
        entries, _ = await store.entries()
        alive, _ = await store.replicas()
        return all(beat.entries <= entries for beat in alive.values())

    async def look_for_losses(self, store: RedisStore) -> None:
        """Raise StoreAway if entries of the stream are missing; `merge` then adds them again."""
        seen = self._seen.copy()
        entries, oldest = await store.entries()
        self._seen.forget(oldest)
        if seen.since(oldest) > entries:
            raise StoreAway(LOST)

    async def _adopt(self, pins: Pins) -> None:
        now = self._clock.now()
        new = {d: p for d, p in pins.items() if p.until > now and not shortened_by_clocks(self._known_passing(d, p), p)}
        await self._pins.keep(new, replicate=False)

    def _known_passing(self, digest: str, pin: RetryPin) -> RetryPin | None:
        return self._pins.get(digest) if pin.reason in PASSING else None

    def __repr__(self) -> str:
        return f"<PinStream {self.entries} entries seen>"
