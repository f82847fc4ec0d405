"""The admin listener's pages: health, metrics and status, without secrets; actions on its Unix socket only."""

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from proxy.errors import LogUnavailable
from proxy.keeper.operator import operation_of
from proxy.records.audit_records import Operation
from proxy.telemetry import health
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]  # method, path, handler
Act = Callable[[dict[str, Any]], dict[str, Any]]
# Records the operation itself, with the values before and after; raises Refused or LogUnavailable.
Perform = Callable[[dict[str, Any], Operation], Awaitable[dict[str, Any]]]
# Returns once the requested operation is recorded on disk; raises LogUnavailable.
Operated = Callable[[Operation], Awaitable[None]]

# Also defined in proxy/cli/instance.py, since commands do not import the keeper.
CONFIGURATION_PATH = "/api/configuration"
STATUS_PATH = "/api/status"
CONSOLE_PATH = "/console/"

# Enough for an action's few parameters.
_MAX_ACTION_BYTES = 16384

# Other sites' pages must not run, frame, embed or cache anything from here.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_log = logging.getLogger(__name__)


class ActionRefused(Exception):
    """A request that the admin listener refuses; *detail* is a fixed text that repeats nothing of the request."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action of the keeper that commands call: *act* or *perform* maps JSON objects, or raises Refused."""

    what: str
    act: Act | None = field(default=None, repr=False)
    perform: Perform | None = field(default=None, repr=False)


