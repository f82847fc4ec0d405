"""The worker's token cache: the keeper pushes tokens, requests look them up."""

import asyncio
from collections.abc import Callable, Iterable

from proxy.clock import Clock
from proxy.credentials.token_key import TokenKey
from proxy.errors import ProxyError, TokenRefused, TokenUnavailable
from proxy.link.messages import (
    RefusalAnswer,
    Replayed,
    TokenAccepted,
    TokenAsked,
    TokenFailure,
    TokenRefusal,
    TokenUpdate,
)
from proxy.tokens.token import AccessToken

Send = Callable[[TokenRefusal | TokenAccepted | Replayed], None]


class TokenCache:
    """Tokens by key, as last sent by the keeper; *send* sends a message to the keeper."""

    def __init__(self, keys: Iterable[TokenKey], *, clock: Clock, send: Send) -> None:
        self._keys = {key.digest: key for key in keys}
        self._monotonic = clock.monotonic
        self._send = send
        self._tokens: dict[str, AccessToken] = {}  # by digest
        self._failures: dict[TokenKey, TokenFailure] = {}
        self._changes: dict[TokenKey, asyncio.Future[str]] = {}
        self._asked = 0
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._behind: dict[tuple[TokenKey, str], tuple[int, str]] = {}
        self._taken: dict[tuple[TokenKey, str, str], int] = {}
        # The mints whose next acceptance the keeper wants to know. Each send looks here, without a call.
        self.to_report: set[int] = set()
        self._report_since: dict[int, float] = {}
        self._abandoned = False

    def get(self, key: TokenKey) -> AccessToken | None:
        """Return the unexpired token for *key*, if any."""
        token = self._tokens.get(key.digest)
        return token if token is not None and self._monotonic() < token.expires else None

    async def wait(self, key: TokenKey, *, until: float) -> AccessToken:
        """Return a token for *key*; wait for its first mint until monotonic *until*.

        Raises TokenRefused or TokenUnavailable at once if the keeper has reported a failure.
        """
        while (token := self.get(key)) is None:
            failure = self._failures.get(key)
            if failure is not None:
                raise self._refusal(failure)
            if self._abandoned:
                raise TokenUnavailable("The proxy is stopping, and no access token will come.", retry_after=2)
            change = self._changes.get(key)
            if change is None:
                change = self._changes[key] = asyncio.get_running_loop().create_future()
            left = until - self._monotonic()
            done, _ = await asyncio.wait([change], timeout=max(left, 0))
            if not done:
                raise TokenUnavailable("No access token arrived in time.", retry_after=1)
        return token

    async def replace(self, refused: AccessToken, route: str, source: str, *, until: float) -> AccessToken | None:
        """Return a token newer than *refused*, minted if that is due; None if there is none."""
        newer = self.newer(refused)
        if newer is not None:
            return newer
        answer = self.refuse(refused, route, source)
        await asyncio.wait([answer], timeout=max(until - self._monotonic(), 0))
        return self.newer(refused)

    def refuse(self, refused: AccessToken, route: str, source: str, *, behind: bool = False) -> "asyncio.Future[str]":
        """Report to the keeper that the bank refused *refused* to *source* (see `source_of`) on *route*.

        Its answer arrives after the new token, if any. *behind*: see `refuse_behind`.
        """
        self._asked += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self._abandoned:
            answer.set_result("failed")
            return answer
        self._answers[self._asked] = answer
        self._send(TokenRefusal(self._asked, refused.key.digest, refused.mint, route, source, behind))
        return answer

    def refuse_behind(self, refused: AccessToken, route: str, source: str) -> None:
        """Report *refused* for a request that does not wait, since it continues with another token.

        If *refused* was itself minted for such a request, that is reported too: as after a replay that was refused
        again, the next mint comes later.
        """
        before, _ = self._behind.get((refused.key, route), (refused.mint, source))
        if before < refused.mint:
            self.replayed(refused, route, source, refused_again=True)
        self._behind[refused.key, route] = (max(before, refused.mint), source)
        self.refuse(refused, route, source, behind=True)

    def works(self, token: AccessToken, *, sent: float) -> None:
        """Report, if the keeper wants to know it, that the bank accepted *token* in a request sent at monotonic *sent*.

        Call it if the mint is in `to_report`.
        """
        if sent >= self._report_since.get(token.mint, 0.0):
            self.to_report.discard(token.mint)
            self._report_since.pop(token.mint, None)
            self._send(TokenAccepted(token.key.digest, token.mint, sent))

    def on_asked(self, message: TokenAsked) -> None:
        """Report the next acceptance of a token, by a request sent at that time or later."""
        token = self._tokens.get(message.key)
        if token is not None and token.mint == message.mint:
            self.to_report.add(message.mint)
            self._report_since[message.mint] = message.since

    def is_awaited(self, key: TokenKey) -> bool:
        """Return whether a mint for *key* is in progress, the first or after a refusal, and has not failed."""
        return key.digest not in self._tokens and key not in self._failures

    def proven(self, key: TokenKey, route: str, caller: str) -> bool:
        """Return whether the bank has accepted the current token from *caller* on *route*."""
        token = self.get(key)
        return token is not None and self._taken.get((key, route, caller)) == token.mint

    def accepted(self, key: TokenKey, route: str, caller: str, *, fingerprint: str) -> None:
        """Record that the bank accepted the token with *fingerprint*.

        If it is newer than the one that `refuse_behind` reported, the replacement succeeded.
        """
        token = self.get(key)
        if token is None or token.fingerprint != fingerprint:
            return
        self._taken[key, route, caller] = token.mint
        before, source = self._behind.get((key, route), (token.mint, ""))
        if token.mint > before:
            del self._behind[key, route]
            self.replayed(token, route, source, refused_again=False)

    def replayed(self, token: AccessToken, route: str, source: str, *, refused_again: bool) -> None:
        """Report the outcome of a replay with *token* to the keeper, which sets how soon the next one may mint."""
        self._send(Replayed(token.key.digest, token.mint, route, refused_again, source))

    def on_answer(self, message: RefusalAnswer) -> None:
        """Handle the keeper's answer to a refusal."""
        answer = self._answers.pop(message.ask, None)
        if answer is not None and not answer.done():
            answer.set_result(message.outcome)

    def on_update(self, message: TokenUpdate) -> None:
        """Handle a new token, or a failure to get one."""
        key = self._keys.get(message.key)
        if key is None:
            return
        token, before = message.token, self._tokens.get(key.digest)
        self._expect_acceptance(0 if token is None else token.mint, before)
        if token is None:
            self._tokens.pop(key.digest, None)
        else:
            self._tokens[key.digest] = AccessToken(
                key=key,
                mint=token.mint,
                value=token.value,
                origins=frozenset(token.origins),
                minted=token.minted,
                stale_at=token.stale_at,
                expires=token.expires,
            )
        if message.failure is None:
            self._failures.pop(key, None)
        else:
            self._failures[key] = message.failure
        change = self._changes.pop(key, None)
        if change is not None and not change.done():
            change.set_result("changed")

    def _expect_acceptance(self, mint: int, before: AccessToken | None) -> None:
        """Report the first acceptance of the token *mint* (0: there is none), and no more that of *before*."""
        if before is not None and before.mint == mint:
            return
        if before is not None:
            self.to_report.discard(before.mint)
            self._report_since.pop(before.mint, None)
        if mint:
            self.to_report.add(mint)

    def abandon(self) -> None:
        """End all waits: the keeper is gone. Cached tokens are used until they expire."""
        self._abandoned = True
        for waiting in (*self._answers.values(), *self._changes.values()):
            if not waiting.done():
                waiting.set_result("failed")
        self._answers.clear()
        self._changes.clear()

    def newer(self, than: AccessToken) -> AccessToken | None:
        """Return a token minted later than *than*, None if there is none here."""
        token = self.get(than.key)
        return token if token is not None and token.mint > than.mint else None

    def _refusal(self, failure: TokenFailure) -> ProxyError:
        seconds = max(1, int(failure.until - self._monotonic()) + 1)
        if failure.code == TokenRefused.code:
            return TokenRefused(failure.detail, cause=failure.cause)
        return TokenUnavailable(failure.detail, cause=failure.cause, retry_after=seconds)

    def __repr__(self) -> str:
        return f"<TokenCache {len(self._tokens)} of {len(self._keys)} tokens, {len(self._failures)} failures>"
