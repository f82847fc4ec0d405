"""Answers of the console: pages, JSON, refusals, and the forms that come in."""

import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from proxy.console.page import Tone
from proxy.console.sessions import Visitor

# No script and no style but our own files, no frame, no form to elsewhere (console.md).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Not no-referrer: with that browsers send "Origin: null" with our own forms, which would have to be let in.
_HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 20
_STATIC = Path(__file__).parent / "static"
# As in the form, which a browser need not obey.
_LONGEST_REASON = 500


class Refused(Exception):
    """The console does not do or show this; *text* is for the visitor and repeats nothing of the request.

    *sign_in* is the path of the sign-in that lets the visitor do it, if there is one; *back* that of the page to go on
    with, "" for the overview.
    """

    def __init__(self, status: int, text: str, *, retry_after: int = 0, sign_in: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after
        self.sign_in = sign_in
        self.back = ""


def html(text: str, *, status: int = 200) -> web.Response:
    """Return a page."""
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)


def as_json(text: str, *, status: int = 200) -> web.Response:
    """Return the JSON *text*."""
    return web.Response(text=text, status=status, content_type="application/json", headers=_HEADERS)


def see_other(path: str) -> web.Response:
    """Return the answer that leads to *path* of the console (303)."""
    return web.Response(status=303, headers=_HEADERS | {"Location": path})


def event_stream() -> web.StreamResponse:
    """Return an answer of server-sent events, which is not prepared yet; its connection closes after it."""
    # The last: nginx keeps nothing back.
    more = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    answer = web.StreamResponse(headers=_HEADERS | more)
    answer.force_close()
    return answer


async def stylesheet(_request: web.Request) -> web.StreamResponse:
    """Answer with the one stylesheet."""
    return web.Response(text=(_STATIC / "console.css").read_text(), content_type="text/css", headers=_HEADERS)


async def script(_request: web.Request) -> web.StreamResponse:
    """Answer with the one script."""
    return web.Response(text=(_STATIC / "console.js").read_text(), content_type="text/javascript", headers=_HEADERS)


def dumped(data: Any) -> str:
    """Return *data* as JSON for scripts and people."""
    return json.dumps(data, indent=2) + "\n"


def message(text: str, *, tone: Tone, links: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of the template message.html; *links* are address and words of each."""
    return {"text": text, "tone": tone, "links": links}


def refuse_other_sites(request: web.BaseRequest) -> None:
    """Raise Refused if another site's page made the browser send this, by Fetch Metadata; Origin is the listener's."""
    if is_of_another_site(request):
        raise Refused(403, "Requests from other sites' pages are refused.")


def refuse_embedding(request: web.BaseRequest) -> None:
    """Raise Refused if another site's page fetches or frames this; a link of it may lead here.

    The page could not read it, but measure how long a search takes, and without operators that needs no cookie.
    """
    headers = request.headers
    followed = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    if is_of_another_site(request) and not followed:
        raise Refused(403, "Other sites' pages can link to this page, but not fetch or frame it.")


def is_of_another_site(request: web.BaseRequest) -> bool:
    """Return whether another site's page made the browser send this; an address that was typed in is of none.

    Browsers that send no Fetch Metadata are taken at their word.
    """
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}


async def form_of(request: web.Request) -> dict[str, str]:
    """Return the fields of the form in *request*; raises Refused."""
    refuse_other_sites(request)
    if request.content_type != _FORM:
        raise Refused(415, f"A form is needed, as {_FORM}.")
    body = await request.read()
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, strict_parsing=True
        )
    except ValueError:
        raise Refused(400, "This is no form of the console's.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refused(400, "A field occurs twice.")
    return fields


def refuse_forged(fields: Mapping[str, str], visitor: Visitor) -> None:
    """Raise Refused if the form *fields* are not of a page that *visitor*'s session got (CSRF)."""
    given = fields.get("csrf", "")
    if not visitor.csrf or not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
        raise Refused(403, "This form is not of your session: open the page again and repeat it.")


def reason_of(fields: Mapping[str, str]) -> str:
    """Return the reason in *fields*: it gets into the state of all replicas, and into logs and terminals of others.

    Raises Refused.
    """
    text = fields.get("reason", "")
    if len(text) > _LONGEST_REASON or not text.isprintable():
        raise Refused(400, f"reason is one line of at most {_LONGEST_REASON} characters.")
    return text


def number_of(fields: Mapping[str, str], name: str, most: int) -> int:
    """Return the field *name* of *fields*, a number from 0 to *most*; raises Refused."""
    text = fields.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise Refused(400, f"{name} is a whole number from 0 to {most}.")
    return int(text)
