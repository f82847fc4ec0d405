"""The console's paths: pages with their JSON, sign-in and actions; all that is slow happens off the keeper's loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from aiohttp import web

from proxy.clock import Clock
from proxy.console import status_pages
from proxy.console.answers import Refused, number_of, reason_of, script, see_other, stylesheet
from proxy.console.ask_bank import ASK, AskBank, BankInquiries
from proxy.console.configuration_page import PATH as CONFIGURATION
from proxy.console.configuration_page import configuration_page
from proxy.console.history_page import DEFAULT, history_page
from proxy.console.history_page import PATH as HISTORY
from proxy.console.in_force import ConfigurationInForce
from proxy.console.live_records import LiveRecords
from proxy.console.live_tail import EVENTS, HoldOpen, LiveTail
from proxy.console.live_tail import PATH as TAIL
from proxy.console.log_reader import LogReader, id_bytes
from proxy.console.migrations_page import PATH as MIGRATIONS
from proxy.console.migrations_page import migrations_page
from proxy.console.outcomes import UnresolvedCount, open_page
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.overview import overview
from proxy.console.page import PageContent
from proxy.console.page_answers import Handler, PageAnswers
from proxy.console.plots import WINDOWS, plots
from proxy.console.request_pages import PATH as REQUESTS
from proxy.console.request_pages import found_page
from proxy.console.routes_page import PATH as ROUTES
from proxy.console.routes_page import routes_page
from proxy.console.search_form import FilterUnusable, filled, query_of, refuse_unknown
from proxy.console.sessions import Visitor
from proxy.console.sign_in import SignIn
from proxy.console.sign_in_pages import PATH as SIGN_IN
from proxy.console.sign_in_pages import SignInPages
from proxy.records.query import ArchiveUnusable
from proxy.settings.worker_values import callers_of
from proxy.telemetry.history import History
from proxy.telemetry.status import Status

View = Callable[[Status], PageContent]

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

    async def rollback(self, name: str, to: int, *, version: int, reason: str, by: Visitor) -> str:
        """Go back to the weight *to* if *version* is current; return in words what was done."""


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
        inquiries: BankInquiries,
        live: LiveRecords,
        hold_open: HoldOpen,
        clock: Clock,
    ) -> None:
        self._status = status
        self._with_recent = with_recent
        self._sign_in = sign_in
        self._answers = PageAnswers(status=status, sign_in=sign_in)
        self._log = log
        self._history = history
        self._migrations = migrations
        self._in_force = in_force
        self._ask_bank = AskBank(inquiries, log)
        self._unresolved = UnresolvedCount(log, clock=clock)
        self._live = live
        self._tail = LiveTail(live, sign_in=sign_in, hold_open=hold_open, clock=clock)
        self._clock = clock
        # Reading keys, which may be encrypted, takes long: not in more than one of the threads that all share.
        self._checking = asyncio.Semaphore(1)

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        """Yield method, path and handler."""
        answers = self._answers
        yield "GET", "/console/console.css", stylesheet
        yield "GET", "/console/console.js", script
        pages = {
            **{path: self._of_status(view) for path, view in _VIEWS.items()},
            HISTORY: self._show_history,
            REQUESTS: self._search,
            TAIL: self._show_tail,
            MIGRATIONS: self._show_migrations,
            ROUTES: self._show_routes,
            CONFIGURATION: self._show_configuration,
        }
        for path, page in pages.items():
            yield "HEAD", path, answers.guarded(page)  # of which aiohttp leaves out the body
            yield "GET", path, answers.guarded(page)
            yield "GET", f"{path}.json", answers.guarded(page)
        yield "GET", OVERVIEW.removesuffix("/"), answers.open(_to_overview)
        yield "HEAD", OVERVIEW, answers.guarded(self._show_overview)
        yield "GET", OVERVIEW, answers.guarded(self._show_overview)
        yield "GET", "/console/overview.json", answers.guarded(self._show_overview)
        yield "GET", EVENTS, answers.guarded(lambda request, _: self._tail.events(request))
        yield "GET", f"{REQUESTS}/{{id}}", answers.guarded(self._show)
        sign_in = SignInPages(self._sign_in, page=answers.page, signed_out=self._live.wake)
        yield "GET", SIGN_IN, answers.open(sign_in.show)
        yield "POST", SIGN_IN, answers.open(sign_in.take)
        yield "POST", "/console/sign-out", answers.guarded(sign_in.end)
        yield "POST", "/console/migrations/set", answers.acting(self._set, back=_to_migrations)
        yield "POST", "/console/migrations/rollback", answers.acting(self._rollback, back=_to_migrations)
        yield "POST", ASK, answers.acting(self._ask, back=lambda fields: f"{REQUESTS}/{fields.get('id', '')}")

    def _of_status(self, view: View) -> Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request, visitor: Visitor) -> web.StreamResponse:
            status = self._status()
            return await self._answers.content(request, visitor, lambda: view(self._with_recent(status)), shown=status)

        return answer

    async def _show_overview(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, chosen = self._status(), WINDOWS[DEFAULT]
        samples = self._history.samples(chosen.ring, number=chosen.number, together=chosen.together)
        unresolved = await self._unresolved.latest()
        return await self._answers.content(
            request,
            visitor,
            lambda: overview(self._with_recent(status), plots(samples, chosen), unresolved),
            shown=status,
        )

    async def _show_history(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        return await self._answers.content(
            request, visitor, history_page(self._history, request.query.get("window", ""))
        )

    async def _show_routes(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, query = self._status(), request.query
        return await self._answers.content(
            request, visitor, lambda: routes_page(self._in_force, status, query), shown=status
        )

    async def _show_configuration(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        query = request.query
        async with self._checking:
            return await self._answers.content(
                request, visitor, lambda: configuration_page(self._in_force.view(), query)
            )

    async def _show_migrations(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        status, snapshot, problem = self._status(), self._in_force.snapshot(), ""
        settings = self._in_force.settings()["migrations"]
        wanted = [(one, callers_of(snapshot, one)) for one in snapshot.migrations]
        try:
            found = await self._log.courses(wanted, now=self._clock.now()) if wanted else {}
        except ArchiveUnusable as error:
            found, problem = {}, f"The request log can't be read: {error}"
        return await self._answers.content(
            request,
            visitor,
            lambda: migrations_page(status, snapshot, settings, found, problem=problem),
            shown=status,
        )

    async def _search(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        fields, place = filled(request.query), request.query.get("before", "")
        before = id_bytes(place)
        try:
            refuse_unknown([name for name, _ in request.query.items()])
            if place and before is None:
                raise FilterUnusable("before: is the id of a record, from which on the search goes back")
            query = query_of(fields, now=self._clock.now())
        except FilterUnusable as error:
            problem, fields = str(error), error.shown or fields
            return await self._answers.content(request, visitor, lambda: found_page((), fields, problem=problem))
        if request.query.get("open"):
            page = await self._log.read(
                lambda archive, spool, enough: open_page(
                    archive, spool, query, before=before, size=_ROWS, enough=enough
                )
            )
        else:
            page = await self._log.page(query, before=before, size=_ROWS)
        return await self._answers.content(
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
        content = self._tail.page(request)
        return await self._answers.content(request, visitor, lambda: content)

    async def _show(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        content = await self._ask_bank.page(await self._record(request.match_info["id"].removesuffix(".json")))
        return await self._answers.content(request, visitor, lambda: content)

    async def _record(self, text: str) -> dict[str, Any]:
        record_id = id_bytes(text)
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
        to, version = number_of(fields, "to", 100), number_of(fields, "version", 1 << 53)
        return await self._migrations.rollback(
            fields.get("name", ""), to, version=version, reason=reason_of(fields), by=visitor
        )

    async def _ask(self, fields: Mapping[str, str], visitor: Visitor) -> str:
        return await self._ask_bank.ask(await self._record(fields.get("id", "")), visitor)


async def _to_overview(_request: web.Request) -> web.StreamResponse:
    return see_other(OVERVIEW)


def _to_migrations(_fields: Mapping[str, str]) -> str:
    return MIGRATIONS
