"""Asks the bank whether it has a request, by the side that carried it, and records what came."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from proxy.clock import Clock
from proxy.errors import LogUnavailable
from proxy.keeper.admin import Action, ActionRefused, Operated
from proxy.keeper.generation import Generation
from proxy.keeper.inquiry import About, CantAsk, Verdict
from proxy.records.audit_records import Inquiry, Operation
from proxy.tokens.rate_limit import RateLimit

if TYPE_CHECKING:
    from proxy.keeper.prepared_inquiry import PreparedInquiry

# A copy of the name is in proxy/cli/inquiries.py, since commands do not import the keeper.
PATH = "/api/inquiries"

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
            inquiry = self._prepared(about)
            if not self._limit.spend(now=self._clock.monotonic()):
                raise TooManyInquiries
            if first is not None:
                await first()
            result = await inquiry.ask(who=who, clock=self._clock)
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

    def _prepared(self, about: About) -> "PreparedInquiry":
        from proxy.keeper.prepared_inquiry import prepared  # noqa: PLC0415 - with our HTTP client; most never ask

        return prepared(about, self._generation())


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
