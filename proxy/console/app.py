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
    see_other,
    stylesheet,
)
from proxy.console.configuration_page import PATH as CONFIGURATION
from proxy.console.configuration_page import configuration_page
from proxy.console.frame import frame_of, render, why_not
from proxy.console.history_page import DEFAULT, history_page
from proxy.console.history_page import PATH as HISTORY
from proxy.console.in_force import ConfigurationInForce
from proxy.console.log_reader import LogReader, id_bytes
from proxy.console.migrations_page import PATH as MIGRATIONS
from proxy.console.migrations_page import migrations_page
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.overview import overview
from proxy.console.page import PageContent, Tone
from proxy.console.plots import WINDOWS, plots
from proxy.console.request_pages import PATH as REQUESTS
from proxy.console.request_pages import found_page, request_page
from proxy.console.routes_page import PATH as ROUTES
from proxy.console.routes_page import routes_page
from proxy.console.search_form import FilterUnusable, filled, query_of
from proxy.console.sessions import Role, Visitor
from proxy.console.sign_in import SignIn
from proxy.errors import LogUnavailable
from proxy.records.query import ArchiveUnusable
from proxy.settings.worker_values import callers_of
from proxy.telemetry.history import History
from proxy.telemetry.status import Status

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
View = Callable[[Status], PageContent]

SIGN_IN = "/console/sign-in"
_ROWS = 50

