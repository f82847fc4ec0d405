import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import Sent
from proxy.keeper.admin import AdminApp
from proxy.keeper.admin_server import AdminServer
from proxy.telemetry.counters import Counters
from proxy.telemetry.status import CertificateStatus, SinkStatus, Status, TokenState
from tests.keeper.support import LOOPBACK, Answer, Keeper, get, send
from tests.telemetry.support import an_exchange, error_status, no_token, status, token

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


@pytest.fixture(name="keeper")
def fixture_keeper() -> Keeper:
    """Return a keeper that is ready."""
    return Keeper()


@pytest.fixture(name="server")
async def fixture_server(keeper: Keeper, tmp_path: Path) -> AsyncIterator[AdminServer]:
    """Open the keeper's admin listener on loopback and on its socket."""
    async with keeper.server(tmp_path, hosts=["admin.example"]) as server:
        yield server


@pytest.fixture(name="place", params=["tcp", "unix"])
def fixture_place(request: pytest.FixtureRequest, server: AdminServer) -> tuple[str, int] | Path:
    """Return where the listener listens: once its TCP address, once its socket."""
    return server.addresses[0] if request.param == "tcp" else server.socket_path


def is_problem(answer: Answer, *, status: int, code: str) -> bool:
    """Return whether *answer* is this problem document and does not name what it is built of."""
    server = answer.headers.get("server", "payproxy")
    return (
        answer.status == answer.json["status"] == status
        and answer.json["code"] == code
        and answer.headers["content-type"].startswith("application/problem+json")
        and server == "payproxy"
    )


async def test_the_index_lists_everything_that_exists(place: tuple[str, int] | Path) -> None:
    """Each path of the first page answers with 200, and no path is missing."""
    index = await get(place, "/")

    paths = [line.split()[0] for line in index.body.decode().splitlines()]
    assert paths == ["/", "/livez", "/readyz", "/startupz", "/metrics", "/api/status"]
    assert [(await get(place, path)).status for path in paths] == [200] * len(paths)


async def test_a_ready_instance_says_ok(place: tuple[str, int] | Path) -> None:
    """Without ?verbose the answer is one word."""
    answer = await get(place, "/readyz")

    assert (answer.status, answer.body) == (200, b"ok\n")


async def test_verbose_shows_each_check(place: tuple[str, int] | Path) -> None:
    """?verbose has a line a check and the outcome."""
    answer = await get(place, "/readyz?verbose")

    lines = answer.body.decode().splitlines()
    assert "[+]configuration ok" in lines
    assert "[+]credential/login ok" in lines
    assert lines[-1] == "readyz check passed"


async def test_an_unready_instance_says_why_without_being_asked(place: tuple[str, int] | Path, keeper: Keeper) -> None:
    """A probe's log holds the reason although the probe does not ask; liveness and startup are another matter."""
    keeper.status = status(draining=True)

    answer = await get(place, "/readyz")

    assert answer.status == 503
    assert b"[-]draining failed: the instance is stopping\n" in answer.body
    assert (await get(place, "/livez")).status == 200
    assert (await get(place, "/startupz")).status == 200


async def test_a_degraded_instance_stays_ready(place: tuple[str, int] | Path, keeper: Keeper) -> None:
    """A failing token endpoint is shown and takes no replica away."""
    keeper.status = status(tokens=(no_token(error_code="token_unavailable"),))

    answer = await get(place, "/readyz?verbose")

    assert answer.status == 200
    assert b"[!]credential/login degraded: " in answer.body


async def test_health_as_json(place: tuple[str, int] | Path, keeper: Keeper) -> None:
    """With Accept: application/json the checks are data."""
    keeper.status = status(draining=True)

    answer = await get(place, "/readyz", "Accept: application/json")

    assert answer.status == 503
    assert answer.json["passed"] is False
    assert {"name": "draining", "verdict": "failed", "reason": "the instance is stopping"} in answer.json["checks"]


async def test_metrics_in_the_text_format(place: tuple[str, int] | Path, keeper: Keeper) -> None:
    """A scrape through the socket parses back to what a worker counted, and is true again at the next scrape."""
    counters = Counters(server_addresses={})
    for expected in (1, 2):
        counters.finished(an_exchange(sent=Sent.YES))
        keeper.metrics.add(counters.delta())

        answer = await get(place, "/metrics")

        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert sum(sample.value for sample in families["payproxy_exchanges"].samples) == expected


async def test_metrics_as_openmetrics(place: tuple[str, int] | Path) -> None:
    """Prometheus' own Accept header gets OpenMetrics, which parses strictly."""
    accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"

    answer = await get(place, "/metrics", accept)

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    parsed = openmetrics.text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call] # none
    assert "payproxy_build" in {family.name for family in parsed}


