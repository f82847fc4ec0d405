"""What replicas share in a Redis or Valkey, sealed: the migrations' states, retry pins, and who has taken which.

Names there: `payproxy:ENVIRONMENT:migrations` is one value for all states, `...:pins` a stream, `...:replicas` a set of
ids, `...:replica:ID` how far that one has read the stream, for as long as it lives.
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.state import Document, State, StateUnusable, decode, encode
from proxy.migration.stores.pins import Pins, pin_row, pins_of
from proxy.migration.stores.seal import Seal, SealBroken
from proxy.secret import Secret

# A Redis that needs longer for one of these is no help to a caller that waits.
OPERATION_SECONDS = 0.5
# How long a replica that says nothing more counts as one that serves.
LEASE_SECONDS = 2.0
_WAIT_MILLISECONDS = 200
_AT_ONCE = 500
# Kept a little longer than the pins in it hold, by the Redis' clock.
_STREAM_SECONDS = PIN_SECONDS + 3600

# Compare and set on the sealed value: each sealing differs, so equal bytes are the same version.
_SWAP = """
local now = redis.call('GET', KEYS[1])
if (now or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

# Milliseconds and number of an entry of the stream, as the Redis counts.
Place = tuple[int, int]
START: Place = (0, 0)


class StoreAway(Exception):
    """The Redis can't be reached, is too slow, or holds what can't be understood; the message says which."""


class RedisStore:
    """One replica's connection; every call is bounded by OPERATION_SECONDS and raises StoreAway."""

    def __init__(self, url: Secret, *, ca_file: str, environment: str, seal: Seal) -> None:
        self._seal = seal
        self._prefix = f"payproxy:{environment}:"
        options: dict[str, Any] = {"ssl_ca_certs": ca_file} if ca_file else {}
        if url.reveal().startswith("rediss:"):
            options |= {"ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        # The client's types leave open whether it answers now or later, in bytes or text: so asked, later and in bytes.
        self._redis: Any = redis.asyncio.from_url(
            url.reveal(),
            protocol=2,
            socket_timeout=OPERATION_SECONDS,
            socket_connect_timeout=OPERATION_SECONDS,
            # Nothing is tried again below us: what came of the first try is not known.
            retry=Retry(NoBackoff(), 0),
            **options,
        )

    async def close(self) -> None:
        """Let go of all connections."""
        with _mapped():
            await self._redis.aclose()

    async def states(self) -> tuple[bytes, dict[str, State]]:
        """Return what is shared, and the very value that it is, for `swap`."""
        with _mapped():
            sealed: bytes = await self._redis.get(self._prefix + "migrations") or b""
            document = decode(self._seal.open("migrations", sealed)) if sealed else Document()
        return sealed, dict(document.states)

    async def swap(self, before: bytes, states: Mapping[str, State]) -> bool:
        """Put *states* there if the value is *before* still; return whether."""
        sealed = self._seal.close("migrations", encode(Document(states=states)))
        with _mapped():
            done = await self._redis.eval(_SWAP, 1, self._prefix + "migrations", before, sealed)
        return bool(done)

    async def add_pins(self, pins: Mapping[str, RetryPin]) -> Place:
        """Add *pins* to the stream and return the place of the last."""
        rows = [pin_row(digest, pin) for digest, pin in pins.items()]
        place = START
        for at in range(0, len(rows), _AT_ONCE):
            sealed = self._seal.close("pins", json.dumps(rows[at : at + _AT_ONCE]).encode())
            with _mapped():
                seconds, _ = await self._redis.time()
                place = _place(
                    await self._redis.xadd(
                        self._prefix + "pins", {"p": sealed}, minid=f"{(seconds - _STREAM_SECONDS) * 1000}-0"
                    )
                )
        return place

    async def pins(self, after: Place, *, wait: bool) -> tuple[Pins, Place]:
        """Return pins behind the place *after*, and the place of the last; *wait* a moment if there are none."""
        with _mapped():
            found = await self._redis.xread(
                {self._prefix + "pins": f"{after[0]}-{after[1]}"},
                count=_AT_ONCE,
                block=_WAIT_MILLISECONDS if wait else None,
            )
            pins: Pins = {}
            for _, entries in found or ():
                for place, fields in entries:
                    pins |= pins_of(json.loads(self._seal.open("pins", fields[b"p"])))
                    after = _place(place)
        return pins, after

    async def beat(self, replica: str, taken: Place) -> bool:
        """Say that *replica* lives and has the pins up to *taken*; return whether it was known to the Redis already."""
        sealed = self._seal.close(f"replica:{replica}", json.dumps(taken).encode())
        with _mapped():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.sadd(self._prefix + "replicas", replica)
                pipeline.set(f"{self._prefix}replica:{replica}", sealed, px=int(LEASE_SECONDS * 1000))
                added, _ = await pipeline.execute()
        return not added

    async def leave(self, replica: str) -> None:
        """Take *replica* off the list: nobody need wait for it."""
        with _mapped():
            await self._redis.delete(f"{self._prefix}replica:{replica}")
            await self._redis.srem(self._prefix + "replicas", replica)

    async def replicas(self) -> dict[str, Place]:
        """Return how far each replica that lives has read the stream."""
        with _mapped():
            members = await self._redis.smembers(self._prefix + "replicas")
            names = sorted(member.decode() for member in members)
            values = await self._redis.mget([f"{self._prefix}replica:{name}" for name in names]) if names else []
            gone = [name for name, value in zip(names, values, strict=True) if value is None]
            if gone:
                await self._redis.srem(self._prefix + "replicas", *gone)
            return {
                name: cast("Place", tuple(json.loads(self._seal.open(f"replica:{name}", value))))
                for name, value in zip(names, values, strict=True)
                if value is not None
            }

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix}>"


@contextmanager
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
        raise StoreAway(f"it refused a command ({str(error).partition(' ')[0][:32]})") from None
    except (RedisError, OSError) as error:
        raise StoreAway(f"it can't be reached ({type(error).__name__})") from None


def _place(text: bytes) -> Place:
    milliseconds, _, number = text.decode().partition("-")
    return int(milliseconds), int(number)
