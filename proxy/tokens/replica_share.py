"""One slot's share: another replica's token is adopted, or one replica mints under a lease while the others wait."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Protocol

from proxy.clock import Clock
from proxy.credentials.token_key import TokenKey
from proxy.entropy import Entropy
from proxy.events import Observer, TokenSharingStopped
from proxy.stores.redis_client import StoreAway
from proxy.tokens.shared_token import SKEW_SECONDS, AddressBinding, SharedToken, Step, next_step, patience
from proxy.tokens.token import AccessToken, Freshness, fingerprint
from proxy.tokens.token_share import Mint, Obtained, Offer, TokenShare
from proxy.tokens.token_store import Claim, RedisTokenStore, Seen

# A minter that dies is replaced when its lease ends; one that lives extends it several times before.
_EXTEND_SECONDS = 0.5
# A waiter asks ten times a second, each replica at other times.
_POLL_SECONDS, _POLL_JITTER_SHARE = 0.1, 0.5
_REMEMBERED_REFUSALS = 8


class Sharing(Protocol):
    """What a share needs of `ReplicaSharing`."""

    replica: str
    clock: Clock
    entropy: Entropy
    observe: Observer

    @property
    def in_touch(self) -> bool: ...  # noqa: D102 - see ReplicaSharing
    def store(self) -> Awaitable[RedisTokenStore]: ...  # noqa: D102
    def read(self, name: str) -> Awaitable[tuple[Seen, float]]: ...  # noqa: D102
    def redis_time(self, monotonic: float) -> float: ...  # noqa: D102
    def lost(self, error: Exception) -> None: ...  # noqa: D102


@dataclass(slots=True)
class _Memory:
    """What a share has learned.

    The token in use, with its lifetime in seconds and its end by Redis' clock; the fingerprints of refused tokens, and
    when the newest of these was minted (monotonic): what is older is not adopted.
    """

    held: AccessToken | None = None
    lifetime: float = 0.0
    ends: float = 0.0
    refused_minted: float = -math.inf
    refused: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_REFUSALS))


class ReplicaShare(TokenShare):
    """The token of *key* as minted with the credential of *fingerprint*, shared with the replicas that have the same.

    Another key or secret is another name in Redis: a token of an old credential is never adopted.
    """

    def __init__(self, sharing: Sharing, key: TokenKey, *, fingerprint: str) -> None:
        self.key = key
        self.name = f"{key.digest}:{fingerprint}"
        self.binding = AddressBinding()
        self.memory = _Memory()
        self._sharing = sharing
        self._clock = sharing.clock
        self._offer: Offer | None = None
        self._lease = ""  # the nonce of the lease that is ours
        self._sealed_again = ""  # the fingerprint of the token that was encrypted again with the first key
        self._doubtful = ""  # the fingerprint of another replica's token that was refused and never worked here

    @property
    def suspected(self) -> bool:
        """Return whether the next token must be minted here and not be shared."""
        return self.binding.suspected(now=self._clock.monotonic())

    @property
    def finding(self) -> str:
        """Return why this token is not shared any more, "" if it is."""
        if not self.binding.bound:
            return ""
        return (
            f"tokens of {self.key.credential} {self.key.audience or '-'} that other replicas minted were refused here, "
            "those minted here are accepted, so they are bound to an address: each replica mints its own; set "
            "share_tokens = false"
        )

    def attach(self, offer: Offer) -> None:
        """Call *offer* with tokens that other replicas have minted meanwhile."""
        self._offer = offer

    async def obtain(self, mint: Mint, *, current: AccessToken | None) -> Obtained:
        """Return another replica's token, or mint: under the lease, beside a lease that takes too long, or alone."""
        self._lease = ""
        if self.suspected or not self._sharing.in_touch:
            return await mint()
        try:
            found = await self._adopted_or_leased(current)
        except Exception as error:  # noqa: BLE001 - a defect in sharing must not prevent a mint
            self._sharing.lost(error)
            return await mint()
        if found is not None:
            return found
        return await (self._mint_under(self._lease, mint) if self._lease else mint())

    async def _adopted_or_leased(self, current: AccessToken | None) -> Obtained | None:
        """Return a token to adopt, or None: then mint, with or without the lease."""
        now = self._clock.monotonic()
        until = now + patience(current, now=now)
        nonce = self._sharing.entropy.token_bytes(16).hex()
        while True:
            seen, offset = await self._sharing.read(self.name)
            self._judge(seen)
            if self.suspected:
                return None
            found = self._here(seen, offset=offset)
            if self._next_step(found, current) is Step.ADOPT:
                return found
            claim = await self._claimed(seen, nonce, until=until)
            if claim is not Claim.CHANGED:
                return None

    async def _claimed(self, seen: Seen, nonce: str, *, until: float) -> Claim:
        """Claim the lease until it is ours, the token has changed, or monotonic *until* has come."""
        store, sealed = await self._sharing.store(), seen.sealed
        refused = seen.token is not None and seen.token.fingerprint in self.memory.refused
        while True:
            claim = await store.claim(self.name, nonce, seen=sealed, refused=refused)
            if claim is Claim.TAKEN:
                self._lease = nonce
            if claim is not Claim.HELD or self._clock.monotonic() >= until:
                return claim
            if refused:
                sealed, refused = b"", False  # deleted by the claim
            jitter = self._sharing.entropy.uniform(-_POLL_JITTER_SHARE, _POLL_JITTER_SHARE)
            await self._clock.sleep(_POLL_SECONDS * (1 + jitter))

    async def _mint_under(self, lease: str, mint: Mint) -> Obtained:
        keeping = asyncio.create_task(self._keep(lease), name=f"lease {self.name}")
        try:
            return await mint()
        except Exception:
            self._lease = ""
            with contextlib.suppress(StoreAway):
                await (await self._sharing.store()).release(self.name, lease)
            raise
        finally:
            keeping.cancel()

    async def _keep(self, lease: str) -> None:
        """Extend the lease until cancelled: one late answer must not free it. After that the store is another one."""
        while True:
            await self._clock.sleep(_EXTEND_SECONDS)
            with contextlib.suppress(StoreAway):
                await (await self._sharing.store()).extend(self.name, lease)

    def hold(self, token: AccessToken, obtained: Obtained) -> None:
        """Record that the slot uses *token*, which it made of *obtained*."""
        self.memory.held, self.memory.lifetime, self.memory.ends = token, obtained.lifetime, obtained.ends

    async def publish(self) -> None:
        """Give the token that was minted under the lease to the other replicas."""
        lease, self._lease, held = self._lease, "", self.memory.held
        if not lease or held is None:
            return
        try:
            store, until = await self._sharing.store(), self._sharing.redis_time(held.expires)
            await store.publish(self.name, lease, self._shared(held), until=until)
        except Exception as error:  # noqa: BLE001 - the token is in use already
            self._sharing.lost(error)

    async def look(self, store: RedisTokenStore, seen: Seen, *, offset: float) -> None:
        """Offer the slot what is in Redis, or store our token again if it was lost there; raise StoreAway."""
        now, held = self._clock.monotonic(), self.memory.held
        if held is not None and held.freshness(now) is Freshness.EXPIRED:
            held = None
        found = self._here(seen, offset=offset)
        if self._next_step(found, held) is Step.ADOPT:
            if found is not None and self._offer is not None:
                self._offer(found)
        elif held is not None and held.freshness(now) is Freshness.FRESH and self._is_to_restore(seen, found, held):
            until = self._sharing.redis_time(held.expires)
            await store.restore(self.name, self._shared(held), until=until, seen=seen.sealed)

    def _is_to_restore(self, seen: Seen, found: Obtained | None, held: AccessToken) -> bool:
        """Return whether *held* shall be in Redis instead of *found*: nothing, an older token, or one by an old key."""
        if seen.token is None or found is None:
            return True
        if held.fingerprint != seen.token.fingerprint:
            # After an outage, when each replica has its own, all take the newest.
            return not self._is_newer(found)
        # Once for each token: in the middle of a change of keys, other replicas still prefer the old one.
        again = seen.by_old_key and held.fingerprint != self._sealed_again
        if again:
            self._sealed_again = held.fingerprint
        return again

    def refused(self, token: AccessToken, *, worked: bool) -> None:
        """Never adopt *token* again; if it is another replica's, find out whether it is refused here only."""
        self.memory.refused.append(token.fingerprint)
        self.memory.refused_minted = max(self.memory.refused_minted, token.minted)
        self.memory.held = None
        if not self._is_foreign(token):
            self.binding.own_refused(now=self._clock.monotonic())
        elif worked:
            self.binding.foreign_worked()
        else:
            self._doubtful = token.fingerprint

    def replayed(self, token: AccessToken, *, refused_again: bool) -> None:
        """Draw the conclusion from whether *token* was accepted after another one had been refused."""
        foreign = self._is_foreign(token)
        if refused_again:
            if not foreign:
                self.binding.own_refused(now=self._clock.monotonic())
        elif foreign:
            self.binding.foreign_worked()
        elif self.binding.own_accepted(now=self._clock.monotonic()):
            self._sharing.observe(TokenSharingStopped(credential=self.key.credential, audience=self.key.audience))

    def take_over(self, previous: TokenShare) -> None:
        """Continue with what *previous*, for the same key and credential, has learned."""
        if isinstance(previous, ReplicaShare):
            self.binding, self.memory = previous.binding, replace(previous.memory)

    def _judge(self, seen: Seen) -> None:
        """Count a refusal of another replica's token if its minter has kept it: if not, it was refused everywhere."""
        doubtful, self._doubtful = self._doubtful, ""
        if doubtful and seen.token is not None and seen.token.fingerprint == doubtful:
            self.binding.foreign_refused(now=self._clock.monotonic())

    def _next_step(self, found: Obtained | None, current: AccessToken | None) -> Step:
        memory = self.memory
        if found is not None and found.minted <= memory.refused_minted:
            return Step.MINT  # it is the refused one, or one from a restored copy of Redis
        newer = found is not None and self._is_newer(found)
        return next_step(found, current=current, newer=newer, refused=memory.refused, now=self._clock.monotonic())

    def _is_newer(self, found: Obtained) -> bool:
        """Return whether *found* was minted after our token, by Redis' clock; all replicas decide alike."""
        held, shown = self.memory.held, fingerprint(found.value.reveal())
        if held is None or shown == held.fingerprint:
            return held is None
        ours = self._ends(held) - self.memory.lifetime
        return (found.ends - found.lifetime, shown) > (ours, held.fingerprint)

    def _ends(self, held: AccessToken) -> float:
        """Return the end of our token by Redis' clock; anew if that was set back, as by a failover to another host."""
        ends = self._sharing.redis_time(held.minted + self.memory.lifetime)
        if not self.memory.ends or self.memory.ends > ends + SKEW_SECONDS:
            self.memory.ends = ends
        return self.memory.ends

    def _here(self, seen: Seen, *, offset: float) -> Obtained | None:
        """Return the shared token by our clock; *offset* leads from Redis' time to monotonic time."""
        token, now = seen.token, self._clock.monotonic()
        if token is None:
            return None
        now_redis, now_wall = now - offset, self._clock.now()
        return Obtained(
            value=token.value,
            lifetime=token.lifetime,
            minted=now + token.left(now=now_redis, now_wall=now_wall) - token.lifetime,
            minter=token.minter,
            ends=token.ends_by(now=now_redis, now_wall=now_wall),
        )

    def _is_foreign(self, token: AccessToken) -> bool:
        return token.minter not in {"", self._sharing.replica}

    def _shared(self, token: AccessToken) -> SharedToken:
        ends = token.minted + self.memory.lifetime
        return SharedToken(
            value=token.value,
            lifetime=self.memory.lifetime,
            ends=self._ends(token),
            ends_wall=self._clock.now() + ends - self._clock.monotonic(),
            minter=token.minter or self._sharing.replica,
        )

    def __repr__(self) -> str:
        return f"<ReplicaShare {self.key!r} {self.binding!r}>"
