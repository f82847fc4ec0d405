"""Asks the bank whether it has a request, by the side that carried it, and records what came."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

from proxy.clock import Clock
from proxy.errors import LogUnavailable, Overloaded, UpstreamFault
from proxy.keeper.admin import Action, ActionRefused, Operated
from proxy.keeper.generation import Generation
from proxy.keeper.inquiry import LOOKED_AT_BYTES, About, CantAsk, Verdict, side_of, target_of, verdict_of
from proxy.records.audit_records import Inquiry, Operation
from proxy.routing.compile import route_table
from proxy.routing.plan import outbound_target, start_of
from proxy.routing.table import RouteSide
from proxy.routing.target import parse_target
from proxy.settings.inquiry import InquirySection
from proxy.tokens.rate_limit import RateLimit
from proxy.tokens.refusals import source_of
from proxy.tokens.token import AccessToken
from proxy.upstream.opener import Upstream
from proxy.upstream.single_get import SingleAnswer, get_once
from proxy.upstream.tls import TlsUnusable

# A copy of the name is in proxy/cli/inquiries.py, since commands do not import the keeper.
PATH = "/api/inquiries"
# Upper limit for each of connecting, sending and waiting for the answer.
SECONDS = 15.0

NOT_RECORDED = "The bank was asked, but what it said can't be recorded; ask again."
TOO_MANY = "20 inquiries in a row and one each 2 s are the most."

_TEXTS = tuple(field.name for field in fields(About) if field.name != "index")


class TooManyInquiries(Exception):
    """More inquiries than the bank shall get in that time."""


class InquiryNotRecorded(LogUnavailable):
    """The bank was asked, but the record of what came could not be written."""


class Inquiries:
    """Asks one at a time, 20 in a row and then one each 2 s: no reconciliation can load the bank or this process.

    *record* writes what came to the request log; *generation* returns the configuration in force.
    """

    def __init__(
        self,
        generation: Callable[[], Generation],
        *,
        operated: Operated,
        record: Callable[[Inquiry], Awaitable[bytes]],
        clock: Clock,
    ) -> None:
        self._generation = generation
        self._operated = operated
        self._record = record
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._limit = RateLimit(now=clock.monotonic())

    def actions(self) -> dict[str, Action]:
        """Return the admin socket's action by its path."""
        names = ", ".join((*_TEXTS, "index"))
        return {PATH: Action(what=f"ask the bank whether it has a request: {{{names}}}", perform=self._perform)}

    async def _perform(self, values: dict[str, Any], by: Operation) -> dict[str, Any]:
        about = _about(values)
        try:
            return {"record": await self.ask(about, who=by.who, first=lambda: self._operated(by))}
        except CantAsk as why:
            raise ActionRefused(409, "bad_request", str(why)) from None
        except InquiryNotRecorded as error:
            raise ActionRefused(error.status, error.code, NOT_RECORDED) from None
        except TooManyInquiries:
            raise ActionRefused(429, "rate_limited", TOO_MANY) from None

    async def ask(
        self, about: About, *, who: str, first: Callable[[], Awaitable[None]] | None = None
    ) -> dict[str, Any]:
        """Ask about *about* for *who*, after *first*, and return the record of what came.

        Raises CantAsk and TooManyInquiries, LogUnavailable from *first*, and InquiryNotRecorded.
        """
        async with self._one_at_a_time:
            asking = self._prepared(about)
            if not self._limit.spend(now=self._clock.monotonic()):
                raise TooManyInquiries
            if first is not None:
                await first()
            result = await asking.ask(who=who, clock=self._clock)
            try:
                record: dict[str, Any] = json.loads(await self._record(result))
            except LogUnavailable as error:
                raise InquiryNotRecorded(error.detail) from None
            return record

    async def ask_alone(self, about: About) -> Verdict:
        """Ask about *about* without a person, and return the verdict; raises as `ask`."""
        return Verdict((await self.ask(about, who="payproxy"))["verdict"])

    def objection(self, about: About) -> str:
        """Return why the bank can't be asked about *about*, "" if it can."""
        try:
            self._prepared(about)
        except CantAsk as why:
            return str(why)
        return ""

    def automatic(self, route: str) -> bool:
        """Return whether requests of *route* are to be asked about without a person."""
        routes = self._generation().settings.routes
        return any(one.inquiry.automatic and one.inquiry.path for one in routes if one.name == route)

    def _prepared(self, about: About) -> "_Asking":
        """Return what is to be asked, with its token; raises CantAsk."""
        generation = self._generation()
        if about.environment != generation.snapshot.environment:
            raise CantAsk(f"the request is of another environment: {about.environment}")
        section = next((one for one in generation.settings.routes if one.name == about.route), None)
        if section is None or not section.inquiry.path:
            raise CantAsk(f"no rule {about.route} with an inquiry is configured: see routes.inquiry in settings.md")
        table = route_table(generation.snapshot)
        side = side_of(about, next(one for one in table.routes if one.name == about.route))
        target = parse_target(target_of(section.inquiry.path, about.index))
        token = generation.token_manager.live_token(side.token_key.digest)
        if token is None or side.origin not in token.origins:
            raise CantAsk(f"there is no token of credential {about.credential} at present; see `payproxy status`")
        values = next(one for one in generation.snapshot.upstreams if one.name == side.upstream)
        return _Asking(
            about,
            section.inquiry,
            target=outbound_target(
                target, strip_prefix=table.match("GET", target.path).strip_prefix, prefix=side.prefix
            ),
            side=side,
            token=token,
            upstream=Upstream(**{field.name: getattr(values, field.name) for field in fields(Upstream)}),
            refused=lambda: generation.token_manager.replace(
                side.token_key.digest,
                token.mint,
                route=about.route,
                source=source_of(about.route, "inquiry", "GET", target.path),
            ),
        )


