"""The keeper's slot for one token: there from the start, renewed before requests must wait, replaced when refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from proxy.clock import Clock
from proxy.credentials.token_key import TokenKey
from proxy.entropy import Entropy
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import MintFailed, Observer, TokenAdopted, TokenMinted
from proxy.link.messages import TokenFailure
from proxy.tokens.replacement import Replacement
from proxy.tokens.response import Minted, MintRefused
from proxy.tokens.schedule import lifespan, outage_delay, refusal_delay
from proxy.tokens.token import AccessToken, Freshness
from proxy.tokens.token_share import Obtained, TokenShare

REPLACED, KEPT, FAILED = "replaced", "kept", "failed"

# Lower limit between mints, whatever lifetimes the endpoint returns and however slow it is.
_MIN_SECONDS_BETWEEN_MINTS = 1.0


class Slot:
    """One key, one task: mints are single-flight, and all waiters share the next outcome, good or bad.

    *mint* makes one attempt, with its own timeout, and raises TokenRefused or TokenUnavailable. *publish* is called
    after every change of `current` or `failure`, before the waiters continue. *serial* numbers the tokens. *ask*: see
    `Replacement`. *share* gets tokens from other replicas and gives ours to them.
    """

    def __init__(
        self,
        key: TokenKey,
        *,
        origins: frozenset[str],
        mint: Callable[[], Awaitable[Minted]],
        clock: Clock,
        entropy: Entropy,
        observe: Observer,
        publish: Callable[["Slot"], None],
        serial: Callable[[], int],
        ask: Callable[[int, float], None],
        share: TokenShare | None = None,
    ) -> None:
        self.key = key
        self.current: AccessToken | None = None
        self.failure: TokenFailure | None = None
        self.refused_at = 0.0  # when the bank last refused a token of this slot (monotonic), 0 for never
        self.tried = False  # the first attempt has ended, successfully or not
        self._origins = origins
        self._mint = mint
        self._clock = clock
        self._entropy = entropy
        self._observe = observe
        self._publish = publish
        self._serial = serial
        self._due = clock.monotonic()
        self._failures = 0
        self._mint_seconds = 0.0  # of the last mint here, also while tokens of other replicas are used
        self._minting = False
        self._timer: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self.replacement = Replacement(clock=clock, ask=ask)
        self.share_by(share or TokenShare())

    def share_by(self, share: TokenShare) -> None:
        """Share tokens by *share* from now on: that of the credential that mints them."""
        self.share = share
        share.attach(self._offered)

    def adopt(self, token: AccessToken) -> None:
        """Start with *token*, minted by a slot with the same key and credential fingerprint; call it before `run`."""
        self.current = replace(token, origins=self._origins)
        self.tried = True
        self._due = token.stale_at

    async def run(self) -> None:
        """Mint whenever one is due, until cancelled; then release all waiters."""
        try:
            while True:
                await self._until_due()
                await self._attempt()
        finally:
            self._settled.set()

    async def replace(self, mint: int, *, route: str, source: str, behind: bool = False) -> str:
        """Handle the refusal of the token with serial *mint*: return `replaced`, `kept` (no mint is due) or `failed`.

        If the token was replaced meanwhile, no mint is spent. Else exactly that token, never a newer one, is replaced;
        all reports of the same token share one mint. While the bank accepts it from others, it stays in service for
        them, unless the request went on with another token (*behind*). During the back-off after a failed mint the
        result is `failed` at once. *source*: see `source_of`.
        """
        judged = 0 < mint == self._in_use and not self.replacement.in_doubt(mint)
        if judged and not await self.replacement.is_due(mint, route=route, source=source, behind=behind):
            return REPLACED if self._newer_than(mint) else KEPT
        if self._newer_than(mint):
            return REPLACED
        if self.current is not None and self._in_use:
            if mint != self._in_use:
                return KEPT
            self._give_up(self.current, source, behind=behind)
        if self._backing_off():
            return FAILED
        await self.outcome()
        return REPLACED if self._newer_than(mint) else FAILED

    async def outcome(self) -> None:
        """Wait for the end of the current or next attempt; cancelling the wait does not affect other waiters."""
        await self._settled.wait()

    def refused_fresh(self, mint: int, *, route: str, source: str) -> None:
        """A replay with the new token, of serial *mint*, was refused too, to *source* on *route*."""
        self.replacement.refused_fresh(mint, route=route, source=source)
        self._replayed(mint, refused_again=True)

    def replay_succeeded(self, mint: int, *, route: str, source: str) -> None:
        """A replay with the token with serial *mint* was accepted from *source* on *route*."""
        self.replacement.replay_succeeded(route=route, source=source)
        self._replayed(mint, refused_again=False)

    def retry_now(self) -> None:
        """Clear the back-off because something changed: a reload, a rotation or an operator's request."""
        self._failures = 0
        self.replacement.forget()
        if self._backing_off():
            self._mint_now()

    def _replayed(self, mint: int, *, refused_again: bool) -> None:
        # The current token may have followed the one that was replayed, and be another replica's.
        if self.current is not None and self.current.mint == mint:
            self.share.replayed(self.current, refused_again=refused_again)

    async def _until_due(self) -> None:
        while (left := self._due - self._clock.monotonic()) > 0:
            # The wait ends when the timer expires, or when _wake cancels it because _due has changed.
            self._timer = asyncio.ensure_future(self._clock.sleep(left))
            try:
                await asyncio.wait([self._timer])
            finally:
                self._timer.cancel()
                self._timer = None

    def _mint_now(self) -> None:
        self._due = self._clock.monotonic()
        self._wake()

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _attempt(self) -> None:
        share, self._minting = self.share, True
        renewed = None if self.replacement.in_doubt(self._in_use) or self._expired() else self.current
        try:
            obtained = await share.obtain(self._mint_here, current=renewed)
        except (TokenRefused, TokenUnavailable) as error:
            await self._failed(error)
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper with other valid tokens
            detail = f"No token can be had for credential {self.key.credential}."
            await self._failed(TokenUnavailable(detail, cause=f"a defect of the proxy: {type(error).__name__}"))
        else:
            self._succeeded(obtained, by=share)
        finally:
            self._minting = False
        self._settle()
        if share is self.share:
            await share.publish()
        else:  # the credential was replaced meanwhile: this is the old one's token, or its failure
            self.retry_now()

    async def _mint_here(self) -> Obtained:
        # The lifetime is counted from the start of the call, since the endpoint may count from there.
        started = self._clock.monotonic()
        minted = await self._mint()
        self._mint_seconds = self._clock.monotonic() - started
        return Obtained(value=minted.value, lifetime=minted.lifetime, minted=started)

    def _offered(self, obtained: Obtained) -> None:
        """Use a token that another replica has minted, unless an attempt is under way, which finds it by itself."""
        if not self._minting:
            self._succeeded(obtained, by=self.share)
            self._wake()
            self._settle()

    def _settle(self) -> None:
        self.tried = True
        self._publish(self)
        self._settled.set()
        self._settled = asyncio.Event()

    def _succeeded(self, obtained: Obtained, *, by: TokenShare) -> None:
        now = self._clock.monotonic()
        span = lifespan(
            minted=obtained.minted,
            lifetime=obtained.lifetime,
            jitter=self._entropy.uniform(0, 1),
            mint_seconds=self._mint_seconds,
        )
        token = AccessToken(
            key=self.key,
            mint=self._serial(),
            value=obtained.value,
            origins=self._origins,
            minted=obtained.minted,
            stale_at=span.stale_at,
            expires=span.expires,
            minter=obtained.minter,
        )
        self.current, self.failure = token, None
        self._due = span.stale_at if token.minter else max(span.stale_at, now + _MIN_SECONDS_BETWEEN_MINTS)
        by.hold(token, obtained)
        self._report(token, lifetime=obtained.lifetime)

    def _report(self, token: AccessToken, *, lifetime: float) -> None:
        now = self._clock.monotonic()
        about: dict[str, Any] = {
            "credential": self.key.credential,
            "audience": self.key.audience,
            "mint": token.mint,
            "fingerprint": token.fingerprint,
            "expires": self._clock.now() + token.expires - now,
        }
        if token.minter:
            self._observe(TokenAdopted(**about, minter=token.minter))
        else:
            self._observe(TokenMinted(**about, seconds=now - token.minted, lifetime=lifetime))

    async def _failed(self, error: TokenRefused | TokenUnavailable) -> None:
        """Keep a token that is still valid, and schedule the next attempt."""
        await self.replacement.settled(self._in_use)
        delay = self._delay_after(error)
        self._due = self._clock.monotonic() + delay
        self.failure = TokenFailure(error.code, error.detail, error.cause, until=self._due)
        if self._expired() or self.replacement.is_void(self._in_use):
            self.current = None
        self._observe(
            MintFailed(
                credential=self.key.credential,
                audience=self.key.audience,
                code=error.code,
                error=error.error if isinstance(error, MintRefused) else "",
                cause=error.cause,
                retry_in=delay,
            )
        )

    def _delay_after(self, error: TokenRefused | TokenUnavailable) -> float:
        if self.failure is None or self.failure.code != error.code:
            self._failures = 0
        self._failures += 1
        if isinstance(error, TokenRefused):
            return refusal_delay(self._failures)
        if error.retry_after is not None:
            return float(error.retry_after)
        return outage_delay(self._failures, jitter=self._entropy.uniform(0, 1))

    def _give_up(self, refused: AccessToken, source: str, *, behind: bool) -> None:
        """Get the next token unless a back-off forbids it; discard *refused* if others can't go on with it."""
        known = self.replacement.in_doubt(refused.mint)
        if not known:
            self.refused_at = self._clock.monotonic()
            self.share.refused(refused, worked=self.replacement.has_accepted(refused.mint))
        withdrawn = self.replacement.begin(refused.mint, source=source, behind=behind)
        if withdrawn:
            self.current = None
        if not known and not self._minting and not self._backing_off():
            self._mint_now()
        if withdrawn:
            self._publish(self)

    def _newer_than(self, mint: int) -> bool:
        return self._in_use > mint

    @property
    def _in_use(self) -> int:
        """Return the serial of the current token, 0 if there is none that can be sent."""
        return 0 if self.current is None or self._expired() else self.current.mint

    def _expired(self) -> bool:
        return self.current is not None and self.current.freshness(self._clock.monotonic()) is Freshness.EXPIRED

    def _backing_off(self) -> bool:
        return self.failure is not None and not self._minting and self._due > self._clock.monotonic()

    def __repr__(self) -> str:
        now = self._clock.monotonic()
        if self.current is not None:
            state = f"{self.current.freshness(now).value}, {self.current.expires - now:.0f} s left"
        else:
            state = "no token"
        return f"<Slot {self.key!r} {state}{f', {self.failure.code}' if self.failure else ''}>"
