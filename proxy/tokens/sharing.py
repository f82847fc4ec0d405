"""Shares tokens with other replicas through Redis: one mint for all while it works, one for each while it does not."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from proxy.clock import Clock
from proxy.credentials.token_key import TokenKey
from proxy.entropy import Entropy
from proxy.events import Observer, TokenSharingFailed, TokenSharingRecovered
from proxy.stores.redis_client import StoreAway
from proxy.tokens.replica_share import ReplicaShare
from proxy.tokens.token_share import TokenSharing
from proxy.tokens.token_store import RedisTokenStore, Seen

_BEAT_SECONDS = 1.0
_JITTER_SHARE = 0.1
_CLOSING_SECONDS = 1.0

# Opens the store; raises StoreAway.
Open = Callable[[], Awaitable[RedisTokenStore]]


class ReplicaSharing(TokenSharing):
    """The shares of one token manager of the replica *replica*, over one store.

    A mint finds out at the latest after a second that Redis is away; from then on no mint waits for it, until a look
    once a second finds it back. The look writes too, so that a Redis that is full or read-only is known before a mint.
    """

    active = True

    def __init__(self, open_store: Open, *, replica: str, clock: Clock, entropy: Entropy, observe: Observer) -> None:
        self.replica = replica
        self.clock = clock
        self.entropy = entropy
        self.observe = observe
        self._open = open_store
        self._opening = asyncio.Lock()
        self._store: RedisTokenStore | None = None
        self._closing: list[RedisTokenStore] = []
        self._shares: dict[str, ReplicaShare] = {}
        self._away = ""
        self._flaws: dict[str, str] = {}
        self._said = ""
        self._offset = 0.0

    @property
    def problem(self) -> str:
        """Return why tokens are not shared as configured, "" if they are."""
        away = f"the Redis of [state]: {self._away}: each replica mints for itself" if self._away else ""
        bound = (share.finding for share in self._shares.values())
        return "; ".join(filter(None, (away, *self._flaws.values(), *bound)))

    @property
    def in_touch(self) -> bool:
        """Return whether Redis has answered as it should."""
        return not self._away

    def share(self, key: TokenKey, *, fingerprint: str) -> ReplicaShare:
        """Return a new share for *key*, with the credential of *fingerprint*; it replaces the key's present one."""
        share = self._shares[key.digest] = ReplicaShare(self, key, fingerprint=fingerprint)
        return share

    async def run(self) -> None:
        """Look at Redis once a second, until cancelled."""
        while True:
            await self._look()
            jitter = self.entropy.uniform(-_JITTER_SHARE, _JITTER_SHARE)
            await self.clock.sleep(_BEAT_SECONDS * (1 + jitter))

    async def close(self) -> None:
        """Close all connections."""
        if self._store is not None:
            self._closing.append(self._store)
            self._store = None
        await self._close_given_up()

    async def _close_given_up(self) -> None:
        while self._closing:
            with contextlib.suppress(StoreAway, TimeoutError):
                async with asyncio.timeout(_CLOSING_SECONDS):
                    await self._closing.pop().close()

    async def store(self) -> RedisTokenStore:
        """Return the open store; raise StoreAway."""
        async with self._opening:
            if self._store is None:
                self._store = await self._open()
            return self._store

    async def read(self, name: str) -> tuple[Seen, float]:
        """Return the value of *name*, and how to get from Redis' time to monotonic time; raise StoreAway."""
        store = await self.store()
        asked = self.clock.monotonic()
        now, seen = await store.read([name])
        self._answered(now)
        return seen[name], asked - now

    def redis_time(self, monotonic: float) -> float:
        """Return *monotonic* by Redis' clock in epoch seconds, or a little less."""
        return monotonic + self._offset

    def lost(self, error: Exception) -> None:
        """Mint without Redis from now on, because of *error*, and open the store anew at the next look."""
        if not self._away:  # else what fails now is a consequence
            self._leave(error)

    def _leave(self, error: Exception) -> None:
        known = isinstance(error, StoreAway)
        self._away = str(error) if known else f"a defect of the proxy ({type(error).__name__})"
        if self._store is not None:
            self._closing.append(self._store)
            self._store = None
        self._report(self.problem)

    def _answered(self, now: float) -> None:
        # The answer took some time since *now*: a token published by this offset ends rather too early.
        self._offset = now - self.clock.monotonic()

    async def _look(self) -> None:
        await self._close_given_up()
        try:
            await self._visit()
        except Exception as error:  # noqa: BLE001 - a defect in sharing must not end the slots
            self._leave(error)

    async def _visit(self) -> None:
        shares = {share.name: share for share in self._shares.values() if not share.suspected}
        store = await self.store()
        asked = self.clock.monotonic()
        now, seen = await store.read([*shares], probe=True)
        self._answered(now)
        self._away = ""
        self._flaws = {name: _flaw(shares[name].key, one.flaw) for name, one in seen.items() if one.flaw}
        self._report(self.problem if self._flaws else "")
        for name, one in seen.items():
            await shares[name].look(store, one, offset=asked - now)

    def _report(self, problem: str) -> None:
        if problem == self._said:
            return
        self._said = problem
        self.observe(TokenSharingFailed(cause=problem) if problem else TokenSharingRecovered())

    def __repr__(self) -> str:
        return f"<ReplicaSharing {self.replica} {self._away or 'in touch'}, {len(self._shares)} tokens>"


def _flaw(key: TokenKey, flaw: str) -> str:
    return f"the shared token of {key.credential} {key.audience or '-'} in the Redis of [state] can't be used: {flaw}"
