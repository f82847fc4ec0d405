"""The steps of `payproxy demo`: each one acts, checks the result, and explains it."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from proxy.clock import Clock
from proxy.simulator.clients import AUDIENCES, JWT_CLIENT_ID, RESOURCES
from proxy.simulator.faults import FaultKind
from proxy.simulator.received import Received
from proxy.simulator.server import Bank
from proxy.simulator.token_endpoints import MOCK_PATH, MODERN_PATH

HELLO, PAYMENTS, VALIDATIONS, ONLINE_PAYMENTS, MOVING = (
    "/payment/helloworld", "/payment/v2/payments", "/tsapi/v2/validations", "/api/v2/payments", "/echo",
)  # fmt: skip
PAYMENT = b'{"amount": 10.00,  "currency": "USD", "note": "two blanks, kept"}'
_SHORT_LIFETIME = 5.0
_RENEWAL_SECONDS = 15.0
# A change takes at most two seconds; on a busy machine the ten calls may take longer.
_CHANGE_SECONDS = 60.0
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class StepFailed(Exception):
    """A check of a step failed; the text says which."""


class DemoSteps:
    """The steps against a running proxy and the simulator behind it; *explain* prints its parts as one paragraph."""

    def __init__(
        self, proxy_url: str, bank: Bank, *, configuration: Path, clock: Clock, explain: Callable[..., None]
    ) -> None:
        self._url = proxy_url
        self._bank = bank
        self._world = bank.world
        self._configuration = configuration
        self._clock = clock
        self._explain = explain
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def aclose(self) -> None:
        """Close the demo's own connections."""
        await self._session.close()

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """Return the steps with their names, in order."""
        return [
            ("A first call", self._first_call),
            ("The caller's own Authorization is replaced", self._authorization),
            ("Three ways to get a token: client secret, signed JWT, legacy ADFS", self._flavors),
            ("A token is renewed before its end", self._renewal),
            ("A revoked token is replaced", self._revoked),
            ("100 calls at once on a revoked token", self._stampede),
            ("A 403 is handed on", self._forbidden),
            ("A 403 that means a refused token, where the route says so (remint_on)", self._remint_on),
            ("HTTP_PROXY= instead of a base URL (absolute-form)", self._absolute_form),
            ("The bank's page by hand: sign a JWT, get a token, call", self._by_hand),
            ("From ADFS to the modern endpoint by share, and back", self._migration),
        ]

    async def _first_call(self) -> None:
        answer = await self._call("GET", HELLO)
        seen = self._world.seen(HELLO)
        _check(answer.status == 200, f"the answer is {answer.status}")
        _check(len(seen) == 1, f"the bank saw {len(seen)} requests")
        self._explain(
            "The caller sent a plain GET, without any credential. The bank got it with a live access token",
            f"(fingerprint {seen[0].token_fingerprint}) and answered {answer.status}.",
            f"Payproxy-Request-Id: {answer.headers['Payproxy-Request-Id']} finds it in the request log.",
        )

    async def _authorization(self) -> None:
        answer = await self._call("GET", HELLO, headers={"Authorization": "Bearer the-callers-own"})
        seen = self._world.seen(HELLO)[-1]
        own = hashlib.sha256(b"the-callers-own").hexdigest()[:16]
        _check(answer.status == 200, f"the answer is {answer.status}")
        _check(seen.token_fingerprint != own, "the caller's own token reached the bank")
        self._explain(
            "The caller sent `Authorization: Bearer the-callers-own`; it never reached the bank,",
            f"which got the proxy's token (fingerprint {seen.token_fingerprint}) and answered {answer.status}.",
        )

    async def _flavors(self) -> None:
        for method, path, audience, what in (
            ("GET", HELLO, "", "Mock: client id and secret"),
            ("POST", PAYMENTS, AUDIENCES["payments"], "Client Testing, Production: a JWT signed with the RSA key"),
            ("GET", ONLINE_PAYMENTS, RESOURCES["commerce"], "legacy ADFS: the same JWT, with resource= and client_id="),
        ):
            answer = await self._call(method, path, data=PAYMENT if method == "POST" else None)
            seen = self._world.seen(path)[-1]
            _check(answer.status < 300, f"{path} got {answer.status}")
            issued = next(one for one in self._world.tokens if one.fingerprint == seen.token_fingerprint)
            _check(issued.audience == audience, f"{path} went with a token for {issued.audience or 'no audience'}")
            self._explain(f"{what}: {path} went with a token for {audience or 'the sandbox'}: {answer.status}.")

    async def _renewal(self) -> None:
        world = self._world
        world.faults.set(FaultKind.LIFETIME, path=MOCK_PATH, seconds=_SHORT_LIFETIME, times=1)
        world.tokens.revoke()
        await self._call("GET", HELLO)
        mints, slowest, calls = self._mock_mints(), 0.0, 0
        end = self._clock.monotonic() + _RENEWAL_SECONDS
        while self._mock_mints() == mints:
            _check(self._clock.monotonic() < end, "the token was not renewed")
            started = self._clock.monotonic()
            answer = await self._call("GET", HELLO)
            _check(answer.status == 200, f"a call got {answer.status}")
            slowest, calls = max(slowest, self._clock.monotonic() - started), calls + 1
            await self._clock.sleep(0.02)
        after = await self._call("GET", HELLO)
        _check(after.status == 200, f"the call after the renewal got {after.status}")
        self._explain(
            f"The bank gave a token for {_SHORT_LIFETIME:.0f} seconds. While {calls} calls went on, the keeper",
            f"got the next one in time: no call failed or waited (slowest {slowest * 1000:.0f} ms).",
        )

    async def _revoked(self) -> None:
        world = self._world
        mints = world.mint_count()
        world.tokens.revoke()
        answer = await self._call("POST", PAYMENTS, data=PAYMENT, headers={"Idempotency-Key": "demo-1"})
        seen = world.seen(PAYMENTS)[-2:]
        _check(answer.status == 201, f"the answer is {answer.status}")
        self._check_replay(seen, first=401, body=PAYMENT)
        _check(world.mint_count() == mints + 1, f"{world.mint_count() - mints} tokens were minted")
        _check(world.accepted["demo-1"] == 1, "the payment was not executed exactly once")
        self._explain(
            "The bank revoked every token; the caller sent a payment. The bank refused the old token with 401,",
            "the proxy minted one new token and sent the very same bytes once more: 201.",
            "The caller saw one request, one answer; the bank executed one payment.",
        )

    async def _stampede(self) -> None:
        mints = self._world.mint_count()
        self._world.tokens.revoke()
        answers = await asyncio.gather(*(self._call("GET", HELLO) for _ in range(100)))
        good = sum(answer.status == 200 for answer in answers)
        minted = self._world.mint_count() - mints
        _check(good == 100, f"{good} of 100 calls got 200")
        _check(minted == 1, f"{minted} tokens were minted")
        self._explain(
            f"All tokens were revoked again, then 100 calls came at once: {minted} mint, {good} answers of 200."
        )

    async def _forbidden(self) -> None:
        world = self._world
        mints, before = world.mint_count(), len(world.seen(HELLO))
        world.faults.set(FaultKind.STATUS, path=HELLO, status=403, times=1)
        answer = await self._call("GET", HELLO)
        sent = len(world.seen(HELLO)) - before
        _check(answer.status == 403, f"the answer is {answer.status}")
        _check(sent == 1, f"it was sent {sent} times")
        _check(world.mint_count() == mints, "a token was minted")
        self._explain(
            "403 means a missing entitlement, which a new token does not give: the bank's answer went to the caller,",
            "nothing was minted, nothing was sent again.",
        )

    async def _remint_on(self) -> None:
        self._world.tokens.revoke()
        body = b'{"account": "demo"}'
        answer = await self._call("POST", VALIDATIONS, data=body)
        _check(answer.status == 200, f"the answer is {answer.status}")
        self._check_replay(self._world.seen(VALIDATIONS)[-2:], first=403, body=body)
        self._explain(
            "Validation Services never answers 401: it refused the revoked token with 403 and GCA-001. The route",
            "lists that answer, so that the proxy minted and sent once more: 200.",
        )

    async def _absolute_form(self) -> None:
        target = self._bank.url + HELLO
        answer = await self._call("GET", target, proxy=self._url)
        _check(answer.status == 200, f"the answer is {answer.status}")
        _check("Payproxy-Request-Id" in answer.headers, "the call did not go through the proxy")
        self._explain(
            f"A caller whose base URL is hard-coded was given HTTP_PROXY={self._url}: `GET {target}`",
            "arrived as an absolute URL, and went to the same rule and the same bank with a token: 200.",
        )

    async def _by_hand(self) -> None:
        assertion = await self._payproxy("assertion", "login")
        _check(assertion.count(".") == 2, "payproxy assertion printed no JWT")
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion,
            "audience": AUDIENCES["payments"],
        }
        minted = await self._call("POST", self._bank.url + MODERN_PATH, data=form)
        _check(minted.status == 200, f"the token endpoint answered {minted.status}")
        headers = {"Authorization": f"Bearer {(await minted.json())['access_token']}"}
        answer = await self._call("GET", self._bank.url + HELLO, headers=headers)
        _check(answer.status == 200, f"the bank answered {answer.status}")
        self._explain(
            f"`payproxy assertion login` printed a signed JWT of {len(assertion)} characters on one line. Posted to",
            f"{MODERN_PATH} with audience={AUDIENCES['payments']}, it gave an access token;",
            "with that as bearer the bank answered 200. This is all that the proxy does for every rule, by itself.",
        )

    async def _migration(self) -> None:
        # Every token is revoked since step 8. If the modern one is refused twice before its successor is minted, as on
        # a busy machine, the guard goes back: to it this is a bank that refuses modern tokens.
        renewed = await self._call("POST", PAYMENTS, data=PAYMENT)
        _check(renewed.status == 201, f"a payment with a revoked token got {renewed.status}")
        _check(await self._on_modern() == set(), "somebody is on modern at weight 0")
        await self._payproxy("migration", "set", "moving", "50", "--reason", "half of them first")
        moved, seconds = await self._settled(bool, otherwise="nobody moved")
        plan = json.loads(await self._payproxy("explain", "GET", MOVING, "-H", f"X-System={min(moved)}", "--json"))
        _check(plan["side"] == "modern", f"explain says {plan['side']}")
        self._explain(
            f"At weight 0 the ten systems that call {MOVING} are on legacy ADFS. `payproxy migration set moving 50`",
            f"moved {', '.join(sorted(moved))} to the modern token endpoint within {_soon(seconds)}, and nobody back.",
            f"`payproxy explain GET {MOVING} -H X-System={min(moved)}`: {plan['side']}, {plan['why']};",
            f"fallback {plan['fallback']}.",
        )
        await self._payproxy("migration", "rollback", "moving", "--reason", "back for the month's end")
        _, back = await self._settled(lambda modern: not modern, otherwise="somebody did not come back")
        plan = json.loads(await self._payproxy("explain", "GET", MOVING, "-H", f"X-System={min(moved)}", "--json"))
        _check(plan["side"] == "legacy", f"explain says {plan['side']}")
        self._explain(
            f"`payproxy migration rollback moving` brought all back within {_soon(back)}: {plan['side']},",
            f"{plan['why']}.",
        )

    async def _settled(self, good: Callable[[set[str]], bool], *, otherwise: str) -> tuple[set[str], float]:
        """Return the systems on modern once *good* accepts them, and the seconds since the command.

        The time depends on the load of the machine: the demo shows that the change comes, and how soon.
        """
        started = self._clock.monotonic()
        while not good(modern := await self._on_modern()):
            waited = self._clock.monotonic() - started
            _check(waited < _CHANGE_SECONDS, f"{otherwise} within {_CHANGE_SECONDS:.0f} s")
        return modern, self._clock.monotonic() - started

    async def _on_modern(self) -> set[str]:
        """Let ten systems call, and return those whose call reached the bank with a modern token."""
        modern = set()
        for system in (f"erp-{number}" for number in range(10)):
            answer = await self._call("GET", MOVING, headers={"X-System": system})
            _check(answer.status == 200, f"{MOVING} got {answer.status}")
            if (await answer.json())["client_id"] == JWT_CLIENT_ID:
                modern.add(system)
        return modern

    async def _payproxy(self, *arguments: str) -> str:
        """Run a payproxy command and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", *arguments, "--config", str(self._configuration),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await process.communicate()
        _check(process.returncode == 0, f"`payproxy {' '.join(arguments)}` ended with {process.returncode}")
        return printed.decode().strip()

    def _check_replay(self, seen: list[Received], *, first: int, body: bytes) -> None:
        _check(len(seen) == 2, f"the bank saw {len(seen)} requests")
        _check(seen[0].status == first, f"the bank answered {seen[0].status} first")
        _check(seen[0].token_fingerprint != seen[1].token_fingerprint, "it was sent again with the same token")
        _check(
            {one.body_sha256 for one in seen} == {hashlib.sha256(body).hexdigest()}, "the bytes are not the caller's"
        )

    def _mock_mints(self) -> int:
        return self._world.mint_count(audience="")

    async def _call(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        """Return the response, read whole; *url* may be a path of the proxy's."""
        target = self._url + url if url.startswith("/") else url
        async with self._session.request(method, target, **options) as response:
            await response.read()
            return response


def _check(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as the sentence it is
    if not holds:
        raise StepFailed(otherwise)


def _soon(seconds: float) -> str:
    """Return a short time in words."""
    return f"{max(1, round(1000 * seconds))} ms" if seconds < 1 else f"{seconds:.1f} s"
