"""Has bodies signed in the keeper: a worker has no key that signs."""

import asyncio
from collections import Counter
from collections.abc import Callable

from proxy.errors import SignatureUnavailable
from proxy.link.counts import SignatureCount
from proxy.link.messages import SignatureAnswer, SignatureRequest
from proxy.link.shared_limits import MOST_SIGNATURES_WAITING

# A little longer than the keeper's own limit, so that its reason arrives.
ANSWER_SECONDS = 6.0

_LATE = SignatureAnswer(0, "", "", "the keeper did not answer in time")
_GONE = SignatureAnswer(0, "", "", "the keeper is gone")


class SignatureRequests:
    """The signatures that one worker waits for; *send* sends a message to the keeper."""

    def __init__(self, *, send: Callable[[SignatureRequest], None]) -> None:
        self._send = send
        self._answers: dict[int, asyncio.Future[SignatureAnswer]] = {}
        self._callers: Counter[str] = Counter()  # how many of these each caller waits for
        self._asked = 0
        self._abandoned = False
        self.orphaned = 0  # refused since the keeper is gone, which no keeper will count
        self._refused: Counter[tuple[str, str]] = Counter()

    async def sign(self, route: str, digest: bytes, *, caller: str) -> tuple[str, str]:
        """Return a signature in base64url by the key of *route*, and the key's thumbprint.

        *digest* is the SHA-256 of the signing input. Raises SignatureUnavailable, also if *caller* already waits for as
        many as there is room left: half of all if it is alone, and never so many that another one finds no room.
        """
        if self._abandoned:
            self.orphaned += 1
            raise _unavailable(_GONE.cause)
        waiting, own = len(self._answers), self._callers[caller]
        if own >= MOST_SIGNATURES_WAITING - waiting:
            self._refused[route, "overloaded"] += 1
            raise _unavailable(f"{waiting} requests of this worker wait for a signature, {own} of them of this caller")
        answer = await self._answer(route, digest, caller)
        if answer is _LATE:
            self._refused[route, "unanswered"] += 1
        self.orphaned += answer is _GONE
        if not answer.signature:
            raise _unavailable(answer.cause)
        return answer.signature, answer.key

    async def _answer(self, route: str, digest: bytes, caller: str) -> SignatureAnswer:
        self._asked += 1
        asked = self._asked
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[SignatureAnswer] = loop.create_future()
        self._answers[asked] = answer
        self._callers[caller] += 1
        self._send(SignatureRequest(asked, route, digest.hex(), caller))
        # Not asyncio.timeout, which needs a task: requests run without one.
        timer = loop.call_later(ANSWER_SECONDS, _settle, answer, _LATE)
        try:
            return await answer
        finally:
            timer.cancel()
            self._answers.pop(asked, None)
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    def refused(self) -> tuple[SignatureCount, ...]:
        """Return what was refused here since the last call, of which the keeper knows nothing."""
        refused, self._refused = self._refused, Counter()
        return tuple(SignatureCount(*key, float(number)) for key, number in refused.items())

    def on_answer(self, message: SignatureAnswer) -> None:
        """Handle the keeper's answer; one that comes too late is dropped."""
        answer = self._answers.get(message.ask)
        if answer is not None:
            _settle(answer, message)

    def abandon(self) -> None:
        """End all waits: the keeper is gone."""
        self._abandoned = True
        for answer in self._answers.values():
            _settle(answer, _GONE)

    def __repr__(self) -> str:
        return f"<SignatureRequests {len(self._answers)} asked>"


def _unavailable(cause: str) -> SignatureUnavailable:
    return SignatureUnavailable("The body could not be signed, and nothing was sent.", cause=cause, retry_after=1)


def _settle(answer: asyncio.Future[SignatureAnswer], message: SignatureAnswer) -> None:
    if not answer.done():
        answer.set_result(message)
