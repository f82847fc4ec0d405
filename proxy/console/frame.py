"""What is around each page, and how it becomes HTML."""

from dataclasses import dataclass
from typing import Any

from proxy.console.configuration_page import PATH as CONFIGURATION
from proxy.console.history_page import PATH as HISTORY
from proxy.console.overview import PATH as OVERVIEW
from proxy.console.request_pages import PATH as REQUESTS
from proxy.console.routes_page import PATH as ROUTES
from proxy.console.sessions import Visitor
from proxy.console.sign_in_pages import sign_in_path
from proxy.telemetry.status import Status

NAVIGATION = (
    (OVERVIEW, "Overview"),
    (HISTORY, "History"),
    (REQUESTS, "Requests"),
    ("/console/errors", "Errors"),
    ("/console/callers", "Callers"),
    ("/console/tokens", "Tokens"),
    ("/console/certificates", "Certificates"),
    ("/console/sinks", "Request log sinks"),
    ("/console/migrations", "Migrations"),
    (ROUTES, "Routes"),
    (CONFIGURATION, "Configuration"),
)
_READ_ONLY = (
    "This console is read-only: there is nobody in [admin] operators. `payproxy migration` changes migrations too."
)
_VIEWER = "This session can only look; this needs an operator."
SIGN_IN_AS_OPERATOR = "Sign in as operator"


@dataclass(frozen=True, slots=True)
class Frame:
    """What is around each page; *sign_in* is the path of the sign-in that lets a viewer act, and leads back."""

    instance: str
    environment: str
    visitor: Visitor | None
    pages: tuple[tuple[str, str], ...] = NAVIGATION
    why_not: str = ""
    sign_in: str = ""
    sign_in_words: str = SIGN_IN_AS_OPERATOR


def frame_of(status: Status, visitor: Visitor | None, *, here: str = OVERVIEW) -> Frame:
    """Return what is around the page at the path *here* for *visitor*.

    Who has not signed in learns no more than that this is payproxy.
    """
    shown = (status.instance, status.environment) if visitor else ("", "")
    sign_in = sign_in_path(here) if visitor and visitor.csrf and not visitor.may_act else ""
    return Frame(*shown, visitor, why_not=why_not(visitor), sign_in=sign_in)


def why_not(visitor: Visitor | None) -> str:
    """Return why *visitor* can't act, if that is so."""
    return _VIEWER if visitor and visitor.csrf else _READ_ONLY


def render(template: str, **values: Any) -> str:
    """Return *template* filled with *values*; jinja2 is imported by the first call, in the thread that renders."""
    from proxy.console.rendering import render as by_jinja  # noqa: PLC0415

    return by_jinja(template, **values)
