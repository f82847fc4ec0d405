"""Sign-in to the console: by password or one-time link, with sessions in a cookie."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from proxy.clock import Clock
from proxy.console.answers import Refused
from proxy.console.sessions import SESSION_SECONDS, LoginLinks, Role, Sessions, Visitor
from proxy.entropy import Entropy
from proxy.records.audit_records import Operation
from proxy.secret import Secret
from proxy.settings.scrypt import HashUnusable, make, verify
from proxy.tokens.rate_limit import RateLimit

Record = Callable[[Operation], Awaitable[None]]

# Passwords that may be tried at once, and one more each so many seconds: 14,400 a day, of all visitors together.
TRIES = 5
_TRY_SECONDS = 6.0
_PLAIN_COOKIE = "payproxy"
# The prefix makes browsers hold it to this very host and to TLS.
_TLS_COOKIE = "__Host-payproxy"


class SignIn:
    """Knows the *operators*, name to scrypt hash; if there never were any, everybody may look and nobody may act.

    *secure*: the listener has TLS. *record* puts sign-ins into the request log before they are done.
    """

    def __init__(
        self, operators: Mapping[str, Secret], *, secure: bool, record: Record, clock: Clock, entropy: Entropy
    ) -> None:
        self._operators = dict(operators)
        self._needed = bool(operators)
        self._changes = 0
        self._secure = secure
        self._record = record
        self._clock = clock
        self._entropy = entropy
        self._sessions = Sessions(clock=clock, entropy=entropy)
        self.links = LoginLinks(clock=clock, entropy=entropy)
        self._one_at_a_time = asyncio.Lock()
        self._tries = RateLimit(now=clock.monotonic(), capacity=TRIES, refill_seconds=_TRY_SECONDS)
        self._nobody = self._of_nobody() if operators else None

    @property
    def needed(self) -> bool:
        """Return whether pages are for signed-in visitors only.

        If the last operator is removed they still are: the listener may be one that other machines reach.
        """
        return self._needed

    @property
    def possible(self) -> bool:
        """Return whether there is anybody who can sign in."""
        return bool(self._operators)

    async def follow(self, operators: Mapping[str, Secret]) -> None:
        """Let *operators* sign in from now on; sessions and links of those that are removed or changed end."""
        if operators and self._nobody is None:
            self._nobody = await asyncio.to_thread(self._of_nobody)
        before, self._operators = self._operators, dict(operators)
        self._needed |= bool(operators)
        gone = {name for name, known in before.items() if not _same(known, operators.get(name))}
        if gone:
            self._changes += 1
            # A link is of a user of this machine, who need not be an operator; with the last of them all end.
            self._sessions.close_of(lambda name: name in gone or not operators)
            self.links.forget_of(lambda name: name in gone or not operators)

    def visitor(self, request: web.BaseRequest) -> Visitor | None:
        """Return who asks, None if a sign-in is needed first.

        What the script asks by itself is no use: a page that somebody left open would keep the session for 8 hours.
        """
        return self._found(request, used=request.headers.get("Sec-Fetch-Dest") != "empty")

    def is_signed_in(self, request: web.BaseRequest) -> bool:
        """Return whether who asked in *request* may still look; that is no use of the session."""
        return self._found(request, used=False) is not None

    def _found(self, request: web.BaseRequest, *, used: bool) -> Visitor | None:
        if not self.needed:
            return Visitor()
        return self._sessions.find(request.cookies.get(self._cookie, ""), used=used)

    async def by_password(self, name: str, password: str, *, role: Role) -> str:
        """Return the token of a new session of *name*; raises Refused, LogUnavailable."""
        if not self.possible:
            raise Refused(403, "Nobody is in [admin] operators, so there is nobody to sign in as.")
        self._spend_try()
        proof, what, changes = "password", "console sign-in", self._changes
        if not await self._is_right(name, password):
            # A name that nobody has may be a password in the wrong field.
            who = name if name in self._operators else ""
            await self._record(Operation(who=who, proof="none", what=f"{what} refused"))
            raise Refused(403, "The name or the password is wrong.")
        await self._record(Operation(who=name, proof=proof, what=what, values=(("role", role.value),)))
        return self._open(name, role, proof, changes)

    def _open(self, name: str, role: Role, proof: str, changes: int) -> str:
        """Return the token of a new session, unless operators were removed since *changes*."""
        if changes != self._changes:
            raise Refused(403, "The operators have just been changed: sign in again.")
        return self._sessions.open(name=name, role=role, proof=f"console, {proof}")

    async def by_link(self, link: str) -> str:
        """Return the token of a new session of whoever made *link*; raises Refused, LogUnavailable."""
        found = self.links.take(link) if self.possible else None
        if found is None:
            raise Refused(403, "This link was used already or has expired: make a new one.")
        name, role = found
        proof, changes = "login link", self._changes
        await self._record(Operation(who=name, proof=proof, what="console sign-in", values=(("role", role.value),)))
        return self._open(name, role, proof, changes)

    def begin(self, request: web.BaseRequest, response: web.Response, token: str) -> None:
        """Set the cookie of the session *token*, and end the session that *request* has."""
        self._sessions.close(request.cookies.get(self._cookie, ""))
        response.set_cookie(
            self._cookie, token, path="/" if self._secure else "/console/", secure=self._secure, httponly=True,
            samesite="Strict", max_age=int(SESSION_SECONDS),
        )  # fmt: skip

    def end(self, request: web.BaseRequest, response: web.Response) -> None:
        """End the session of *request*."""
        self._sessions.close(request.cookies.get(self._cookie, ""))
        response.del_cookie(
            self._cookie, path="/" if self._secure else "/console/", secure=self._secure, httponly=True,
            samesite="Strict",
        )  # fmt: skip

    @property
    def _cookie(self) -> str:
        return _TLS_COOKIE if self._secure else _PLAIN_COOKIE

    def _spend_try(self) -> None:
        now = self._clock.monotonic()
        if not self._tries.spend(now=now):
            seconds = math.ceil(self._tries.wait(now=now))
            words = f"Too many passwords were tried: wait {seconds} s, or use a login link."
            raise Refused(429, words, retry_after=seconds)

    def _of_nobody(self) -> Secret:
        """Return what an unknown name is compared with, so that it takes as long as a known one."""
        return Secret(make("", self._entropy.token_bytes(16)))

    async def _is_right(self, name: str, password: str) -> bool:
        known = self._operators.get(name)
        compared = known or self._nobody
        text = compared.reveal() if compared is not None else ""
        async with self._one_at_a_time:  # 32 MB each
            try:
                right = await asyncio.to_thread(verify, password, text)
            except HashUnusable:
                return False
        return right and known is not None


def _same(one: Secret | None, other: Secret | None) -> bool:
    return one is not None and other is not None and one.reveal() == other.reveal()
