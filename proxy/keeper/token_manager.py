"""The keeper's tokens: one slot per key in the routes, one endpoint per credential, and the messages for workers."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proxy.clock import Clock
from proxy.credentials.credential import Credential
from proxy.credentials.token_key import TokenKey
from proxy.entropy import Entropy
from proxy.events import Observer
from proxy.link.messages import TokenAsked, TokenUpdate, TokenValue
from proxy.routing.table import RouteTable
from proxy.telemetry.status import TokenState, TokenStatus
from proxy.tokens.endpoint import TokenEndpoint
from proxy.tokens.refusals import MAX_SOURCE_CHARACTERS
from proxy.tokens.response import Minted
from proxy.tokens.slot import Slot
from proxy.tokens.token import AccessToken, Freshness
from proxy.tokens.token_share import TokenShare, TokenSharing

Broadcast = Callable[[TokenUpdate | TokenAsked], object]


class TokenManager:
    """All slots of one configuration; *broadcast* sends a message to every worker, *serial* numbers the tokens.

    *sharing* shares them with other replicas.
    """

    def __init__(
        self,
        table: RouteTable,
        credentials: Mapping[str, Credential],
        *,
        clock: Clock,
        entropy: Entropy,
        observe: Observer,
        broadcast: Broadcast,
        serial: Iterator[int],
        sharing: TokenSharing | None = None,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._observe = observe
        self._broadcast = broadcast
        self.sharing = sharing or TokenSharing()
        self._credentials = dict(credentials)
        self._routes = frozenset(route.name for route in table.routes)
        self._outlets = {name: self._outlet(credential) for name, credential in credentials.items()}
        self._slots = {
            key.digest: Slot(
                key,
                origins=origins,
                mint=self._minter(key),
                clock=clock,
                entropy=entropy,
                observe=observe,
                publish=self._publish,
                serial=lambda: next(serial),
                ask=self._asker(key),
                share=self._share(key),
            )
            for key, origins in table.origins().items()
        }

    async def run(self) -> None:
        """Run every slot until cancelled; then close the endpoints."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.sharing.run(), name="shared tokens")
                for slot in self._slots.values():
                    tasks.create_task(slot.run(), name=repr(slot.key))
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the endpoints and the connections to other replicas; also if `run` was never called."""
        await self.sharing.close()
        for outlet in self._outlets.values():
            await outlet.close()

    def adopt(self, previous: "TokenManager") -> None:
        """Take over *previous*' live tokens with the same key and the same credential.

        Also what its shares have learned, which holds without a token too, as in an outage of the token endpoint.
        """
        for digest, slot in self._slots.items():
            share, token = previous.share(digest, self._credential(slot.key)), previous.live_token(digest)
            if share is None:
                continue
            slot.share.take_over(share)
            if token is not None:
                slot.adopt(token)

    def share(self, digest: str, credential: Credential) -> TokenShare | None:
        """Return the share of the slot *digest*, None if there is none with the key or secret of *credential*."""
        slot = self._slots.get(digest)
        return slot.share if slot is not None and self._credential(slot.key).same_key(credential) else None

    def live_token(self, digest: str) -> AccessToken | None:
        """Return the token of the slot *digest* if it has not expired."""
        slot = self._slots.get(digest)
        token = slot.current if slot is not None else None
        expired = token is not None and token.freshness(self._clock.monotonic()) is Freshness.EXPIRED
        return None if expired else token

    def credential(self, name: str) -> Credential | None:
        """Return the credential in use under *name*."""
        return self._credentials.get(name)

    def keys(self, credential: str) -> tuple[TokenKey, ...]:
        """Return the token keys that use *credential*."""
        return tuple(slot.key for slot in self._slots.values() if slot.key.credential == credential)

    async def replace_credential(self, name: str, credential: Credential) -> None:
        """Mint with *credential* from now on; keep current tokens, end back-offs. Raise CredentialUnusable."""
        old, self._outlets[name] = self._outlets[name], self._outlet(credential)
        before, self._credentials[name] = self._credentials[name], credential
        for slot in self._slots.values():
            if slot.key.credential == name:
                share = self._share(slot.key)
                if credential.same_key(before):
                    share.take_over(slot.share)
                slot.share_by(share)
        self.retry(name)
        await old.retire()

    def messages(self) -> Iterator[TokenUpdate]:
        """Yield the messages for a worker that has just started, each as its slot is then."""
        return map(token_update, self._slots.values())

    async def replace(self, digest: str, mint: int, *, route: str, source: str, behind: bool = False) -> str:
        """Handle the refusal of the token with serial *mint*; return "replaced", "kept" or "failed"."""
        slot = self._slot(digest, route)
        if slot is None:
            return "failed"
        return await slot.replace(mint, route=route, source=source[:MAX_SOURCE_CHARACTERS], behind=behind)

    def accepted(self, digest: str, mint: int, *, sent: float) -> None:
        """Record that the bank accepted the token with serial *mint* in a request sent at monotonic *sent*."""
        if (slot := self._slots.get(digest)) is not None:
            slot.replacement.accepted(mint, sent=sent)

    def replayed(self, digest: str, mint: int, *, route: str, source: str, refused_again: bool) -> None:
        """Record the outcome of a replay with the token with serial *mint*."""
        slot, source = self._slot(digest, route), source[:MAX_SOURCE_CHARACTERS]
        if slot is None:
            return
        if refused_again:
            slot.refused_fresh(mint, route=route, source=source)
        else:
            slot.replay_succeeded(mint, route=route, source=source)

    def retry(self, credential: str, audience: str | None = None) -> int:
        """Clear the back-off of *credential* for *audience* (None: all); return the number of tokens affected."""
        slots = [
            slot
            for slot in self._slots.values()
            if slot.key.credential == credential and audience in (None, slot.key.audience)
        ]
        for slot in slots:
            slot.retry_now()
        return len(slots)

    def statuses(self) -> tuple[TokenStatus, ...]:
        """Return the status of every slot for display."""
        return tuple(self._status(slot) for slot in self._slots.values())

    def _slot(self, digest: str, route: str) -> Slot | None:
        """Return the slot *digest*; None if a worker made it up, or *route*, each of which has a rate limit."""
        return self._slots.get(digest) if route in self._routes else None

    def _credential(self, key: TokenKey) -> Credential:
        return self._credentials[key.credential]

    def _minter(self, key: TokenKey) -> Any:
        return lambda: self._outlets[key.credential].mint(key)

    def _asker(self, key: TokenKey) -> Callable[[int, float], None]:
        def ask(mint: int, since: float) -> None:
            self._broadcast(TokenAsked(key.digest, mint, since))

        return ask

    def _share(self, key: TokenKey) -> TokenShare:
        credential = self._credential(key)
        if not (self.sharing.active and credential.share_tokens):
            return TokenShare()
        return self.sharing.share(key, fingerprint=credential.fingerprint)

    def _outlet(self, credential: Credential) -> "_Outlet":
        return _Outlet(TokenEndpoint(credential, clock=self._clock, entropy=self._entropy, observe=self._observe))

    def _publish(self, slot: Slot) -> None:
        self._broadcast(token_update(slot))

    def _status(self, slot: Slot) -> TokenStatus:
        now, token, failure = self._clock.monotonic(), slot.current, slot.failure
        offset = self._clock.now() - now
        return TokenStatus(
            credential=slot.key.credential,
            audience=slot.key.audience,
            scope=slot.key.scope,
            state=TokenState(token.freshness(now).value) if token else TokenState.NONE,
            tried=slot.tried,
            fingerprint=token.fingerprint if token else "",
            minter=token.minter if token else "",
            seconds_left=max(0.0, token.expires - now) if token else 0.0,
            minted=token.minted + offset if token else 0.0,
            expires=token.expires + offset if token else 0.0,
            error_code=failure.code if failure else "",
            error=failure.cause if failure else "",
            retry_in=max(0.0, failure.until - now) if failure else 0.0,
            refused=slot.refused_at + offset if slot.refused_at else 0.0,
        )


class _Outlet:
    """A token endpoint that can be retired during a mint: it is closed when the mint ends."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint
        self._minting = 0
        self._retired = False

    async def mint(self, key: TokenKey) -> Minted:
        self._minting += 1
        try:
            return await self._endpoint.mint(audience=key.audience, scope=key.scope)
        finally:
            self._minting -= 1
            await self._close_if_done()

    async def retire(self) -> None:
        self._retired = True
        await self._close_if_done()

    async def close(self) -> None:
        await self._endpoint.close()

    async def _close_if_done(self) -> None:
        if self._retired and not self._minting:
            await self._endpoint.close()


def token_update(slot: Slot) -> TokenUpdate:
    """Return a slot's state as a message: the only place where a token is sent to another process."""
    token = slot.current
    return TokenUpdate(
        slot.key.digest,
        None
        if token is None
        else TokenValue(token.mint, token.value, tuple(token.origins), token.minted, token.stale_at, token.expires),
        slot.failure,
    )