class _Asking:
    """One inquiry, with everything that it takes."""

    def __init__(
        self,
        about: About,
        inquiry: InquirySection,
        *,
        target: str,
        side: RouteSide,
        token: AccessToken,
        upstream: Upstream,
        refused: Callable[[], Awaitable[str]],
    ) -> None:
        self._about = about
        self._inquiry = inquiry
        self._target = target
        self._side = side
        self._token = token
        self._upstream = upstream
        self._refused = refused

    async def ask(self, *, who: str, clock: Clock) -> Inquiry:
        """Send the GET once and return what came; a token that was refused is replaced for the next inquiry."""
        head = start_of("GET", self._target, self._side.host_header) + (
            f"Accept: application/json\r\nAuthorization: Bearer {self._token.value.reveal()}\r\n\r\n".encode("ascii")
        )
        answer, cause = SingleAnswer(status=0, content_type="", body=b""), ""
        try:
            answer = await get_once(self._upstream, head, clock=clock, seconds=SECONDS, most_bytes=LOOKED_AT_BYTES + 1)
        except (UpstreamFault, Overloaded) as error:
            cause = f"{error.code}: {error.cause}"
        except TlsUnusable as error:
            cause = str(error)
        if answer.status == 401:
            cause = f"the bank refused the token; a new one was asked for: {await self._refused()}"
        return self._result(who, answer, cause)

    def _result(self, who: str, answer: SingleAnswer, cause: str) -> Inquiry:
        key = self._side.token_key
        verdict = verdict_of(self._inquiry, answer.status, answer.body) if answer.status else Verdict.UNCLEAR
        return Inquiry(
            exchange=self._about.id,
            who=who,
            route=self._about.route,
            side=self._about.side,
            upstream=self._side.upstream,
            credential=key.credential,
            audience=key.audience,
            token_fingerprint=self._token.fingerprint,
            asked=f"GET {self._target}",
            status=answer.status,
            cause=cause,
            verdict=verdict,
        )


def _about(values: dict[str, Any]) -> About:
    """Return the request that *values* describe; raises ActionRefused."""
    texts = {name: value for name in _TEXTS if isinstance(value := values.get(name), str)}
    index = values.get("index")
    if (
        len(texts) < len(_TEXTS)
        or not isinstance(index, dict)
        or not all(isinstance(one, str) for one in index.values())
    ):
        raise ActionRefused(400, "bad_request", f"{', '.join(_TEXTS)} are texts, and index is a table of texts.")
    return About(**texts, index=index)
