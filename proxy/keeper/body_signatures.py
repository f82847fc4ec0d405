"""Signs bodies for the workers of one generation: they send a digest and get a signature, and never have the key."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.clock import Clock
from proxy.credentials.body_signer import BodySigner
from proxy.credentials.keys import KeyUnusable, key_thumbprint
from proxy.events import Observer, SigningFailed, SigningRecovered
from proxy.keeper.fair_queue import FairQueue
from proxy.link.counts import SignatureCount
from proxy.link.messages import SignatureAnswer, SignatureRequest
from proxy.link.shared_limits import MOST_SIGNATURES_WAITING
from proxy.settings.signature import SIGNATURE_SECONDS
from proxy.text import base64url

_LATE = f"it was not its turn within {SIGNATURE_SECONDS:g} s"

Signers = Mapping[tuple[str, ...], BodySigner]
Answer = Callable[[SignatureAnswer], None]
# What a worker refuses by itself.
_REFUSALS = {
    "overloaded": "too many requests of a worker, or of one caller there, wait for a signature",
    "unanswered": "the keeper did not answer a worker in time",
}
# Others are signed meanwhile, so a signature does not end it: so long after the last refusal it is taken to last.
_OVERLOADED_SECONDS = 60.0


class Count(Protocol):
    """Counts signatures by rule and outcome."""

    def __call__(self, route: str, outcome: str, amount: float = 1.0) -> None:
        """Add *amount*."""


class _Wanted(NamedTuple):
    """A signature that a worker waits for until monotonic *until*."""

    request: SignatureRequest
    answer: Answer
    until: float


class _KeyQueue:
    """One key, and who waits for it: it makes one signature at a time."""

    def __init__(
        self, routes: tuple[str, ...], signer: BodySigner, *, clock: Clock, observe: Observer, count: Count
    ) -> None:
        self.routes = routes
        self.signer = signer
        self.waiting: FairQueue[_Wanted] = FairQueue(most=MOST_SIGNATURES_WAITING)
        self.there = asyncio.Event()
        self._clock = clock
        self._observe = observe
        self._count = count
        self._failing = False
        self._refusing: dict[str, float] = {}

    async def run(self) -> None:
        """Make signatures, until cancelled."""
        if self.signer.remote:
            await self._try()
        while True:
            await self.there.wait()
            self.there.clear()
            while (wanted := self.waiting.take()) is not None:
                await self._serve(wanted)

    async def _try(self) -> None:
        """Open a device before the first request needs it, and say what is wrong with it."""
        try:
            await self.signer.prove()
        except Exception as error:  # noqa: BLE001 - whatever a module or program does to us, the keeper goes on
            self._failed(_cause(error))

    async def _serve(self, wanted: _Wanted) -> None:
        ask, route, digest, _ = wanted.request
        if self._clock.monotonic() >= wanted.until:
            self._count(route, "late")
            wanted.answer(SignatureAnswer(ask, "", "", _LATE))
            return
        try:
            signature, key = await self.signer.sign(bytes.fromhex(digest))
        except Exception as error:  # noqa: BLE001 - as above
            self._count(route, "failed")
            self._failed(_cause(error))
            wanted.answer(SignatureAnswer(ask, "", "", _cause(error)))
            return
        self._count(route, "signed")
        self._worked()
        wanted.answer(SignatureAnswer(ask, base64url(signature).decode("ascii"), key, ""))

    def refused(self, outcome: str) -> None:
        """Say that requests are refused with *outcome*, once while it lasts."""
        if outcome not in self._refusing and not (self._failing and outcome == "unanswered"):
            self._observe(SigningFailed(routes=self.routes, cause=_REFUSALS[outcome]))
        lasts = _OVERLOADED_SECONDS if outcome == "overloaded" else 0.0
        self._refusing[outcome] = self._clock.monotonic() + lasts

    def _worked(self) -> None:
        """Say, after a signature, that what was wrong is over; refusals may go on beside it."""
        wrong = self._failing or bool(self._refusing)
        now, self._failing = self._clock.monotonic(), False
        self._refusing = {outcome: until for outcome, until in self._refusing.items() if until > now}
        if wrong and not self._refusing:
            self._observe(SigningRecovered(routes=self.routes))

    def _failed(self, cause: str) -> None:
        if not self._failing:
            self._failing = True
            self._observe(SigningFailed(routes=self.routes, cause=cause))


class BodySignatures:
    """The keys for bodies, *signers* by the rules that share one; *count* is called with rule and outcome.

    *callers* are those of the configuration, which share a key fairly; of others a worker makes up the names, or there
    are none, so they count as one.
    """

    def __init__(
        self, signers: Signers, *, callers: Collection[str], clock: Clock, observe: Observer, count: Count
    ) -> None:
        self._callers = frozenset(callers)
        self._clock = clock
        self._count = count
        self._queues = [
            _KeyQueue(routes, signer, clock=clock, observe=observe, count=count) for routes, signer in signers.items()
        ]
        self._by_route = {route: queue for queue in self._queues for route in queue.routes}
        for signer in signers.values():
            signer.users += 1

    @property
    def signers(self) -> dict[tuple[str, ...], BodySigner]:
        """Return the keys in use by the rules that share one."""
        return {queue.routes: queue.signer for queue in self._queues}

    async def run(self) -> None:
        """Make signatures for each key, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for queue in self._queues:
                tasks.create_task(queue.run(), name=f"signatures of {', '.join(queue.routes)}")

    def request(self, worker: str, request: SignatureRequest, answer: Answer) -> None:
        """Have *answer* called with the signature that *worker* asks for, or with why there is none."""
        queue = self._by_route.get(request.route)
        if queue is None:  # a worker made it up
            answer(SignatureAnswer(request.ask, "", "", "the rule has no key for bodies"))
            return
        wanted = _Wanted(request, answer, self._clock.monotonic() + SIGNATURE_SECONDS)
        caller = request.caller if request.caller in self._callers else ""
        if not queue.waiting.put(wanted, caller=caller, worker=worker):
            self._count(request.route, "overloaded")
            queue.refused("overloaded")
            answer(
                SignatureAnswer(
                    request.ask, "", "", f"{MOST_SIGNATURES_WAITING} requests of its worker wait for this key"
                )
            )
            return
        queue.there.set()

    def refused(self, counts: Iterable[SignatureCount]) -> None:
        """Count, and say, what a worker refused without asking, or without an answer."""
        for route, outcome, amount in counts:
            queue = self._by_route.get(route)
            if queue is not None and outcome in _REFUSALS and amount > 0:  # else a worker made it up
                self._count(route, outcome, amount)
                queue.refused(outcome)

    def forbid(self, keys: Iterable[RSAPublicKey]) -> None:
        """Sign nothing with *keys*, which a credential is to have; raise KeyUnusable if bodies are signed with one."""
        foreign = frozenset(map(key_thumbprint, keys))
        for queue in self._queues:
            try:
                queue.signer.forbid(foreign)
            except KeyUnusable:
                raise KeyUnusable(
                    f"this key signs bodies, of {', '.join(queue.routes)}; give the credential a key of its own, so "
                    "that no worker can have an assertion signed"
                ) from None

    async def replace(self, routes: tuple[str, ...], signer: BodySigner) -> None:
        """Sign for *routes* with *signer* from now on; who waits gets a signature of the new key."""
        for queue in self._queues:
            if queue.routes == routes:
                signer.users += 1
                old, queue.signer = queue.signer, signer
                await _leave(old)

    async def close(self) -> None:
        """Release the devices that no other generation uses."""
        queues, self._queues = self._queues, []
        for queue in queues:
            await _leave(queue.signer)

    def __repr__(self) -> str:
        return f"<BodySignatures {[queue.signer for queue in self._queues]}>"


async def close_unused(signers: Iterable[BodySigner]) -> None:
    """Release the devices of those of *signers* that no generation uses."""
    for signer in signers:
        if not signer.users:
            await signer.close()


async def _leave(signer: BodySigner) -> None:
    signer.users -= 1
    await close_unused([signer])


def _cause(error: Exception) -> str:
    """Return what may stand in log and record: the text of our own errors, of others the type only."""
    return str(error) if isinstance(error, KeyUnusable) else f"a defect of the proxy: {type(error).__name__}"
