"""The console's paths: pages with their JSON, sign-in and actions; all that is slow happens off the keeper's loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from aiohttp import web

from proxy.clock import Clock
from proxy.console import status_pages
from proxy.console.answers import (
    Refused,
    as_json,
    dumped,
    form_of,
    html,
    message,
    number_of,
    reason_of,
    refuse_embedding,
    refuse_forged,
    refuse_other_sites,
    script,
    see_other,
    stylesheet,
)
from proxy.console.ask_bank import ASK, AskBank, BankInquiries
from proxy.console.frame import frame_of, render, why_not
from proxy.console.history_page import DEFAULT, history_page
from proxy.console.history_page import PATH as HISTORY
from proxy.console.live_records import LiveRecords
from proxy.console.live_tail import EVENTS, HoldOpen, LiveTail
from proxy.console.live_tail import PATH as TAIL
from proxy.console.log_reader import LogReader
from proxy.console.outcomes import UnresolvedCount, open_page
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.overview import overview
from proxy.console.page import PageContent, Tone
from proxy.console.plots import WINDOWS, plots
from proxy.console.request_pages import PATH as REQUESTS
from proxy.console.request_pages import found_page
from proxy.console.search_form import FilterUnusable, filled, query_of
from proxy.console.sessions import Visitor
from proxy.console.sign_in import SignIn
from proxy.console.sign_in_pages import PATH as SIGN_IN
from proxy.console.sign_in_pages import SignInPages
from proxy.errors import LogUnavailable
from proxy.records.query import ArchiveUnusable
from proxy.telemetry.history import History
from proxy.telemetry.status import Status

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
View = Callable[[Status], PageContent]

_ROWS = 50
_ID_BYTES = 16

_VIEWS: dict[str, View] = {
    "/console/tokens": status_pages.tokens,
    "/console/certificates": status_pages.certificates,
    "/console/callers": status_pages.callers,
    "/console/errors": status_pages.errors,
    "/console/sinks": status_pages.sinks,
    "/console/migrations": status_pages.migrations,
}


class MigrationActions(Protocol):
    """What the console changes; each is on record before it is done. Raise Refused or LogUnavailable."""

    async def set(self, name: str, weight: int, *, version: int, reason: str, by: Visitor) -> str:
        """Set the weight if *version* is current; return in words what was done."""

    async def rollback(self, name: str, *, reason: str, by: Visitor) -> str:
        """Go back to the last good weight; return in words what was done."""


class Console:
    """The console's handlers, for the admin listener's TCP addresses.

    *status* is called once for each page; *with_recent*, which adds recent callers and errors where they are shown, in
    a thread.
    """

    def __init__(
        self,
        *,
        status: Callable[[], Status],
        with_recent: Callable[[Status], Status],
        sign_in: SignIn,
        log: LogReader,
        history: History,
        migrations: MigrationActions,
        inquiries: BankInquiries,
        live: LiveRecords,
        hold_open: HoldOpen,
        clock: Clock,
    ) -> None:
        self._status = status
        self._with_recent = with_recent
        self._sign_in = sign_in
        self._log = log
        self._history = history
        self._migrations = migrations
        self._ask_bank = AskBank(inquiries, log)
        self._unresolved = UnresolvedCount(log, clock=clock)
        self._live = live
        self._tail = LiveTail(live, sign_in=sign_in, hold_open=hold_open, clock=clock)
        self._clock = clock

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        """Yield method, path and handler."""
        yield "GET", "/console/console.css", stylesheet
        yield "GET", "/console/console.js", script
        for path, view in _VIEWS.items():
            yield "GET", path, self._guarded(self._of_status(view))
            yield "GET", f"{path}.json", self._guarded(self._of_status(view))
        yield "GET", OVERVIEW, self._guarded(self._show_overview)
        yield "GET", "/console/overview.json", self._guarded(self._show_overview)
        yield "GET", HISTORY, self._guarded(self._show_history)
        yield "GET", f"{HISTORY}.json", self._guarded(self._show_history)
        yield "GET", REQUESTS, self._guarded(self._search)
        yield "GET", f"{REQUESTS}.json", self._guarded(self._search)
        yield "GET", TAIL, self._guarded(self._show_tail)
        yield "GET", f"{TAIL}.json", self._guarded(self._show_tail)
        yield "GET", EVENTS, self._guarded(lambda request, _: self._tail.events(request))
        yield "GET", f"{REQUESTS}/{{id}}", self._guarded(self._show)
        sign_in = SignInPages(self._sign_in, page=self._page, signed_out=self._live.wake)
        yield "GET", SIGN_IN, self._open(sign_in.show)
        yield "POST", SIGN_IN, self._open(sign_in.take)
        yield "POST", "/console/sign-out", self._guarded(sign_in.end)
        yield "POST", "/console/migrations/set", self._acting(self._set, back=_to_migrations)
        yield "POST", "/console/migrations/rollback", self._acting(self._rollback, back=_to_migrations)
        yield "POST", ASK, self._acting(self._ask, back=lambda fields: f"{REQUESTS}/{fields['id']}")

    def _open(self, handler: Handler) -> Handler:
        """Return *handler*, whose refusals become pages, for everybody."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except Refused as refused:
                return await self._refusal(request, refused)
            except LogUnavailable as error:
                words = "It can't be recorded, so it was not done."
                return await self._refusal(request, Refused(error.status, words))
            except ArchiveUnusable as error:
                return await self._refusal(request, Refused(503, f"The request log can't be read: {error}"))

        return answer

    def _guarded(self, handler: Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]) -> Handler:
        """Return *handler* for visitors that may look; others are led to the sign-in."""

        async def answer(request: web.Request) -> web.StreamResponse:
            refuse_embedding(request)
            visitor = self._sign_in.visitor(request)
            if visitor is not None:
                return await handler(request, visitor)
            if request.method == "GET" and not _wants_json(request):
                return see_other(SIGN_IN)
            raise Refused(403, "Sign in first, at /console/.")

        return self._open(answer)

    def _acting(
        self,
        act: Callable[[Mapping[str, str], Visitor], Awaitable[str]],
        *,
        back: Callable[[Mapping[str, str]], str],
    ) -> Handler:
        """Return a handler of a form that changes something: for operators, and only from a page of their session.

        *act* returns what was done, *back* the path of the page to go on with.
        """

        async def answer(request: web.Request, visitor: Visitor) -> web.StreamResponse:
            refuse_other_sites(request)
            if not visitor.may_act:
                raise Refused(403, why_not(visitor))
            fields = await form_of(request)
            refuse_forged(fields, visitor)
            done = await act(fields, visitor)
            values = message(done, tone=Tone.GOOD, back=back(fields))
            return await self._page("message.html", visitor, title="Done", path="", **values)

        return self._guarded(answer)

    def _of_status(self, view: View) -> Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request, visitor: Visitor) -> web.StreamResponse:
            status = self._status()
            return await self._content(request, visitor, lambda: view(self._with_recent(status)), shown=status)

        return answer

    async def _show_overview(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, chosen = self._status(), WINDOWS[DEFAULT]
        samples = self._history.samples(chosen.ring, number=chosen.number, together=chosen.together)
        unresolved = await self._unresolved.latest()
        return await self._content(
            request,
            visitor,
            lambda: overview(self._with_recent(status), plots(samples, chosen), unresolved),
            shown=status,
        )

    async def _show_history(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        return await self._content(request, visitor, history_page(self._history, request.query.get("window", "")))

    async def _search(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        fields = filled(request.query)
        before = _id_bytes(request.query.get("before", ""))
        try:
            query = query_of(fields, now=self._clock.now())
        except FilterUnusable as error:
            problem, fields = str(error), error.shown or fields
            return await self._content(request, visitor, lambda: found_page((), fields, problem=problem), status=400)
        if request.query.get("open"):
            page = await self._log.read(
                lambda archive, spool, enough: open_page(
                    archive, spool, query, before=before, size=_ROWS, enough=enough
                )
            )
        else:
            page = await self._log.page(query, before=before, size=_ROWS)
        return await self._content(
            request,
            visitor,
            lambda: found_page(
                [json.loads(one) for one in page.records],
                fields,
                before=page.before,
                full=len(page.records) >= _ROWS,
                continued=before is not None,
            ),
        )

    async def _show_tail(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, content = self._tail.page(request)
        return await self._content(request, visitor, lambda: content, status=status)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        content = await self._ask_bank.page(await self._record(request.match_info["id"].removesuffix(".json")))
        return await self._content(request, visitor, lambda: content)

    async def _record(self, text: str) -> dict[str, Any]:
        record_id = _id_bytes(text)
        record = None if record_id is None else await self._log.record(record_id)
        if record is None:
            raise Refused(404, "The request log has no record of this id.")
        return record

    async def _set(self, fields: Mapping[str, str], visitor: Visitor) -> str:
        weight, version = number_of(fields, "weight", 100), number_of(fields, "version", 1 << 53)
        return await self._migrations.set(
            fields.get("name", ""), weight, version=version, reason=reason_of(fields), by=visitor
        )

    async def _rollback(self, fields: Mapping[str, str], visitor: Visitor) -> str:
        return await self._migrations.rollback(fields.get("name", ""), reason=reason_of(fields), by=visitor)

    async def _ask(self, fields: Mapping[str, str], visitor: Visitor) -> str:
        return await self._ask_bank.ask(await self._record(fields.get("id", "")), visitor)

    async def _content(
        self,
        request: web.Request,
        visitor: Visitor,
        make: Callable[[], PageContent],
        *,
        status: int = 200,
        shown: Status | None = None,
    ) -> web.Response:
        """Answer with what *make* returns in a thread, as HTML or JSON; *shown* is the state then, if known."""
        if _wants_json(request):
            return as_json(await asyncio.to_thread(lambda: dumped(make().values())), status=status)
        frame = frame_of(shown or self._status(), visitor)

        def rendered() -> str:
            content = make()
            return render(content.template, frame=frame, title=content.title, path=content.path, content=content)

        return html(await asyncio.to_thread(rendered), status=status)

    async def _page(self, template: str, visitor: Visitor | None, *, status: int = 200, **values: Any) -> web.Response:
        text = await asyncio.to_thread(render, template, frame=frame_of(self._status(), visitor), **values)
        return html(text, status=status)

    async def _refusal(self, request: web.Request, refused: Refused) -> web.StreamResponse:
        if _wants_json(request):
            answer = as_json(dumped({"detail": refused.text, "status": refused.status}), status=refused.status)
            if refused.retry_after:
                answer.headers["Retry-After"] = str(refused.retry_after)
            return answer
        values = message(refused.text, tone=Tone.BAD, back=OVERVIEW)
        visitor = self._sign_in.visitor(request)
        return await self._page("message.html", visitor, status=refused.status, title="Not done", path="", **values)


def _to_migrations(_fields: Mapping[str, str]) -> str:
    return "/console/migrations"


def _wants_json(request: web.Request) -> bool:
    return request.path.endswith(".json") or request.path == EVENTS


def _id_bytes(text: str) -> bytes | None:
    """Return the 16 bytes of the record id *text*, None if it is none."""
    try:
        found = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return found if len(found) == _ID_BYTES else None
