"""The keeper's tokens: a slot per key that the routes name, an endpoint per credential, and what workers hear."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from proxy.clock import Clock
from proxy.credentials.credential import Credential
from proxy.credentials.key import TokenKey
from proxy.entropy import Entropy
from proxy.events import Observer
from proxy.routing.table import RouteTable
from proxy.telemetry.status import TokenState, TokenStatus
from proxy.tokens.endpoint import TokenEndpoint
from proxy.tokens.slot import Slot

Broadcast = Callable[[dict[str, Any]], None]


class Mints:
    """All slots of one configuration; *broadcast* takes messages for every worker."""

    def __init__(
        self,
        table: RouteTable,
        credentials: Mapping[str, Credential],
        *,
        clock: Clock,
        entropy: Entropy,
        observe: Observer,
        broadcast: Broadcast,
    ) -> None:
        self._clock = clock
        self._broadcast = broadcast
        self._endpoints = {
            name: TokenEndpoint(credential, clock=clock, entropy=entropy, observe=observe)
            for name, credential in credentials.items()
        }
        serial = count(1)
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
            )
            for key, origins in _origins(table).items()
        }

    async def run(self) -> None:
        """Keep every slot, until cancelled; then close the endpoints."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for slot in self._slots.values():
                    tasks.create_task(slot.run(), name=repr(slot.key))
        finally:
            for endpoint in self._endpoints.values():
                await endpoint.close()

    def messages(self) -> Iterable[dict[str, Any]]:
        """Return what a worker that has just started must hear."""
        return [_board_message(slot) for slot in self._slots.values()]

    async def replace(self, digest: str, mint: int, route: str) -> str:
        """Return how the refusal of the token of serial *mint* ended: replaced, kept or failed."""
        slot = self._slots.get(digest)
        return "failed" if slot is None else await slot.replace(mint, route)

    def replayed(self, digest: str, route: str, *, refused_again: bool) -> None:
        """Note how a second send ended."""
        slot = self._slots.get(digest)
        if slot is None:
            return
        if refused_again:
            slot.refused_fresh(route)
        else:
            slot.replay_succeeded(route)

    def retry(self, credential: str, audience: str | None = None) -> int:
        """Forget the back-off of *credential* for *audience* (None: for all); return how many tokens that concerns."""
        slots = [
            slot
            for slot in self._slots.values()
            if slot.key.credential == credential and audience in (None, slot.key.audience)
        ]
        for slot in slots:
            slot.retry_now()
        return len(slots)

    def statuses(self) -> tuple[TokenStatus, ...]:
        """Return every slot as people may see it."""
        return tuple(self._status(slot) for slot in self._slots.values())

    def _minter(self, key: TokenKey) -> Any:
        endpoint = self._endpoints[key.credential]
        return lambda: endpoint.mint(audience=key.audience, scope=key.scope)

    def _publish(self, slot: Slot) -> None:
        self._broadcast(_board_message(slot))

    def _status(self, slot: Slot) -> TokenStatus:
        now, token, failure = self._clock.monotonic(), slot.current, slot.failure
        offset = self._clock.now() - now
        return TokenStatus(
            credential=slot.key.credential,
            audience=slot.key.audience,
            scope=slot.key.scope,
            state=TokenState(token.freshness(now).value) if token else TokenState.NONE,
            tried=token is not None or failure is not None,
            fingerprint=token.fingerprint if token else "",
            seconds_left=max(0.0, token.expires - now) if token else 0.0,
            minted=token.minted + offset if token else 0.0,
            expires=token.expires + offset if token else 0.0,
            error_code=failure.code if failure else "",
            error=failure.cause if failure else "",
            retry_in=max(0.0, failure.until - now) if failure else 0.0,
        )


def _origins(table: RouteTable) -> dict[TokenKey, frozenset[str]]:
    origins: dict[TokenKey, frozenset[str]] = {}
    for route in table.routes:
        origins[route.token_key] = origins.get(route.token_key, frozenset()) | {route.origin}
    return origins


def _board_message(slot: Slot) -> dict[str, Any]:
    """Return a slot's state as the link carries it: the one place where a token is written to another process."""
    token, failure = slot.current, slot.failure
    return {
        "type": "board",
        "key": slot.key.digest,
        "token": token
        and {
            "mint": token.mint,
            "value": token.value.reveal(),
            "origins": sorted(token.origins),
            "minted": token.minted,
            "stale_at": token.stale_at,
            "expires": token.expires,
        },
        "shortage": failure
        and {"code": failure.code, "detail": failure.detail, "cause": failure.cause, "until": failure.until},
    }
