"""Tokens and mint leases in Redis or Valkey: what replicas read, take, publish and delete, each atomically.

Keys: `payproxy:ENVIRONMENT:token:NAME` is one encrypted token, `...:lease:NAME` says who mints the next one,
`...:probe` is written by all, to see that Redis takes writes. NAME is the digest of the token key and the fingerprint
of the credential. Every key expires.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from redis.exceptions import RedisError

from proxy.secret import Secret
from proxy.stores.encryption import Seal, SealBroken
from proxy.stores.redis_client import StoreAway, connect, is_wrong_type, mapped_errors
from proxy.tokens.shared_token import SharedToken, SharedTokenUnusable, decode, encode

# A mint waits for two operations at most before it goes on without Redis: less than a second together.
OPERATION_SECONDS = 0.45
# If our own event loop stood still meanwhile, the answer may be there and not read yet.
_UNREAD_SECONDS = 0.05
# The client's own limit, for what nobody waits for any more.
_GIVEN_UP_SECONDS = 60.0
LEASE_SECONDS = 2.0
# Slots that start together share these connections.
_CONNECTIONS = 4
_PROBE_SECONDS = 10

# A key of another type than a string is none of ours.
_CLEAN = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'string' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
"""
# The lease is given only to who has seen the present token: not to one that slept while another replica minted. A
# refused token is deleted, and only that one: each encryption differs, so equal bytes are the same mint.
_CLAIM = (
    _CLEAN
    + """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[3] then return 2 end
if ARGV[4] == '1' then redis.call('DEL', KEYS[1]) end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
local left = redis.call('TYPE', KEYS[2]).ok == 'string' and redis.call('PTTL', KEYS[2]) or -1
if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""
)
_EXTEND = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
# PEXPIREAT and no PX: a command that Redis executes late must not lengthen the token's life.
_PUBLISH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""
_RESTORE = (
    _CLEAN
    + """
if redis.call('EXISTS', KEYS[2]) == 1 or (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1
"""
)

# A script as the others are: a user that may write may still be forbidden to run one.
_PROBE = "redis.call('SET', KEYS[1], '', 'EX', ARGV[1])"

Result = TypeVar("Result")


class Claim(IntEnum):
    """The answer to a claim: another replica HOLDs the lease, it is TAKEN by us, or the token has CHANGED."""

    HELD = 0
    TAKEN = 1
    CHANGED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A value as read: *sealed* is b"" if there is none; *flaw* says why it is no token, "" if it is one or absent.

    *by_old_key*: it was encrypted with another key than the first.
    """

    sealed: bytes = b""
    token: SharedToken | None = None
    by_old_key: bool = False
    flaw: str = ""


class RedisTokenStore:
    """One keeper's connections; every call is limited to OPERATION_SECONDS and raises StoreAway."""

    def __init__(self, url: Secret, *, ca_file: str, environment: str, seal: Seal) -> None:
        self._seal = seal
        self._prefix = f"payproxy:{environment}:"
        self._redis, self._sentinels = connect(url.reveal(), ca_file=ca_file, seconds=_GIVEN_UP_SECONDS)
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._late: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._late:
            task.cancel()
        with mapped_errors():
            for client in (self._redis, *self._sentinels):
                await client.aclose()

    async def read(self, names: Sequence[str], *, probe: bool = False) -> tuple[float, Mapping[str, Seen]]:
        """Return Redis' time, epoch seconds, and the values of *names*; with *probe* Redis must run a script."""

        async def ask() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.time()
                for name in names:
                    pipeline.get(self._token(name))
                if probe:
                    pipeline.eval(_PROBE, 1, f"{self._prefix}probe", _PROBE_SECONDS)
                found: list[Any] = await pipeline.execute(raise_on_error=False)
            for one in found:
                if isinstance(one, RedisError) and not is_wrong_type(one):
                    raise one
            return found

        found = await self._limited(ask)
        seconds, microseconds = found[0]
        values = dict(zip(names, found[1 : len(names) + 1], strict=True))
        return seconds + microseconds / 1e6, {name: self._seen(name, value) for name, value in values.items()}

    async def claim(self, name: str, nonce: str, *, seen: bytes, refused: bool) -> Claim:
        """Take the lease to mint *name* if the value is still *seen*; delete that value if it was *refused*."""
        milliseconds = int(LEASE_SECONDS * 1000)
        flag = "1" if refused else ""
        return Claim(await self._eval(_CLAIM, (self._token(name), self._lease(name)), nonce, milliseconds, seen, flag))

    async def extend(self, name: str, nonce: str) -> None:
        """Keep the lease for LEASE_SECONDS from now, if it is still ours."""
        await self._eval(_EXTEND, (self._lease(name),), nonce, int(LEASE_SECONDS * 1000))

    async def release(self, name: str, nonce: str) -> None:
        """Give the lease up, if it is still ours."""
        await self._eval(_RELEASE, (self._lease(name),), nonce)

    async def publish(self, name: str, nonce: str, token: SharedToken, *, until: float) -> None:
        """Store *token* until *until*, by Redis' clock, and give up the lease; nothing if it is not ours any more."""
        sealed = self._seal.close(f"token:{name}", encode(token))
        await self._eval(_PUBLISH, (self._token(name), self._lease(name)), nonce, sealed, int(until * 1000))

    async def restore(self, name: str, token: SharedToken, *, until: float, seen: bytes) -> None:
        """Store *token* if the value is still *seen* (lost, older, no token, an old key), and no replica mints."""
        sealed = self._seal.close(f"token:{name}", encode(token))
        await self._eval(_RESTORE, (self._token(name), self._lease(name)), seen, sealed, int(until * 1000))

    def _seen(self, name: str, value: Any) -> Seen:
        if value is None:
            return Seen()
        if not isinstance(value, bytes):
            return Seen(flaw="it is no string")
        try:
            token = decode(self._seal.open(f"token:{name}", value))
            return Seen(sealed=value, token=token, by_old_key=not self._seal.is_current(value))
        except (SealBroken, SharedTokenUnusable) as error:
            return Seen(sealed=value, flaw=str(error))

    async def _eval(self, script: str, keys: Iterable[str], *values: Any) -> int:
        keys = tuple(keys)
        return int(await self._limited(lambda: self._redis.eval(script, len(keys), *keys, *values)) or 0)

    async def _limited(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of *call*, in time: the client may swallow a cancellation, so it is not awaited."""

        async def called() -> Result:
            async with self._free:
                with mapped_errors():
                    return await call()

        task = asyncio.ensure_future(called())
        self._late.add(task)
        task.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait([task], timeout=OPERATION_SECONDS)
            if not done:
                done, _ = await asyncio.wait([task], timeout=_UNREAD_SECONDS)
        finally:
            task.cancel()
        if not done:
            raise StoreAway("it did not answer in time")
        if task.cancelled():  # by `close`, not by who waits
            raise StoreAway("its connection was given up")
        return task.result()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for a late one

    def _token(self, name: str) -> str:
        return f"{self._prefix}token:{name}"

    def _lease(self, name: str) -> str:
        return f"{self._prefix}lease:{name}"

    def __repr__(self) -> str:
        return f"<RedisTokenStore {self._prefix}>"
