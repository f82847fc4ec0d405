"""Plain values for a worker: what a small configuration with two audiences comes to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.settings.worker_values import (
    CallerValues,
    CredentialValues,
    FacadeValues,
    RequestLogValues,
    RouteValues,
    ServerValues,
    Snapshot,
    UpstreamValues,
)

SERVER = ServerValues(
    hosts=(),
    loopback=True,
    allow_browsers=False,
    trusted_proxies=(),
    certificate_file="",
    key_file="",
    client_ca_file="",
    max_header_bytes=65536,
    max_body_bytes=0,
    body_memory_bytes=134217728,
    max_requests=1024,
    exchange_timeout=60.0,  # longer than any test waits on a busy machine, as those of UPSTREAM are
)
UPSTREAM = UpstreamValues(
    name="bank",
    scheme="http",
    host="127.0.0.1",
    port=0,
    prefix="",
    connect_timeout=20.0,
    response_timeout=30.0,
    idle_timeout=60.0,
    ca_file="",
    client_certificate_file="",
    client_key_file="",
    egress_proxy="",
    max_connections=16,
)
CREDENTIAL = CredentialValues(
    name="login",
    token_url="https://login.example/token",
    client_id="c",
    auth_method="client_secret_basic",
    audience_parameter="audience",
    extra_parameters=(),
)
ROUTE = RouteValues(
    name="open",
    path="/open",
    methods=(),
    callers=(),
    upstream="bank",
    credential="login",
    audience="open",
    scope="",
    strip_prefix="",
    replay_body_bytes=1048576,
    remint_on=(),
)
REQUEST_LOG = RequestLogValues(
    durability="intent",
    intent_methods=("POST", "PUT", "PATCH", "DELETE"),
    index_headers=("Idempotency-Key",),
    spool_bytes=64 * 1024 * 1024,
)
CALLER = CallerValues(
    name="erp", networks=("127.0.0.0/8",), api_key_sha256=(), certificate_subject="", max_requests_per_second=0.0
)


def route(name: str, **changes: Any) -> RouteValues:
    """Return a rule for /*name* whose audience is *name*."""
    return replace(ROUTE, **{"name": name, "path": f"/{name}", "audience": name, **changes})


ROUTES = (
    route("open"),
    route("closed"),
    route("read", methods=("GET", "HEAD")),
    route("small", replay_body_bytes=64),
)


def snapshot(
    directory: Path,
    port: int,
    *,
    routes: tuple[RouteValues, ...] = ROUTES,
    callers: tuple[CallerValues, ...] = (),
    server: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    request_log: dict[str, Any] | None = None,
    facade: FacadeValues | None = None,
) -> Snapshot:
    """Return the values of a configuration whose one upstream listens on *port* of loopback."""
    return Snapshot(
        environment="mock",
        instance="test",
        digest="0123456789abcdef",
        data_directory=str(directory),
        server=replace(SERVER, **(server or {})),
        upstreams=(replace(UPSTREAM, **{"port": port, **(upstream or {})}),),
        credentials=(CREDENTIAL,),
        routes=routes,
        callers=callers,
        request_log=replace(REQUEST_LOG, **(request_log or {})),
        facade=facade,
    )