_VIEWS: dict[str, View] = {
    "/console/tokens": status_pages.tokens,
    "/console/certificates": status_pages.certificates,
    "/console/callers": status_pages.callers,
    "/console/errors": status_pages.errors,
    "/console/sinks": status_pages.sinks,
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
        in_force: ConfigurationInForce,
        clock: Clock,
    ) -> None:
        self._status = status
        self._with_recent = with_recent
        self._sign_in = sign_in
        self._log = log
        self._history = history
        self._migrations = migrations
        self._in_force = in_force
        self._clock = clock
        # Reading keys, which may be encrypted, takes long: not in more than one of the threads that all share.
        self._checking = asyncio.Semaphore(1)

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        """Yield method, path and handler."""
        yield "GET", "/console/console.css", stylesheet
        pages = {
            **{path: self._of_status(view) for path, view in _VIEWS.items()},
            HISTORY: self._show_history,
            REQUESTS: self._search,
            MIGRATIONS: self._show_migrations,
            ROUTES: self._show_routes,
            CONFIGURATION: self._show_configuration,
        }
        for path, page in pages.items():
            yield "GET", path, self._guarded(page)
            yield "GET", f"{path}.json", self._guarded(page)
        yield "GET", OVERVIEW, self._guarded(self._show_overview)
        yield "GET", "/console/overview.json", self._guarded(self._show_overview)
        yield "GET", f"{REQUESTS}/{{id}}", self._guarded(self._show)
        yield "GET", SIGN_IN, self._open(self._ask_to_sign_in)
        yield "POST", SIGN_IN, self._open(self._take_sign_in)
        yield "POST", "/console/sign-out", self._guarded(self._sign_out)
        yield "POST", "/console/migrations/set", self._acting(self._set)
        yield "POST", "/console/migrations/rollback", self._acting(self._rollback)

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

    def _acting(self, act: Callable[[Mapping[str, str], Visitor], Awaitable[str]]) -> Handler:
        """Return a handler of a form that changes something: for operators, and only from a page of their session."""

        async def answer(request: web.Request, visitor: Visitor) -> web.StreamResponse:
            refuse_other_sites(request)
            if not visitor.may_act:
                raise Refused(403, why_not(visitor))
            fields = await form_of(request)
            refuse_forged(fields, visitor)
            done = await act(fields, visitor)
            values = message(done, tone=Tone.GOOD, back=MIGRATIONS)
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
        return await self._content(
            request, visitor, lambda: overview(self._with_recent(status), plots(samples, chosen)), shown=status
        )

    async def _show_history(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        return await self._content(request, visitor, history_page(self._history, request.query.get("window", "")))

    async def _show_routes(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, query = self._status(), request.query
        return await self._content(request, visitor, lambda: routes_page(self._in_force, status, query), shown=status)

    async def _show_configuration(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        query = request.query
        async with self._checking:
            return await self._content(request, visitor, lambda: configuration_page(self._in_force.view(), query))

    async def _show_migrations(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, snapshot, problem = self._status(), self._in_force.snapshot(), ""
        settings = self._in_force.settings()["migrations"]
        wanted = [(one, callers_of(snapshot, one)) for one in snapshot.migrations]
        try:
            found = await self._log.courses(wanted, now=self._clock.now()) if wanted else {}
        except ArchiveUnusable as error:
            found, problem = {}, f"The request log can't be read: {error}"
        return await self._content(
            request,
            visitor,
            lambda: migrations_page(status, snapshot, settings, found, problem=problem),
            shown=status,
        )

    async def _search(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        fields = filled(request.query)
        before = id_bytes(request.query.get("before", ""))
        try:
            query = query_of(fields, now=self._clock.now())
        except FilterUnusable as error:
            problem, fields = str(error), error.shown or fields
            return await self._content(request, visitor, lambda: found_page((), fields, problem=problem))
        page = await self._log.page(query, before=before, size=_ROWS)
        return await self._content(
            request,
            visitor,
            lambda: found_page(
                [json.loads(one) for one in page.records],
                fields,
                before=page.before,
                full=len(page.records) == _ROWS,
                continued=before is not None,
            ),
        )

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        record_id = id_bytes(request.match_info["id"].removesuffix(".json"))
        record = None if record_id is None else await self._log.record(record_id)
        if record is None:
            raise Refused(404, "The request log has no record of this id.")
        return await self._content(request, visitor, lambda: request_page(record))

    async def _ask_to_sign_in(self, request: web.Request) -> web.StreamResponse:
        if self._sign_in.visitor(request) is not None:
            return see_other(OVERVIEW)
        return await self._sign_in_page(link=request.query.get("link", ""))

    async def _take_sign_in(self, request: web.Request) -> web.StreamResponse:
        fields = await form_of(request)
        try:
            if "link" in fields:
                token = await self._sign_in.by_link(fields["link"])
            else:
                role = Role.VIEWER if fields.get("view") else Role.OPERATOR
                token = await self._sign_in.by_password(fields.get("name", ""), fields.get("password", ""), role=role)
        except Refused as refused:
            return await self._sign_in_page(refused=refused)
        answer = see_other(OVERVIEW)
        self._sign_in.begin(request, answer, token)
        return answer

    async def _sign_in_page(self, *, link: str = "", refused: Refused | None = None) -> web.Response:
        problem, status = (refused.text, refused.status) if refused else ("", 200)
        answer = await self._page(
            "sign_in.html", None, title="Sign in", path="", link=link, problem=problem, status=status
        )
        if refused and refused.retry_after:
            answer.headers["Retry-After"] = str(refused.retry_after)
        return answer

    async def _sign_out(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        refuse_forged(await form_of(request), visitor)
        answer = see_other(SIGN_IN)
        self._sign_in.end(request, answer)
        return answer

    async def _set(self, fields: Mapping[str, str], visitor: Visitor) -> str:
        weight, version = number_of(fields, "weight", 100), number_of(fields, "version", 1 << 53)
        return await self._migrations.set(
            fields.get("name", ""), weight, version=version, reason=reason_of(fields), by=visitor
        )

    async def _rollback(self, fields: Mapping[str, str], visitor: Visitor) -> str:
        return await self._migrations.rollback(fields.get("name", ""), reason=reason_of(fields), by=visitor)

    async def _content(
        self,
        request: web.Request,
        visitor: Visitor,
        make: Callable[[], PageContent],
        *,
        shown: Status | None = None,
    ) -> web.Response:
        """Answer with what *make* returns in a thread, as HTML or JSON; *shown* is the state then, if known."""
        frame = None if _wants_json(request) else frame_of(shown or self._status(), visitor)

        def answer() -> web.Response:
            content = make()
            if frame is None:
                return as_json(dumped(content.values()), status=content.status)
            text = render(content.template, frame=frame, title=content.title, path=content.path, content=content)
            return html(text, status=content.status)

        return await asyncio.to_thread(answer)

    async def _page(self, template: str, visitor: Visitor | None, *, status: int = 200, **values: Any) -> web.Response:
        text = await asyncio.to_thread(render, template, frame=frame_of(self._status(), visitor), **values)
        return html(text, status=status)

    async def _refusal(self, request: web.Request, refused: Refused) -> web.StreamResponse:
        if _wants_json(request):
            return as_json(dumped({"detail": refused.text, "status": refused.status}), status=refused.status)
        values = message(refused.text, tone=Tone.BAD, back=OVERVIEW)
        visitor = self._sign_in.visitor(request)
        return await self._page("message.html", visitor, status=refused.status, title="Not done", path="", **values)


def _wants_json(request: web.Request) -> bool:
    return request.path.endswith(".json")
