"""Asks all replicas, by the shared stream, whether a request may go to the other side than its weight says."""

import asyncio
import contextlib

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.retry_pins import RetryPins
from proxy.migration.pin import RetryPin
from proxy.migration.stores.redis import RedisStore, ReplicaClaim
from proxy.stores.redis_client import StoreAway

_LOOK_SECONDS = 0.01
# Another replica waits for its workers for two seconds; the worker that asks waits for five.
_ANSWER_SECONDS = 2.3


class ReplicaClaims:
    """Claims of this replica and of others; *pins* asks this replica's workers."""

    def __init__(self, pins: RetryPins, *, clock: Clock, entropy: Entropy) -> None:
        self._pins = pins
        self._clock = clock
        self._entropy = entropy
        self._answers: dict[str, dict[str, bool]] = {}  # by claim number, then by replica name
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(self, store: RedisStore, digest: str, pin: RetryPin, *, me: str) -> bool:
        """Return True if every replica but *me* agrees that the request *digest* goes where *pin* says."""
        number = self._entropy.token_bytes(8).hex()
        answers = self._answers[number] = {}
        try:
            alive, lost = await store.replicas()
            if lost:
                return False  # what a lost replica had in flight is unknown
            others = alive.keys() - {me}
            if not others:
                return True
            await store.add_claim(ReplicaClaim(number=number, sender=me, digest=digest, pin=pin))
            end = self._clock.monotonic() + _ANSWER_SECONDS
            while not others <= answers.keys() and self._clock.monotonic() < end:
                await self._clock.sleep(_LOOK_SECONDS)
        except StoreAway:
            return False
        finally:
            del self._answers[number]
        return others <= answers.keys() and all(answers.values())

    def on_claim(self, store: RedisStore, claim: ReplicaClaim, *, me: str) -> None:
        """Process another replica's claim, to answer it, or its answer to one of ours."""
        if claim.sender == me:
            return
        if claim.pin is None:
            if claim.number in self._answers:
                self._answers[claim.number][claim.sender] = claim.agreed
            return
        task = asyncio.get_running_loop().create_task(
            self._answer(store, claim, claim.pin, me=me), name="claim of a replica"
        )
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, store: RedisStore, claim: ReplicaClaim, pin: RetryPin, *, me: str) -> None:
        agreed = await self._pins.agree(claim.digest, pin)
        with contextlib.suppress(StoreAway):
            await store.add_claim(ReplicaClaim(number=claim.number, sender=me, agreed=agreed))

    def __repr__(self) -> str:
        return f"<ReplicaClaims {len(self._answers)} asked>"
