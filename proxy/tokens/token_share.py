"""The interface through which a slot shares its token with other replicas."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.credentials.token_key import TokenKey
from proxy.secret import Secret
from proxy.tokens.token import AccessToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """A token for a slot: *lifetime* in seconds from monotonic *minted*; *minter* is the replica, "" for this one.

    *ends* is its end by Redis' clock, 0 if that is not known yet: by it all replicas know which token is newer.
    """

    value: Secret
    lifetime: float
    minted: float
    minter: str = ""
    ends: float = 0.0


Mint = Callable[[], Awaitable[Obtained]]
Offer = Callable[[Obtained], None]


class TokenShare:
    """What a slot shares. This class is for one instance alone: it shares nothing; `ReplicaShare` is for more."""

    def attach(self, offer: Offer) -> None:
        """Call *offer* with tokens that other replicas have minted meanwhile."""

    async def obtain(self, mint: Mint, *, current: AccessToken | None) -> Obtained:  # noqa: ARG002 - nothing is shared
        """Return a token newer than *current* (None: there is no usable one): another replica's, or from *mint*.

        Raises only what *mint* raises.
        """
        return await mint()

    def hold(self, token: AccessToken, obtained: Obtained) -> None:
        """Record that the slot uses *token* from now on, which it made of *obtained*."""

    async def publish(self) -> None:
        """Give the token that was minted last to the other replicas; never raises."""

    def refused(self, token: AccessToken, *, worked: bool) -> None:
        """Record that the bank refused *token*; *worked*: it had accepted it here before."""

    def replayed(self, token: AccessToken, *, refused_again: bool) -> None:
        """Record whether the bank accepted *token* after it had refused another one."""

    def take_over(self, previous: "TokenShare") -> None:
        """Continue with what *previous*, for the same key and credential, has learned."""


class TokenSharing:
    """The shares of one token manager. This class is for one instance alone; `ReplicaSharing` is for more."""

    active = False

    @property
    def problem(self) -> str:
        """Return why tokens are not shared as configured, "" if they are."""
        return ""

    def share(self, key: TokenKey, *, fingerprint: str) -> TokenShare:  # noqa: ARG002 - nothing is shared
        """Return the share for *key*, with the credential of this *fingerprint*."""
        return TokenShare()

    async def run(self) -> None:
        """Keep in touch with the other replicas, until cancelled."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close all connections."""
