"""Whether a slot replaces its refused token, and whether others may go on with it until its successor is there."""

import asyncio
from collections.abc import Callable

from proxy.clock import Clock
from proxy.tokens.rate_limit import RateLimit
from proxy.tokens.refusals import Doubt, Suspects, Verdict, verdict

# How long a refusal without a claim to a mint waits for another request to show that the token works.
_PROOF_SECONDS = 1.0
_LAST_RESORTS, _LAST_RESORT_SECONDS = 3.0, 10.0


class Replacement:
    """Judges the refusals of one slot's tokens, which are known by their serials.

    *ask* has the workers report the next acceptance of a token by a request sent at that monotonic time or later.
    """

    def __init__(self, *, clock: Clock, ask: Callable[[int, float], None]) -> None:
        self._clock = clock
        self._ask = ask
        self._accepted = 0  # the newest token that the bank has accepted
        self._doubt: Doubt | None = None
        self._suspects = Suspects()
        self._limits: dict[str, RateLimit] = {}
        self._last_resort = RateLimit(
            now=clock.monotonic(), capacity=_LAST_RESORTS, refill_seconds=_LAST_RESORT_SECONDS
        )
        self._waiting: list[tuple[float, asyncio.Future[bool]]] = []
        self._asked = False

    def has_accepted(self, mint: int) -> bool:
        """Return whether the bank has accepted the token with serial *mint*."""
        return mint == self._accepted

    def in_doubt(self, mint: int) -> bool:
        """Return whether the token with serial *mint* is being replaced after a refusal."""
        return self._doubt is not None and self._doubt.mint == mint

    def is_void(self, mint: int) -> bool:
        """Return whether the token *mint* is being replaced, and nobody was served with it since its refusal."""
        return self._doubt is not None and self._doubt.mint == mint and not self._doubt.works

    async def is_due(self, mint: int, *, route: str, source: str, behind: bool) -> bool:
        """Return whether the refusal of the token in use, *mint*, to *source* on *route* is to be followed by a mint.

        It may wait a second for a sign that the token works, not because the caller errs if the request went on with a
        fallback's token (*behind*): see `begin`. A mint that is due was taken from the rate limit.
        """
        now = self._clock.monotonic()
        if self._suspects.is_fresh(source, mint, now=now):
            self.refused_fresh(mint, route=route, source=source)
        step = self._verdict(mint, route=route, source=source, behind=behind, works=None)
        if step is Verdict.ASK:
            works = await self._works_since_now(mint)
            if self.in_doubt(mint):
                return True
            step = self._verdict(mint, route=route, source=source, behind=behind, works=works)
        if step is not Verdict.MINT or not self._spend(route, source):
            return False
        self._suspects.minted_for(source, mint, now=self._clock.monotonic())
        return True

    def begin(self, mint: int, *, source: str, behind: bool) -> bool:
        """Note a refusal of the token in use, *mint*, to *source*; return whether the token is to be withdrawn at once.

        It stays in service for others if the bank has accepted it before, unless a second source is refused while
        nobody is served, or the request went on with a fallback's token (*behind*): others need not wait either then,
        and each further refusal would count against the migration. A refusal that is held to be one of the request, or
        without a fallback of a caller that errs, shows nothing.
        """
        now = self._clock.monotonic()
        suspect = self._suspects.holds(source, now=now) or self._errs(source, behind=behind)
        if self._doubt is not None and self._doubt.mint == mint:
            return (behind and not suspect) or self._doubt.withdraws(source, suspect=suspect)
        self._doubt = Doubt(mint, source, now)
        self._end_waiting(lambda _: True, works=False)
        if not self.has_accepted(mint) or (behind and not suspect):
            return True
        self._ask(mint, now)
        return False

    async def settled(self, mint: int) -> None:
        """Wait until it is known whether the token *mint*, if in doubt, works: until a second after the refusal."""
        doubt = self._doubt
        if doubt is None or doubt.mint != mint or doubt.works:
            return
        left = doubt.since + _PROOF_SECONDS - self._clock.monotonic()
        if left > 0:
            await self._proof(doubt.since, seconds=left)

    def accepted(self, mint: int, *, sent: float) -> None:
        """Note that the bank accepted the token *mint* in a request that was sent at monotonic *sent*."""
        if mint < self._accepted:
            return
        self._accepted = mint
        if self._doubt is not None and self._doubt.mint == mint and sent >= self._doubt.since:
            self._doubt.works = True
        self._asked = False
        self._end_waiting(lambda since: since <= sent, works=True)
        self._ask_for_waiting(mint)

    def refused_fresh(self, mint: int, *, route: str, source: str) -> None:
        """Note that a replay on *route* with the new token *mint* was refused too: the token was not the cause."""
        now = self._clock.monotonic()
        self._limit(route).refused_fresh(now=now)
        self._last_resort.refused_fresh(now=now)
        self._suspects.refused_fresh(source, mint, now=now)

    def replay_succeeded(self, *, route: str, source: str) -> None:
        """Note that a replay on *route* with a new token was accepted: the former token was void."""
        now = self._clock.monotonic()
        self._limit(route).replay_succeeded(now=now)
        self._last_resort.replay_succeeded(now=now)
        self._suspects.cleared(source)

    def forget(self) -> None:
        """Forget the suspects, since something has changed."""
        self._suspects.clear()

    def _errs(self, source: str, *, behind: bool) -> bool:
        """Return whether the caller of *source* errs, which doesn't matter with a fallback (*behind*)."""
        return not behind and self._suspects.errs(source, now=self._clock.monotonic())

    def _verdict(self, mint: int, *, route: str, source: str, behind: bool, works: bool | None) -> Verdict:
        now = self._clock.monotonic()
        return verdict(
            suspect=self._suspects.holds(source, now=now),
            erring=self._errs(source, behind=behind),
            credit=self._limit(route).wait(now=now) == 0,
            accepted=self.has_accepted(mint),
            last_resort=self._last_resort.wait(now=now) == 0,
            works=works,
        )

    def _spend(self, route: str, source: str) -> bool:
        now = self._clock.monotonic()
        limit = self._last_resort if self._suspects.holds(source, now=now) else self._limit(route)
        return limit.spend(now=now) or self._last_resort.spend(now=now)

    async def _works_since_now(self, mint: int) -> bool:
        """Return whether the token *mint* is accepted within a second in a request sent from now on."""
        now = self._clock.monotonic()
        if not self._asked:
            self._asked = True
            self._ask(mint, now)
        return await self._proof(now, seconds=_PROOF_SECONDS)

    async def _proof(self, since: float, *, seconds: float) -> bool:
        """Return whether within *seconds* an acceptance is reported of a request sent at monotonic *since* or later."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((since, answer))
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        timer.add_done_callback(lambda _: _end(answer, works=False))
        try:
            return await answer
        finally:
            timer.cancel()
            self._waiting = [one for one in self._waiting if one[1] is not answer]

    def _ask_for_waiting(self, mint: int) -> None:
        if self._waiting:
            self._asked = True
            self._ask(mint, max(since for since, _ in self._waiting))

    def _end_waiting(self, ends: Callable[[float], bool], *, works: bool) -> None:
        for since, answer in self._waiting:
            if ends(since):
                _end(answer, works=works)
        self._waiting = [one for one in self._waiting if not one[1].done()]

    def _limit(self, route: str) -> RateLimit:
        if route not in self._limits:
            self._limits[route] = RateLimit(now=self._clock.monotonic())
        return self._limits[route]

    def __repr__(self) -> str:
        return f"<Replacement {len(self._limits)} routes, {self._suspects!r}>"


def _end(answer: asyncio.Future[bool], *, works: bool) -> None:
    if not answer.done():
        answer.set_result(works)