class AdminApp:
    """The admin listener's application. *status* is called per request; *hosts* are accepted besides loopback.

    *with_recent* adds what is shown but not probed, recent callers and errors: it is called in a thread.

    *actions*, by path, are POST only and exist on the Unix socket only: whoever may open the socket may run them.
    *operated* records each action before it runs. *configuration*, also on the Unix socket only, returns the active
    settings without secrets, for commands that meet a broken file. Unless *open_status* returns True the status, which
    names callers and requests, is on the Unix socket only too. *console* are its routes, on TCP only: on the Unix
    socket a Host can't tell a foreign page from ours. *end_live* ends its streams when the listener stops.
    """

    def __init__(
        self,
        *,
        status: Callable[[], Status],
        metrics: Metrics,
        with_recent: Callable[[Status], Status] = lambda status: status,
        hosts: Collection[str] = (),
        open_status: Callable[[], bool] = lambda: True,
        console: Iterable[Route] = (),
        end_live: Callable[[], None] = lambda: None,
        actions: Mapping[str, Action] | None = None,
        operated: Operated | None = None,
        configuration: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self._operated = operated
        self._configuration = configuration
        self._status = status
        self._with_recent = with_recent
        self._metrics = metrics
        self._actions = dict(actions or {})
        self._hosts = frozenset(_host_name(host) for host in hosts)
        self._open_status = open_status
        self._console = tuple(console)
        self._end_live = end_live
        self._pages: dict[str, tuple[str, Handler]] = {
            "/": ("this list", self._index),
            "/livez": ("200 while the keeper answers; ?verbose", self._health(health.live)),
            "/readyz": ("200 while requests can be served, else 503 and why; ?verbose", self._health(health.ready)),
            "/startupz": ("200 once started; ?verbose", self._health(health.started)),
            "/metrics": ("for Prometheus, in its text format or as OpenMetrics", self._show_metrics),
            STATUS_PATH: (
                "readiness, workers, tokens, certificates, callers, errors and sinks, as JSON",
                self._show_status,
            ),
        }

    def application(self) -> web.Application:
        """Return the application; routes added to it later are guarded too."""
        application = web.Application(middlewares=[self._guard], client_max_size=_MAX_ACTION_BYTES)
        application.on_response_prepare.append(_finish_headers)
        for path, (_, handler) in self._pages.items():
            application.router.add_get(path, handler, allow_head=False)
        if self._configuration is not None:
            application.router.add_get(CONFIGURATION_PATH, self._show_configuration, allow_head=False)
        for path, action in self._actions.items():
            application.router.add_post(path, self._answerer(action))
        for method, path, handler in self._console:
            application.router.add_route(method, path, handler)
        application.on_shutdown.append(self._end_streams)
        return application

    async def _end_streams(self, _application: web.Application) -> None:
        self._end_live()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign requests, and turn every failure into a problem document that repeats no input."""
        try:
            refuse_strangers(request, hosts=self._hosts)
            tcp = _came_over_tcp(request)
            if self._is_socket_only(request.path) if tcp else f"{request.path}/".startswith(CONSOLE_PATH):
                raise web.HTTPNotFound
            return await handler(request)
        except ActionRefused as refused:
            return problem(refused.status, code=refused.code, detail=refused.detail)
        except web.HTTPMethodNotAllowed as error:
            answer = problem(405, code="method_not_allowed", detail="This path has no such method.")
            answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return answer
        except web.HTTPException as error:
            if error.status == 404:
                return problem(404, code="no_route", detail="There is no such path; GET / lists all.")
            return problem(error.status, code="bad_request", detail="This can't be answered.")
        except Exception as error:  # noqa: BLE001 - last resort: aiohttp's own answer would reveal the server software
            return _of_failure(error, request)

    def _is_socket_only(self, path: str) -> bool:
        return path in self._actions or path == CONFIGURATION_PATH or (path == STATUS_PATH and not self._open_status())

    async def _index(self, request: web.Request) -> web.Response:
        tcp = _came_over_tcp(request)
        lines = {path: what for path, (what, _) in self._pages.items() if not (tcp and self._is_socket_only(path))}
        if tcp and self._console:
            lines |= {CONSOLE_PATH: "pages for people, each with its JSON"}
        if not tcp:
            lines |= {f"POST {path}": action.what for path, action in self._actions.items()}
            lines |= {CONFIGURATION_PATH: "what is in force, without secrets, as JSON"} if self._configuration else {}
        width = max(map(len, lines))
        return web.Response(text="".join(f"{path:{width}}  {what}\n" for path, what in lines.items()))

    def _health(self, decide: Callable[[Status], Iterable[health.Check]]) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            checks = tuple(decide(self._status()))
            passed = health.holds(checks)
            status = 200 if passed else 503
            if "application/json" in request.headers.get("Accept", ""):
                fields = [{"name": c.name, "verdict": c.verdict, "reason": c.reason} for c in checks]
                return _json({"passed": passed, "checks": fields}, status=status)
            # A failure always includes the reasons: readers of a probe's log can't repeat the request.
            verbose = "verbose" in request.query or not passed
            text = health.lines(checks, title=request.path.strip("/")) if verbose else "ok\n"
            return web.Response(status=status, text=text)

        return answer

    async def _show_metrics(self, request: web.Request) -> web.Response:
        content_type, body = self._metrics.render(",".join(request.headers.getall("Accept", [])))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _answerer(self, action: Action) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            try:
                values = json.loads(body)
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict):
                raise ActionRefused(400, "bad_request", "A JSON object is needed as body.")
            operation = operation_of(request, values)
            try:
                if action.perform is not None:
                    return _json(await action.perform(values, operation))
                if self._operated is not None:
                    await self._operated(operation)
            except LogUnavailable as error:
                raise ActionRefused(error.status, error.code, "It can't be recorded, so it was not done.") from None
            return _json(action.act(values) if action.act is not None else {})

        return answer

    async def _show_configuration(self, _request: web.Request) -> web.Response:
        return _json({"settings": self._configuration() if self._configuration is not None else {}})

    async def _show_status(self, _request: web.Request) -> web.Response:
        status = self._status()
        # With a thousand callers and as many errors it takes 50 ms.
        return web.json_response(
            text=await asyncio.to_thread(lambda: _dumped(health.status_values(self._with_recent(status))))
        )


def problem(status: int, *, code: str, detail: str) -> web.Response:
    """Return a problem document (RFC 9457)."""
    fields = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    answer = _json(fields, status=status)
    answer.content_type = "application/problem+json"
    return answer


def refuse_strangers(request: web.BaseRequest, *, hosts: Collection[str]) -> None:
    """Raise Refused for a foreign Host (DNS rebinding) or for an Origin of another site.

    Accepted are loopback names, *hosts* and the connection's local address, which Kubernetes' probes use: a name can be
    rebound, an address can't. A request without Host (HTTP/1.0) is not from a browser. The Unix socket has no names.
    """
    names = request.headers.getall("Host", [])
    host = names[0] if len(names) == 1 else ""
    if not request.raw_path.startswith("/"):
        raise ActionRefused(400, "bad_request", "Only a path is accepted as request target.")
    if _came_over_tcp(request):
        if len(names) > 1 or (not names and request.version >= (1, 1)):
            raise ActionRefused(400, "bad_request", "Exactly one Host is needed (RFC 9112 3.2).")
        if names and not _is_ours(_host_name(host), hosts, local=_local_address(request)):
            raise ActionRefused(421, "bad_request", "This Host is not among [admin] hosts.")
    origins = request.headers.getall("Origin", [])
    if any(origin.lower() != f"{request.scheme}://{host.lower()}" for origin in origins):
        raise ActionRefused(403, "browser_refused", "Requests from other sites' pages are refused.")


async def _finish_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, dumps=_dumped)


def _dumped(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _of_failure(error: Exception, request: web.Request) -> web.Response:
    """Return the answer after *error*; logged is only what clients can't cause, or they could fill the disk."""
    if isinstance(error, PayloadEncodingError):
        return problem(400, code="bad_request", detail="The body is not encoded as its head says.")
    if request.transport is None:
        return problem(400, code="bad_request", detail="The client has left.")
    _log.error("the admin listener failed", exc_info=error)
    return problem(500, code="internal_error", detail="The admin listener failed; its log says why.")


def _came_over_tcp(request: web.BaseRequest) -> bool:
    connection = request.get_extra_info("socket")
    # A closed connection has no socket; treat it as TCP, the stricter case, since its answer is not delivered.
    return connection is None or connection.family != socket.AF_UNIX


def _local_address(request: web.BaseRequest) -> str:
    name = request.get_extra_info("sockname")
    return _address(name[0]) if isinstance(name, tuple) and name else ""


def _is_ours(name: str, hosts: Collection[str], *, local: str) -> bool:
    if name == "localhost" or name in hosts:
        return True
    address = _address(name)
    return bool(address) and (address == local or ipaddress.ip_address(address).is_loopback)


def _address(text: str) -> str:
    """Return a normalized IP address, "" if *text* is none; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _host_name(host: str) -> str:
    """Return the host of `name:port` or `[v6]:port` in lower case, "" for a malformed bracket form."""
    if host.startswith("["):
        address, bracket, _ = host[1:].partition("]")
        return address.lower() if bracket and ":" in address else ""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and ":" not in name else host).lower()
