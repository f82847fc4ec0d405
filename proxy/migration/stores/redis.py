"""What replicas share in a Redis or Valkey, sealed: the migrations' states, retry pins, and who has taken which.

Names there: `payproxy:ENVIRONMENT:migrations` is one value for all states, `...:pins` a stream of pins and of claims,
`...:replicas` a set of ids, `...:replica:ID` what that one says of itself, for as long as it lives, `...:lost` since
when those are gone that did not leave.
"""

import contextlib
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from proxy.migration.pin import PIN_SECONDS, RetryPin, merge
from proxy.migration.pin_rows import Pins, pin_row, pins_of
from proxy.migration.state import Document, State, StateUnusable, decode, encode
from proxy.migration.stores.encryption import Seal, SealBroken
from proxy.secret import Secret
from proxy.settings.sentinel import SentinelUrl

# A Redis that needs longer for one of these is no help to a caller that waits.
OPERATION_SECONDS = 0.5
# How long a replica that says nothing more counts as one that serves.
LEASE_SECONDS = 2.0
_WAIT_MILLISECONDS = 200
_AT_ONCE = 500
_MINUTE_MILLISECONDS = 60_000
# Kept a little longer than the pins in it hold, by the Redis' clock.
_STREAM_MINUTES = PIN_SECONDS // 60 + 60

# Compare and set on the sealed value: each sealing differs, so equal bytes are the same version.
_SWAP = """
local now = redis.call('GET', KEYS[1])
if (now or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

# The client takes the code away from the texts of these.
_REFUSALS = {
    ReadOnlyError: "it is a read-only replica (READONLY): name the master, or its sentinels",
    OutOfMemoryError: "its memory is full (OOM): raise maxmemory",
    BusyLoadingError: "it is loading its data (LOADING)",
}

# Milliseconds and number of an entry of the stream, as the Redis counts.
Place = tuple[int, int]
START: Place = (0, 0)


class StoreAway(Exception):
    """The Redis can't be reached, is too slow, or holds what can't be understood; the message says which."""


class ValueBroken(StoreAway):
    """What is shared can't be read, and no replica that serves can have written it; *value* is what is there."""

    def __init__(self, message: str, value: bytes) -> None:
        super().__init__(message)
        self.value = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A replica asks whether a request may go where *pin* says; or *agreed* is what the replica *sender* answers."""

    number: str
    sender: str
    digest: str = ""
    pin: RetryPin | None = None
    agreed: bool = False


@dataclass(slots=True)
class News:
    """What stands behind a place in the stream: *place* is that of the last entry, *places* are those of all.

    *stale* are those, by place, that another key than the first has sealed: what that is known by, and the pins.
    """

    place: Place
    pins: Pins = field(default_factory=dict)
    stale: dict[Place, tuple[bytes, Pins]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a replica says of itself: how far it has read the stream, and how many entries it has seen there.

    *prepared*: by migration, the identity of the state for which every key in flight that moves has a pin. *policies*:
    by migration, how its workers decide (`board.policy_told`).
    """

    taken: Place
    entries: int = 0
    prepared: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


