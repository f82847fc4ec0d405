"""The pages that sign in and out."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from aiohttp import web

from proxy.console.answers import Refused, form_of, refuse_forged, see_other
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.sessions import Role, Visitor
from proxy.console.sign_in import SignIn

PATH = "/console/sign-in"
# A path of the console, so that no link leads through the sign-in to another site.
_NEXT = re.compile(r"/console/[!-~]{0,2000}")


def sign_in_path(following: str) -> str:
    """Return the path of the sign-in that leads on to *following*, the path and query of a page of the console."""
    return PATH if following == OVERVIEW else f"{PATH}?{urlencode({'next': following})}"


class SignInPages:
    """Handlers; *page* renders a template, *signed_out* is called when a session was ended."""

    def __init__(
        self, sign_in: SignIn, *, page: Callable[..., Awaitable[web.Response]], signed_out: Callable[[], None]
    ) -> None:
        self._sign_in = sign_in
        self._page = page
        self._signed_out = signed_out

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer with the form, or lead on an operator; a link may be somebody else's."""
        visitor, link = self._sign_in.visitor(request), request.query.get("link", "")
        if visitor is not None and (not visitor.csrf or (visitor.may_act and not link)):
            return see_other(_next(request))
        return await self._form(visitor, link=link)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Begin a session by the form in *request*; raises Refused, LogUnavailable."""
        fields = await form_of(request)
        try:
            if "link" in fields:
                token = await self._sign_in.by_link(fields["link"])
            else:
                role = Role.VIEWER if fields.get("view") else Role.OPERATOR
                token = await self._sign_in.by_password(fields.get("name", ""), fields.get("password", ""), role=role)
        except Refused as refused:
            return await self._form(self._sign_in.visitor(request), refused=refused)
        answer = see_other(_next(request))
        self._sign_in.begin(request, answer, token)
        return answer

    async def end(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """End the session of *visitor*."""
        refuse_forged(await form_of(request), visitor)
        answer = see_other(PATH)
        self._sign_in.end(request, answer)
        self._signed_out()
        return answer

    async def _form(self, visitor: Visitor | None, *, link: str = "", refused: Refused | None = None) -> web.Response:
        problem, status = (refused.text, refused.status) if refused else ("", 200)
        answer = await self._page(
            "sign_in.html",
            visitor,
            title="Sign in",
            path="",
            link=link,
            problem=problem,
            status=status,
            closed=self._sign_in.needed and not self._sign_in.possible,
        )
        if refused and refused.retry_after:
            answer.headers["Retry-After"] = str(refused.retry_after)
        return answer


def _next(request: web.Request) -> str:
    """Return the path to go on with after the sign-in; the form is sent to the address that has it."""
    following = request.query.get("next", "")
    return following if _NEXT.fullmatch(following) else OVERVIEW
