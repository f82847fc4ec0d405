"""The pages that sign in and out."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.console.answers import Refused, form_of, refuse_forged, see_other
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.sessions import Role, Visitor
from proxy.console.sign_in import SignIn

PATH = "/console/sign-in"


class SignInPages:
    """Handlers; *page* renders a template, *signed_out* is called when a session was ended."""

    def __init__(
        self, sign_in: SignIn, *, page: Callable[..., Awaitable[web.Response]], signed_out: Callable[[], None]
    ) -> None:
        self._sign_in = sign_in
        self._page = page
        self._signed_out = signed_out

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer with the form, or lead who is signed in to the overview."""
        if self._sign_in.visitor(request) is not None:
            return see_other(OVERVIEW)
        return await self._form(link=request.query.get("link", ""))

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
            return await self._form(refused=refused)
        answer = see_other(OVERVIEW)
        self._sign_in.begin(request, answer, token)
        return answer

    async def end(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """End the session of *visitor*."""
        refuse_forged(await form_of(request), visitor)
        answer = see_other(PATH)
        self._sign_in.end(request, answer)
        self._signed_out()
        return answer

    async def _form(self, *, link: str = "", refused: Refused | None = None) -> web.Response:
        problem, status = (refused.text, refused.status) if refused else ("", 200)
        answer = await self._page(
            "sign_in.html",
            None,
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
