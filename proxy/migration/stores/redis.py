"""The state shared by replicas in Redis or Valkey, encrypted: states, retry pins, and each replica's progress.

Keys: `payproxy:ENVIRONMENT:migrations` is one value with all states, `...:pins` a stream of pins and claims,
`...:replicas` a set of ids, `...:replica:ID` the heartbeat of one replica (expires with its lease), `...:lost` since
when replicas are gone that did not leave.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.clock import Clock
from proxy.migration.pin import PIN_SECONDS, RetryPin, merge
from proxy.migration.pin_ends import by_redis, by_wall, by_wall_of_another
from proxy.migration.pin_rows import Pins, pin_row, pins_of
from proxy.migration.side import Policy
from proxy.migration.side_settings import policy_from, policy_row
from proxy.migration.state import Document, MigrationState, StateUnusable, decode, encode
from proxy.secret import Secret
from proxy.stores.encryption import Seal, SealBroken
from proxy.stores.redis_client import StoreAway, ValueBroken, connect, mapped_errors

# How long a replica counts as alive after its last heartbeat.
LEASE_SECONDS = 2.0
# Later than this after the last contact a replica sends nothing with a retry key, until it has heard of the others
# again or knows that Redis is away: it was frozen. `--force` goes on without a replica only after that.
CONTACT_SECONDS = 5.0
_WAIT_MILLISECONDS = 200
_AT_ONCE = 500
_MINUTE_MILLISECONDS = 60_000
# The stream is kept a little longer than its pins are valid, by Redis' clock.
_STREAM_MINUTES = PIN_SECONDS // 60 + 60

# Marks an entry whose pins end by Redis' clock; an earlier payproxy writes none, and its pins end by its wall clock.
_BY_REDIS = {"e": "redis"}

# Compare-and-set on the encrypted value: each encryption differs, so equal bytes are the same version.
_SWAP = """
local now = redis.call('GET', KEYS[1])
if (now or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

# Id of a stream entry: milliseconds and number, assigned by Redis.
EntryId = tuple[int, int]
START: EntryId = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaClaim:
    """A replica asks if a request may go where *pin* says; without *pin*, *agreed* is the answer of *sender*."""

    number: str
    sender: str
    digest: str = ""
    pin: RetryPin | None = None
    agreed: bool = False


@dataclass(slots=True)
class NewEntries:
    """New stream entries: *place* is the position of the last one, *places* are those of all.

    *stale* has, by position, entries encrypted with another key than the first: the key's id and the pins.
    """

    place: EntryId
    pins: Pins = field(default_factory=dict)
    stale: dict[EntryId, tuple[bytes, Pins]] = field(default_factory=dict)
    claims: list[ReplicaClaim] = field(default_factory=list)
    places: list[EntryId] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A replica's heartbeat: its position in the stream, and how many entries it has seen there.

    *prepared*: by migration, the identity of the state for which every key in flight that moves has a pin. *policies*:
    by migration, how its workers choose sides.
    """

    taken: EntryId
    entries: int = 0
    prepared: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, list[Policy]] = field(default_factory=dict)


class RedisStore:
    """One replica's connection; every call is limited to OPERATION_SECONDS and raises StoreAway.

    Pins given and returned end by this machine's wall clock, that of *clock*; in Redis they end by Redis' clock, so the
    wall clocks of replicas are never compared.
    """

    def __init__(self, url: Secret, *, ca_file: str, environment: str, seal: Seal, clock: Clock) -> None:
        self._seal = seal
        self._clock = clock
        self._prefix = f"payproxy:{environment}:"
        self._redis, self._sentinels = connect(url.reveal(), ca_file=ca_file)

    async def close(self) -> None:
        """Close all connections."""
        with mapped_errors():
            for client in (self._redis, *self._sentinels):
                await client.aclose()

    async def repair(self) -> list[str]:
        """Delete keys of a type that payproxy does not create; the replicas write the contents again.

        Return what was deleted, in words.
        """
        removed = []
        for name, kind in (("migrations", b"string"), ("pins", b"stream"), ("replicas", b"set"), ("lost", b"hash")):
            with mapped_errors():
                found: bytes = await self._redis.type(self._prefix + name)
                if found not in (b"none", kind):
                    await self._redis.delete(self._prefix + name)
                    removed.append(
                        f"{self._prefix}{name} was overwritten (it was a {found.decode()}, no {kind.decode()})"
                    )
        return removed

    async def states(self) -> tuple[bytes, dict[str, MigrationState]]:
        """Return the encrypted value, for `swap`, and the shared states; raise ValueBroken if it can't be read."""
        with mapped_errors():
            sealed: bytes = await self._redis.get(self._prefix + "migrations") or b""
        try:
            document = decode(self._seal.open("migrations", sealed)) if sealed else Document()
        except (SealBroken, StateUnusable) as error:
            if self._seal.key_of(sealed) in await self.keys_in_use():
                raise StoreAway(
                    "another replica seals with a key that is not in encryption_key_files here; give all replicas the "
                    "new key as the second one first"
                ) from None
            raise ValueBroken(f"the value {self._prefix}migrations was overwritten ({error})", sealed) from None
        return sealed, dict(document.states)

    async def is_stale(self, sealed: bytes) -> bool:
        """Return whether a value from `states` is encrypted with a key that no replica uses for encryption now."""
        if not sealed or self._seal.is_current(sealed):
            return False
        return self._seal.key_of(sealed) not in await self.keys_in_use()

    async def swap(self, before: bytes, states: Mapping[str, MigrationState]) -> bool:
        """Store *states* if the value is still *before*; return whether it was."""
        sealed = self._seal.close("migrations", encode(Document(states=states)))
        with mapped_errors():
            done = await self._redis.eval(_SWAP, 1, self._prefix + "migrations", before, sealed)
        return bool(done)

    async def add_pins(self, pins: Mapping[str, RetryPin]) -> list[EntryId]:
        """Add *pins* to the stream; return the positions of the entries."""
        items = [*pins.items()]
        return [await self._add_some(dict(items[at : at + _AT_ONCE])) for at in range(0, len(items), _AT_ONCE)]

    async def _add_some(self, pins: Pins) -> EntryId:
        now = self._clock.now()  # before Redis' time is asked for: a slow answer makes the pins longer
        redis_now = await self.time()
        rows = [pin_row(digest, pin) for digest, pin in by_redis(pins, now=now, redis_now=redis_now).items()]
        return await self._add("p", rows, redis_now, **_BY_REDIS)

    async def add_claim(self, claim: ReplicaClaim) -> EntryId:
        """Add a claim, or the answer to one, to the stream."""
        row = None if claim.pin is None else pin_row(claim.digest, claim.pin)
        value = {"n": claim.number, "s": claim.sender, "row": row, "agreed": claim.agreed}
        return await self._add("c", value, await self.time())

    async def time(self) -> float:
        """Return Redis' time, in epoch seconds."""
        with mapped_errors():
            seconds, microseconds = await self._redis.time()
        return float(seconds + microseconds / 1e6)

    async def _add(self, kind: str, value: Any, redis_now: float, **marks: str) -> EntryId:
        fields = {kind: self._seal.close("pins", json.dumps(value).encode()), **marks}
        oldest = max(0, int(redis_now) // 60 - _STREAM_MINUTES) * _MINUTE_MILLISECONDS
        with mapped_errors():
            # Trim exactly to a minute: replicas count entries per minute to detect losses.
            return _place(await self._redis.xadd(self._prefix + "pins", fields, minid=f"{oldest}-0", approximate=False))

    async def new_entries(self, after: EntryId, *, wait: bool) -> NewEntries:
        """Return the entries after the position *after*; with *wait*, block shortly if there are none."""
        found = NewEntries(after)
        with mapped_errors():
            streams = await self._redis.xread(
                {self._prefix + "pins": f"{after[0]}-{after[1]}"},
                count=_AT_ONCE,
                block=_WAIT_MILLISECONDS if wait else None,
            )
            # Redis' time first: what passes until ours is read makes the pins longer.
            redis_now = await self.time() if streams else 0.0
            for _, entries in streams or ():
                for place, fields in entries:
                    found.place = _place(place)
                    found.places.append(found.place)
                    if b"p" in fields:
                        pins = self._pins(fields, added=found.place[0] / 1000, redis_now=redis_now)
                        merge(found.pins, pins)
                        if not self._seal.is_current(fields[b"p"]):
                            found.stale[found.place] = self._seal.key_of(fields[b"p"]), pins
                    elif b"c" in fields:
                        # Skip an unreadable claim: without an answer the asking replica gives up.
                        with contextlib.suppress(SealBroken):
                            found.claims.append(_claim(json.loads(self._seal.open("pins", fields[b"c"]))))
        return found

    def _pins(self, fields: Mapping[bytes, bytes], *, added: float, redis_now: float) -> Pins:
        """Return the pins of an entry that was *added* then, by Redis' clock."""
        pins = pins_of(json.loads(self._seal.open("pins", fields[b"p"])))
        now = self._clock.now()
        if all(fields.get(name.encode()) == value.encode() for name, value in _BY_REDIS.items()):
            return by_wall(pins, now=now, redis_now=redis_now)
        return by_wall_of_another(pins, now=now, age=max(0.0, redis_now - added))

    async def remove(self, places: Sequence[EntryId]) -> None:
        """Delete entries whose pins were added again."""
        for at in range(0, len(places), _AT_ONCE):
            names = [f"{milliseconds}-{number}" for milliseconds, number in places[at : at + _AT_ONCE]]
            with mapped_errors():
                await self._redis.xdel(self._prefix + "pins", *names)

    async def last_place(self) -> EntryId:
        """Return the position of the newest entry of the stream."""
        with mapped_errors():
            found = await self._redis.xrevrange(self._prefix + "pins", count=1)
        return _place(found[0][0]) if found else START

    async def entries(self) -> tuple[int, int]:
        """Return the number of entries, and the oldest minute that is still complete (epoch minutes)."""
        with mapped_errors():
            length = await self._redis.xlen(self._prefix + "pins")
            seconds, _ = await self._redis.time()
        return length, seconds // 60 - _STREAM_MINUTES + 1

    async def beat(self, replica: str, beat: Beat) -> bool:
        """Write the heartbeat of *replica*; return whether Redis already knew the replica."""
        more: dict[str, Any] = {"entries": beat.entries, "prepared": dict(beat.prepared)}
        more["policies"] = {name: [policy_row(one) for one in some] for name, some in beat.policies.items()}
        sealed = self._seal.close(f"replica:{replica}", json.dumps([*beat.taken, more]).encode())
        with mapped_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.sadd(self._prefix + "replicas", replica)
                pipeline.set(f"{self._prefix}replica:{replica}", sealed, px=int(LEASE_SECONDS * 1000))
                pipeline.hdel(self._prefix + "lost", replica)
                added, _, _ = await pipeline.execute()
        return not added

    async def leave(self, replica: str) -> None:
        """Remove *replica* from the list, so that no one waits for it."""
        with mapped_errors():
            await self._redis.delete(f"{self._prefix}replica:{replica}")
            await self._redis.srem(self._prefix + "replicas", replica)
            await self._redis.hdel(self._prefix + "lost", replica)

    async def replicas(self) -> tuple[dict[str, Beat], dict[str, float]]:
        """Return the heartbeats of living replicas, and since when those are gone that did not leave.

        What such a replica had in flight is unknown until it returns with its data directory; after a day no retry of
        it can arrive any more.
        """
        with mapped_errors():
            beats = await self._beats()
            alive = {
                name: _beat(json.loads(self._seal.open(f"replica:{name}", value)))
                for name, value in beats.items()
                if value is not None
            }
            missing = [name for name in beats if name not in alive]
            lost: dict[str, float] = {}
            if missing:
                seconds, _ = await self._redis.time()
                for name in missing:
                    await self._redis.hsetnx(self._prefix + "lost", name, seconds)
                since = await self._redis.hmget(self._prefix + "lost", missing)
                lost = {name: float(at or seconds) for name, at in zip(missing, since, strict=True)}
                for name in [name for name, at in lost.items() if at + PIN_SECONDS < seconds]:
                    await self.leave(name)
                    del lost[name]
        return alive, lost

    async def keys_in_use(self) -> set[bytes]:
        """Return the ids of the keys that living replicas encrypt with, except our own first key."""
        with mapped_errors():
            values = (await self._beats()).values()
        return {self._seal.key_of(value) for value in values if value is not None and not self._seal.is_current(value)}

    async def _beats(self) -> dict[str, bytes | None]:
        """Return, by replica, the encrypted heartbeat, None if it has expired."""
        names = sorted(member.decode() for member in await self._redis.smembers(self._prefix + "replicas"))
        values = await self._redis.mget([f"{self._prefix}replica:{name}" for name in names]) if names else []
        return dict(zip(names, values, strict=True))

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix}>"


def minute_of(milliseconds: int) -> int:
    """Return the epoch minute in which an entry was added."""
    return milliseconds // _MINUTE_MILLISECONDS


def _place(text: bytes) -> EntryId:
    milliseconds, _, number = text.decode().partition("-")
    return int(milliseconds), int(number)


def _beat(value: Any) -> Beat:
    """Decode a heartbeat; an earlier payproxy sends only its position."""
    taken = (int(value[0]), int(value[1]))
    more = value[2] if len(value) > 2 else {}
    prepared = {str(name): str(state) for name, state in more.get("prepared", {}).items()}
    return Beat(
        taken=taken,
        entries=int(more.get("entries", 0)),
        prepared=prepared,
        # An earlier payproxy does not repeat the name.
        policies={
            name: [policy_from({"name": name, **one}) for one in some]
            for name, some in more.get("policies", {}).items()
        },
    )


def _claim(value: Any) -> ReplicaClaim:
    number, sender, agreed = str(value["n"]), str(value["s"]), value["agreed"] is True
    if value["row"] is None:
        return ReplicaClaim(number=number, sender=sender, agreed=agreed)
    [(digest, pin)] = pins_of([value["row"]]).items()
    return ReplicaClaim(number=number, sender=sender, digest=digest, pin=pin)
