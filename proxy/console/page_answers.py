"""How the console answers: to whom, and in which form, a page or JSON; refusals become pages too."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from proxy.console.answers import (
    Refused,
    as_json,
    dumped,
    form_of,
    html,
    is_of_another_site,
    message,
    refuse_embedding,
    refuse_forged,
    see_other,
)
from proxy.console.frame import SIGN_IN_AS_OPERATOR, frame_of, render, why_not
from proxy.console.live_tail import EVENTS
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.page import PageContent, Tone
from proxy.console.sessions import Visitor
from proxy.console.sign_in import SignIn
from proxy.console.sign_in_pages import sign_in_path
from proxy.errors import LogUnavailable
from proxy.records.query import ArchiveUnusable
from proxy.telemetry.status import Status

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PageAnswers:
    """Makes handlers for those whom *sign_in* lets in, and their answers; the frame of a page shows the *status*."""

    def __init__(self, *, status: Callable[[], Status], sign_in: SignIn) -> None:
        self._status = status
        self._sign_in = sign_in

    def open(self, handler: Handler) -> Handler:
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

    def guarded(self, handler: Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]) -> Handler:
        """Return *handler* for visitors that may look; others are led to the sign-in."""

        async def answer(request: web.Request) -> web.StreamResponse:
            refuse_embedding(request)
            visitor = self._sign_in.visitor(request)
            # A search that another site's page begins by a link or window of its own could be timed by it. And with
            # such a link browsers do not send the cookie of a session (SameSite=Strict): with the one below they do.
            if is_of_another_site(request) and (request.query_string or visitor is None):
                return await self._ask_to_open(request, visitor)
            if visitor is not None:
                return await handler(request, visitor)
            if request.method in {"GET", "HEAD"} and not _wants_json(request):
                return see_other(sign_in_path(request.rel_url.raw_path_qs))
            raise Refused(403, "Sign in first, at /console/.")

        return self.open(answer)

    def acting(
        self,
        act: Callable[[Mapping[str, str], Visitor], Awaitable[str]],
        *,
        back: Callable[[Mapping[str, str]], str],
    ) -> Handler:
        """Return a handler of a form that changes something: for operators, and only from a page of their session.

        *act* returns what was done, *back* the path of the page to go on with.
        """

        async def answer(request: web.Request, visitor: Visitor) -> web.StreamResponse:
            fields = await form_of(request)
            if not visitor.may_act:
                sign_in = sign_in_path(back(fields)) if visitor.csrf else ""
                raise Refused(403, why_not(visitor), sign_in=sign_in)
            refuse_forged(fields, visitor)
            try:
                done = await act(fields, visitor)
            except Refused as refused:
                if refused.status == 409:  # the page that the form was on shows what is there now
                    refused.back = back(fields)
                raise
            values = message(done, tone=Tone.GOOD, links=((back(fields), "Back"),))
            return await self.page("message.html", visitor, title="Done", path="", **values)

        return self.guarded(answer)

    async def content(
        self,
        request: web.Request,
        visitor: Visitor,
        make: Callable[[], PageContent],
        *,
        shown: Status | None = None,
    ) -> web.Response:
        """Answer with what *make* returns in a thread, as HTML or JSON; *shown* is the state then, if known."""
        here = request.rel_url.raw_path
        frame = None if _wants_json(request) else frame_of(shown or self._status(), visitor, here=here)

        def answer() -> web.Response:
            content = make()
            if frame is None:
                return as_json(dumped(content.values()), status=content.status)
            text = render(content.template, frame=frame, title=content.title, path=content.path, content=content)
            return html(text, status=content.status)

        return await asyncio.to_thread(answer)

    async def page(self, template: str, visitor: Visitor | None, *, status: int = 200, **values: Any) -> web.Response:
        """Answer with *template*, filled with *values*, to *visitor* (None: nobody has signed in)."""
        text = await asyncio.to_thread(render, template, frame=frame_of(self._status(), visitor), **values)
        return html(text, status=status)

    async def _ask_to_open(self, request: web.Request, visitor: Visitor | None) -> web.StreamResponse:
        if _wants_json(request):
            raise Refused(403, "Another site's page leads here: open this address yourself.")
        # The address of this page itself: the query is not repeated, it may have what no page may show.
        values = message("A page of another site leads here.", tone=Tone.PLAIN, links=(("", "Open this page"),))
        return await self.page("message.html", visitor, title="Link from another site", path="", **values)

    async def _refusal(self, request: web.Request, refused: Refused) -> web.StreamResponse:
        if _wants_json(request):
            answer = as_json(dumped({"detail": refused.text, "status": refused.status}), status=refused.status)
            if refused.retry_after:
                answer.headers["Retry-After"] = str(refused.retry_after)
            return answer
        sign_in = ((refused.sign_in, SIGN_IN_AS_OPERATOR),) if refused.sign_in else ()
        values = message(refused.text, tone=Tone.BAD, links=(*sign_in, (refused.back or OVERVIEW, "Back")))
        visitor = self._sign_in.visitor(request)
        return await self.page("message.html", visitor, status=refused.status, title="Not done", path="", **values)


def _wants_json(request: web.Request) -> bool:
    return request.path.endswith(".json") or request.path == EVENTS