async def test_the_status_page_shows_the_whole_instance(place: tuple[str, int] | Path, keeper: Keeper) -> None:
    """Who it is, its configuration, workers, tokens with what the last error means, certificates, and readiness."""
    keeper.status = status(
        tokens=(token(state=TokenState.STALE, error_code="token_refused", error="invalid_client"),),
        certificates=(CertificateStatus(name="login", use="credential", subject="CN=x", expires=5.0),),
        time=2.0,
        draining=True,
        errors=(error_status(),),
        sinks=(SinkStatus(name="file", backlog=3, dropped=0, failing="No space left on device"),),
    )

    found = (await get(place, "/api/status")).json

    assert (found["environment"], found["instance"], found["version"]) == ("production", "host-1", "1.2.3")
    assert found["config_digest"] == "00112233445566aa"
    assert found["workers"][0]["pid"] == 1
    assert found["ready"] is False
    assert {"name": "draining", "verdict": "failed", "reason": "the instance is stopping"} in found["checks"]
    (shown,) = found["tokens"]
    assert (shown["state"], shown["fingerprint"], shown["seconds_left"]) == ("stale", "0123456789abcdef", 250.0)
    assert (shown["error_code"], shown["error"]) == ("token_refused", "invalid_client")
    assert "registered at the bank's portal" in shown["meaning"]
    named = {"name": "login", "use": "credential", "subject": "CN=x"}
    assert found["certificates"] == [named | {"expires": 5.0, "seconds_left": 3.0, "warning": ""}]
    assert found["sinks"] == [{"name": "file", "backlog": 3, "dropped": 0, "failing": "No space left on device"}]
    (error,) = found["errors"]
    assert (error["code"], error["count"]) == ("upstream_timeout", 3)
    assert error["next_step"].startswith("Ask the bank")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/status"])
async def test_only_get_is_allowed(server: AdminServer, method: str, path: str) -> None:
    """Nothing here changes anything yet: other methods get 405 with Allow."""
    answer = await get(server.socket_path, path, "Content-Length: 0", method=method)

    assert answer.status == 405
    assert answer.headers["allow"] == "GET"
    assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9901",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.1.2.3",
        "[::1]:9901",
        "admin.example:1",
        "Admin.Example",
    ],
)
async def test_loopback_and_configured_hosts_are_accepted(server: AdminServer, host: str) -> None:
    """Names of loopback and [admin] hosts are ours, whatever the case and the port."""
    assert (await get(server.addresses[0], "/livez", f"Host: {host}")).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:localhost",
        "admin.example.evil.example",
        "10.0.0.1",
        "[::2]",
        "[localhost",
        "",
    ],
)
async def test_other_hosts_are_refused(server: AdminServer, host: str) -> None:
    """A name rebound to loopback gets nothing, and its name is not repeated (DNS rebinding)."""
    answer = await get(server.addresses[0], "/api/status", f"Host: {host}")

    assert is_problem(answer, status=421, code="bad_request")
    assert b"evil" not in answer.body


async def test_the_address_of_the_connection_is_accepted(keeper: Keeper, tmp_path: Path) -> None:
    """A probe that names the very address it connected to, as Kubernetes does, needs no entry in hosts."""
    own = _own_address()
    listen = type(LOOPBACK)(host=own, port=0)
    async with keeper.server(tmp_path, listen=listen) as server:
        assert (await get(server.addresses[0], "/livez", f"Host: {own}:9901")).status == 200
        assert (await get(server.addresses[0], "/livez", "Host: 192.0.2.1")).status == 421


async def test_the_socket_has_no_host_rule(server: AdminServer) -> None:
    """Who can open the socket may name it as he likes."""
    assert (await get(server.socket_path, "/livez", "Host: payproxy")).status == 200


async def test_http_1_0_without_a_host_is_served(server: AdminServer) -> None:
    """Old load balancers' probes have no Host; no browser lacks it."""
    answer = await send(server.addresses[0], b"GET /livez HTTP/1.0\r\n\r\n")

    assert answer.status == 200


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
async def test_http_1_1_needs_exactly_one_host(server: AdminServer, hosts: bytes) -> None:
    """No Host or two are refused (RFC 9112 3.2)."""
    answer = await send(server.addresses[0], b"GET /livez HTTP/1.1\r\n" + hosts + b"\r\n")

    assert is_problem(answer, status=400, code="bad_request")


async def test_an_absolute_target_is_refused(place: tuple[str, int] | Path) -> None:
    """A target with an authority of its own can't get past the Host rule."""
    assert is_problem(await get(place, "http://evil.example/livez"), status=400, code="bad_request")


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:1", "https://localhost", "http://localhost.evil.example"],
)
async def test_pages_of_other_sites_are_refused(place: tuple[str, int] | Path, origin: str) -> None:
    """An Origin that is not the listener's own gets nothing."""
    answer = await get(place, "/api/status", f"Origin: {origin}")

    assert is_problem(answer, status=403, code="browser_refused")
    assert b"evil" not in answer.body