class RedisStore:
    """One replica's connection; every call is bounded by OPERATION_SECONDS and raises StoreAway."""

    def __init__(self, url: Secret, *, ca_file: str, environment: str, seal: Seal) -> None:
        self._seal = seal
        self._prefix = f"payproxy:{environment}:"
        self._redis, self._sentinels = _client(url.reveal(), ca_file=ca_file)

    async def close(self) -> None:
        """Let go of all connections."""
        with _mapped():
            for client in (self._redis, *self._sentinels):
                await client.aclose()

    async def repair(self) -> list[str]:
        """Remove what is of another kind than payproxy makes: the replicas bring again what belongs there.

        Return what was removed, in words.
        """
        removed = []
        for name, kind in (("migrations", b"string"), ("pins", b"stream"), ("replicas", b"set"), ("lost", b"hash")):
            with _mapped():
                found: bytes = await self._redis.type(self._prefix + name)
                if found not in (b"none", kind):
                    await self._redis.delete(self._prefix + name)
                    removed.append(
                        f"{self._prefix}{name} was overwritten (it was a {found.decode()}, no {kind.decode()})"
                    )
        return removed

    async def states(self) -> tuple[bytes, dict[str, State]]:
        """Return what is shared, and the very value that it is, for `swap`; raises ValueBroken if it can't be read."""
        with _mapped():
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
        """Return whether a value, as `states` gives it, is sealed with a key with which no replica seals any more."""
        if not sealed or self._seal.is_current(sealed):
            return False
        return self._seal.key_of(sealed) not in await self.keys_in_use()

    async def swap(self, before: bytes, states: Mapping[str, State]) -> bool:
        """Put *states* there if the value is *before* still; return whether."""
        sealed = self._seal.close("migrations", encode(Document(states=states)))
        with _mapped():
            done = await self._redis.eval(_SWAP, 1, self._prefix + "migrations", before, sealed)
        return bool(done)

    async def add_pins(self, pins: Mapping[str, RetryPin]) -> list[Place]:
        """Add *pins* to the stream and return the places of the entries that hold them."""
        rows = [pin_row(digest, pin) for digest, pin in pins.items()]
        return [await self._add("p", rows[at : at + _AT_ONCE]) for at in range(0, len(rows), _AT_ONCE)]

    async def add_claim(self, claim: Claim) -> Place:
        """Add a claim, or the answer to one, to the stream."""
        row = None if claim.pin is None else pin_row(claim.digest, claim.pin)
        return await self._add("c", {"n": claim.number, "s": claim.sender, "row": row, "agreed": claim.agreed})

    async def _add(self, kind: str, value: Any) -> Place:
        sealed = self._seal.close("pins", json.dumps(value).encode())
        with _mapped():
            seconds, _ = await self._redis.time()
            oldest = max(0, seconds // 60 - _STREAM_MINUTES) * _MINUTE_MILLISECONDS
            # Cut exactly at a minute: replicas count entries by minute, to see what was lost.
            return _place(
                await self._redis.xadd(self._prefix + "pins", {kind: sealed}, minid=f"{oldest}-0", approximate=False)
            )

    async def news(self, after: Place, *, wait: bool) -> News:
        """Return what stands behind the place *after*; *wait* a moment if that is nothing."""
        found = News(after)
        with _mapped():
            streams = await self._redis.xread(
                {self._prefix + "pins": f"{after[0]}-{after[1]}"},
                count=_AT_ONCE,
                block=_WAIT_MILLISECONDS if wait else None,
            )
            for _, entries in streams or ():
                for place, fields in entries:
                    found.place = _place(place)
                    found.places.append(found.place)
                    if b"p" in fields:
                        pins = pins_of(json.loads(self._seal.open("pins", fields[b"p"])))
                        merge(found.pins, pins)
                        if not self._seal.is_current(fields[b"p"]):
                            found.stale[found.place] = self._seal.key_of(fields[b"p"]), pins
                    elif b"c" in fields:
                        # One that can't be read is not answered: whoever asks gives up.
                        with contextlib.suppress(SealBroken):
                            found.claims.append(_claim(json.loads(self._seal.open("pins", fields[b"c"]))))
        return found

    async def remove(self, places: Sequence[Place]) -> None:
        """Take entries out of the stream, whose pins were added anew."""
        for at in range(0, len(places), _AT_ONCE):
            names = [f"{milliseconds}-{number}" for milliseconds, number in places[at : at + _AT_ONCE]]
            with _mapped():
                await self._redis.xdel(self._prefix + "pins", *names)

    async def entries(self) -> tuple[int, int]:
        """Return how many entries the stream has, and the oldest minute of which all must be there (epoch minutes)."""
        with _mapped():
            length = await self._redis.xlen(self._prefix + "pins")
            seconds, _ = await self._redis.time()
        return length, seconds // 60 - _STREAM_MINUTES + 1

    async def beat(self, replica: str, beat: Beat) -> bool:
        """Say that *replica* lives; return whether it was known to the Redis already."""
        more: dict[str, Any] = {"entries": beat.entries, "prepared": dict(beat.prepared)}
        more["policies"] = dict(beat.policies)
        sealed = self._seal.close(f"replica:{replica}", json.dumps([*beat.taken, more]).encode())
        with _mapped():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.sadd(self._prefix + "replicas", replica)
                pipeline.set(f"{self._prefix}replica:{replica}", sealed, px=int(LEASE_SECONDS * 1000))
                pipeline.hdel(self._prefix + "lost", replica)
                added, _, _ = await pipeline.execute()
        return not added

    async def leave(self, replica: str) -> None:
        """Take *replica* off the list: nobody need wait for it."""
        with _mapped():
            await self._redis.delete(f"{self._prefix}replica:{replica}")
            await self._redis.srem(self._prefix + "replicas", replica)
            await self._redis.hdel(self._prefix + "lost", replica)

    async def replicas(self) -> tuple[dict[str, Beat], dict[str, float]]:
        """Return what each replica that lives says, and of those that went without leaving since when they are gone.

        Of what one of these had in flight nothing is known until it comes back with its data directory; a day later
        no retry of it comes any more.
        """
        with _mapped():
            members = await self._redis.smembers(self._prefix + "replicas")
            names = sorted(member.decode() for member in members)
            values = await self._redis.mget([f"{self._prefix}replica:{name}" for name in names]) if names else []
            living = {
                name: _beat(json.loads(self._seal.open(f"replica:{name}", value)))
                for name, value in zip(names, values, strict=True)
                if value is not None
            }
            missing = [name for name in names if name not in living]
            lost: dict[str, float] = {}
            if missing:
                seconds, _ = await self._redis.time()
                for name in missing:
                    await self._redis.hsetnx(self._prefix + "lost", name, seconds)
                since = await self._redis.hmget(self._prefix + "lost", missing)
                lost = {name: float(at or seconds) for name, at in zip(missing, since, strict=True)}
                for name in [name for name, at in lost.items() if at + PIN_SECONDS < seconds]:
                    await self.forget(name)
                    del lost[name]
        return living, lost

    async def forget(self, replica: str) -> None:
        """Take off the list a replica that is gone, whatever it had in flight."""
        await self.leave(replica)

    async def keys_in_use(self) -> set[bytes]:
        """Return by what the keys are known with which replicas that live seal, but for our own first."""
        with _mapped():
            members = await self._redis.smembers(self._prefix + "replicas")
            names = sorted(member.decode() for member in members)
            values = await self._redis.mget([f"{self._prefix}replica:{name}" for name in names]) if names else []
        return {self._seal.key_of(value) for value in values if value is not None and not self._seal.is_current(value)}

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix}>"


