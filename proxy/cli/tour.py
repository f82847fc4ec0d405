"""What `payproxy demo` walks through: each step does it, checks it, and says it in words."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from proxy.clock import Clock
from proxy.simulator.faults import FaultKind
from proxy.simulator.server import Bank

PAYMENT = b'{"amount": 10.00,  "currency": "USD", "note": "two blanks, kept"}'
_SHORT_LIFETIME = 5.0
_PATIENCE_SECONDS = 15.0


class StepFailed(Exception):
    """Something in a step was not as it should be; the text says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller got."""

    status: int
    body: bytes
    headers: dict[str, str]


class Tour:
    """The steps against one running proxy and the simulator behind it; *say* prints a line."""

    def __init__(self, proxy_url: str, bank: Bank, *, clock: Clock, say: Callable[[str], None]) -> None:
        self._url = proxy_url
        self._bank = bank
        self._clock = clock
        self._say = say
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        """End the tour's own connections."""
        await self._session.close()

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """Return the steps with their names, in order."""
        return [
            ("A first call", self._first_call),
            ("The caller's own Authorization is replaced", self._authorization),
            ("A token is renewed before its end", self._renewal),
            ("A revoked token is healed", self._revoked),
            ("100 calls at once on a revoked token", self._stampede),
            ("A 403 is handed on", self._forbidden),
        ]

    async def _first_call(self) -> None:
        answer = await self._call("GET", "/payment/helloworld")
        _check(answer.status == 200, f"the answer is {answer.status}")
        seen = self._bank.world.seen("/payment/helloworld")
        _check(len(seen) == 1, f"the bank saw {len(seen)} requests")
        self._say("The caller sent a plain GET, without any credential. The bank got it with a live access token")
        self._say(f"(fingerprint {seen[0].token_fingerprint}) and answered {answer.status}.")
        self._say(f"Payproxy-Request-Id: {answer.headers['Payproxy-Request-Id']} finds it in the request log.")

    async def _authorization(self) -> None:
        answer = await self._call("GET", "/payment/helloworld", headers={"Authorization": "Bearer the-callers-own"})
        seen = self._bank.world.seen("/payment/helloworld")[-1]
        own = hashlib.sha256(b"the-callers-own").hexdigest()[:16]
        _check(answer.status == 200, f"the answer is {answer.status}")
        _check(seen.token_fingerprint != own, "the caller's own token reached the bank")
        self._say("The caller sent `Authorization: Bearer the-callers-own`; it never reached the bank,")
        self._say(f"which got the proxy's token (fingerprint {seen.token_fingerprint}) and answered {answer.status}.")

    async def _renewal(self) -> None:
        world = self._bank.world
        world.faults.set(FaultKind.LIFETIME, path="/am/oauth2", seconds=_SHORT_LIFETIME, times=1)
        world.tokens.revoke()
        await self._call("GET", "/payment/helloworld")
        mints, slowest, calls = world.mint_count(), 0.0, 0
        end = self._clock.monotonic() + _PATIENCE_SECONDS
        while world.mint_count() == mints:
            _check(self._clock.monotonic() < end, "the token was not renewed")
            began = self._clock.monotonic()
            answer = await self._call("GET", "/payment/helloworld")
            _check(answer.status == 200, f"a call got {answer.status}")
            slowest, calls = max(slowest, self._clock.monotonic() - began), calls + 1
            await self._clock.sleep(0.02)
        after = await self._call("GET", "/payment/helloworld")
        _check(after.status == 200, f"the call after the renewal got {after.status}")
        self._say(f"The bank gave a token for {_SHORT_LIFETIME:.0f} seconds. While {calls} calls went on, the keeper")
        self._say(f"got the next one in good time: no call failed or waited (slowest {slowest * 1000:.0f} ms).")

    async def _revoked(self) -> None:
        world = self._bank.world
        mints = world.mint_count()
        world.tokens.revoke()
        answer = await self._call("POST", "/payment/v2/payments", body=PAYMENT, headers={"Idempotency-Key": "demo-1"})
        seen = world.seen("/payment/v2/payments")[-2:]
        _check(answer.status == 201, f"the answer is {answer.status}")
        _check([one.status for one in seen] == [401, 201], f"the bank answered {[one.status for one in seen]}")
        _check(len({one.body_sha256 for one in seen}) == 1, "the second send had other bytes")
        _check(seen[0].body_sha256 == hashlib.sha256(PAYMENT).hexdigest(), "the bytes are not the caller's")
        _check(world.mint_count() == mints + 1, f"{world.mint_count() - mints} tokens were minted")
        _check(world.accepted["demo-1"] == 1, "the payment was not executed exactly once")
        self._say("The bank revoked every token; the caller sent a payment. The bank refused the old token with 401,")
        self._say("the proxy minted one new token and sent the very same bytes once more: 201.")
        self._say("The caller saw one request, one answer; the bank executed one payment.")

    async def _stampede(self) -> None:
        world = self._bank.world
        mints = world.mint_count()
        world.tokens.revoke()
        answers = await asyncio.gather(*(self._call("GET", "/payment/helloworld") for _ in range(100)))
        good = sum(answer.status == 200 for answer in answers)
        minted = world.mint_count() - mints
        _check(good == 100, f"{good} of 100 calls got 200")
        _check(minted == 1, f"{minted} tokens were minted")
        self._say(f"All tokens were revoked again, then 100 calls came at once: {minted} mint, {good} answers of 200.")

    async def _forbidden(self) -> None:
        world = self._bank.world
        mints, before = world.mint_count(), len(world.seen("/payment/helloworld"))
        world.faults.set(FaultKind.STATUS, path="/payment/helloworld", status=403, times=1)
        answer = await self._call("GET", "/payment/helloworld")
        sent = len(world.seen("/payment/helloworld")) - before
        _check(answer.status == 403, f"the answer is {answer.status}")
        _check(sent == 1, f"it was sent {sent} times")
        _check(world.mint_count() == mints, "a token was minted")
        self._say(
            "403 means a missing entitlement, which no new token mends: the bank's own answer went to the caller,"
        )
        self._say("nothing was minted, nothing was sent again.")

    async def _call(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        async with self._session.request(method, self._url + path, data=body, headers=headers) as answer:
            return Answer(answer.status, await answer.read(), dict(answer.headers))


def _check(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as the sentence it is
    if not holds:
        raise StepFailed(otherwise)