async def test_its_own_pages_are_served(server: AdminServer) -> None:
    """The console's own requests name the origin they came from."""
    answer = await get(server.addresses[0], "/livez", "Host: localhost:9901", "Origin: http://localhost:9901")

    assert answer.status == 200


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/api/status"])
async def test_answers_do_not_say_what_they_are_built_of(place: tuple[str, int] | Path, path: str) -> None:
    """There is no Server header, and other sites can't embed, sniff or keep an answer."""
    answer = await get(place, path)

    assert "server" not in answer.headers
    assert SECURITY_HEADERS.items() <= answer.headers.items()


async def test_an_unknown_path_is_not_repeated(place: tuple[str, int] | Path) -> None:
    """404 is a problem document without the input."""
    answer = await get(place, "/<script>alert(1)</script>?a=canary", "Accept: text/html")

    assert is_problem(answer, status=404, code="no_route")
    assert b"script" not in answer.body
    assert b"canary" not in answer.body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"canary<script>\r\n\r\n",
        b"GET /canary HTTP/9.canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\ncanary\x00: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: canary\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"canary" * 20000 + b"\r\n\r\n",
    ],
)
async def test_what_can_not_be_parsed_is_not_repeated(place: tuple[str, int] | Path, request_bytes: bytes) -> None:
    """The library's own error pages quote the input and name its version; ours don't."""
    answer = await send(place, request_bytes)

    assert is_problem(answer, status=400, code="bad_request")
    assert b"canary" not in answer.body
    assert b"aiohttp" not in answer.body


async def test_a_request_line_that_is_too_long_is_not_repeated(place: tuple[str, int] | Path) -> None:
    """It is said how long one may be."""
    answer = await send(place, b"GET /" + b"canary" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert is_problem(answer, status=414, code="target_too_long")
    assert b"canary" not in answer.body


@pytest.mark.parametrize("path", ["/livez", "/nowhere"])
async def test_an_unknown_expectation_is_not_repeated(place: tuple[str, int] | Path, path: str) -> None:
    """417 is a problem document too."""
    answer = await get(place, path, "Expect: canary")

    assert is_problem(answer, status=417, code="bad_request")
    assert b"canary" not in answer.body


async def test_a_defect_tells_nothing(keeper: Keeper, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An exception becomes a problem document without its text; the log has it."""

    def broken() -> Status:
        raise RuntimeError("canary")

    application = AdminApp(status=broken, metrics=keeper.metrics).application()
    async with AdminServer(application, directory=tmp_path, listen=None) as server:
        answer = await get(server.socket_path, "/api/status")

    assert is_problem(answer, status=500, code="internal_error")
    assert b"canary" not in answer.body
    assert "canary" in caplog.text


async def test_routes_added_later_are_guarded(keeper: Keeper, tmp_path: Path) -> None:
    """What another issue adds to the application stands behind the same Host rule."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = AdminApp(status=lambda: keeper.status, metrics=keeper.metrics).application()
    application.router.add_get("/console/", page)
    async with AdminServer(application, directory=tmp_path, listen=LOOPBACK) as server:
        assert (await get(server.addresses[0], "/console/")).body == b"hello"
        assert (await get(server.addresses[0], "/console/", "Host: evil.example")).status == 421


async def test_no_page_can_show_a_token(place: tuple[str, int] | Path) -> None:
    """The status a page is made of has fields for fingerprint and times, and none for the token."""
    shown = (await get(place, "/api/status")).json["tokens"][0]

    assert "value" not in json.dumps(shown)
    assert set(shown) == {
        "credential",
        "audience",
        "scope",
        "state",
        "tried",
        "fingerprint",
        "minter",
        "seconds_left",
        "refused",
        "minted",
        "expires",
        "error_code",
        "error",
        "retry_in",
        "meaning",
    }


def _own_address() -> str:
    """Return an address of this machine that is not loopback; the test is skipped on a machine without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


async def test_probes_and_metrics_cost_no_recent_requests(keeper: Keeper, tmp_path: Path) -> None:
    """Callers and errors are looked up where they are shown only: a probe comes each second."""
    looked: list[int] = []

    def shown(status: Status) -> Status:
        looked.append(1)
        return status

    application = AdminApp(status=lambda: keeper.status, metrics=keeper.metrics, with_recent=shown).application()
    async with AdminServer(application, directory=tmp_path, listen=LOOPBACK) as server:
        for path in ("/livez", "/readyz?verbose", "/startupz", "/metrics"):
            assert (await get(server.addresses[0], path)).status == 200
        assert looked == []
        assert (await get(server.addresses[0], "/api/status")).status == 200

    assert looked == [1]