def _client(url: str, *, ca_file: str) -> tuple[Any, list[Any]]:
    """Return a client, and those of the sentinels that watch it.

    Its types leave open whether it answers now or later, in bytes or text: later, and in bytes.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": OPERATION_SECONDS,
        "socket_connect_timeout": OPERATION_SECONDS,
        # Nothing is tried again below us: what came of the first try is not known.
        "retry": Retry(NoBackoff(), 0),
    }
    tls: dict[str, Any] = {"ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
    if ca_file:
        tls["ssl_ca_certs"] = ca_file
    sentinel = SentinelUrl.of(url)
    if sentinel is None:
        return redis.asyncio.from_url(url, **options, **(tls if url.startswith("rediss:") else {})), []
    if sentinel.tls:
        options |= tls | {"ssl": True}
    login = {"username": sentinel.username or None, "password": sentinel.password or None}
    asking = options | {"password": sentinel.sentinel_password or None}
    watching: Any = Sentinel(list(sentinel.addresses), sentinel_kwargs=asking, **options, **login)  # type: ignore[no-untyped-call]
    return watching.master_for(sentinel.service, db=sentinel.database), watching.sentinels


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Turn whatever can go wrong into StoreAway; texts of a Redis and of its client may quote values."""
    try:
        yield
    except SealBroken as error:
        raise StoreAway(str(error)) from None
    except (StateUnusable, ValueError, TypeError, LookupError, UnicodeError):
        raise StoreAway("what is kept there is not what this payproxy writes") from None
    except (AuthenticationError, AuthorizationError, NoPermissionError):
        raise StoreAway("it refused our user or password, or what they may do") from None
    except (redis.exceptions.TimeoutError, TimeoutError):
        raise StoreAway("it did not answer in time") from None
    except ResponseError as error:
        known = next((words for kind, words in _REFUSALS.items() if isinstance(error, kind)), "")
        raise StoreAway(known or f"it refused a command ({str(error).partition(' ')[0][:32]})") from None
    except (RedisError, OSError) as error:
        raise StoreAway(f"it can't be reached ({type(error).__name__})") from None


def minute_of(milliseconds: int) -> int:
    """Return the minute in which an entry was added."""
    return milliseconds // _MINUTE_MILLISECONDS


def _place(text: bytes) -> Place:
    milliseconds, _, number = text.decode().partition("-")
    return int(milliseconds), int(number)


def _beat(value: Any) -> Beat:
    """Return what a replica says of itself; an earlier payproxy says only how far it has read."""
    taken = (int(value[0]), int(value[1]))
    more = value[2] if len(value) > 2 else {}
    prepared = {str(name): str(state) for name, state in more.get("prepared", {}).items()}
    return Beat(
        taken=taken,
        entries=int(more.get("entries", 0)),
        prepared=prepared,
        policies=more.get("policies", {}),
    )


def _claim(value: Any) -> Claim:
    number, sender, agreed = str(value["n"]), str(value["s"]), value["agreed"] is True
    if value["row"] is None:
        return Claim(number=number, sender=sender, agreed=agreed)
    [(digest, pin)] = pins_of([value["row"]]).items()
    return Claim(number=number, sender=sender, digest=digest, pin=pin)
