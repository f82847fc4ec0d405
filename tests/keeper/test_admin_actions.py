from pathlib import Path

import pytest

from proxy.errors import LogUnavailable
from proxy.keeper.admin import Action, ActionRefused, AdminApp
from proxy.keeper.admin_server import AdminServer
from proxy.records.audit_records import Operation
from tests.keeper.support import LOOPBACK, Keeper, get, send
from tests.keeper.test_admin import is_problem


@pytest.fixture(name="keeper")
def fixture_keeper() -> Keeper:
    """Return a keeper that is ready."""
    return Keeper()


def acting(keeper: Keeper, directory: Path) -> AdminServer:
    """Return a server with one action, which repeats what it is given or refuses."""

    def act(values: dict[str, object]) -> dict[str, object]:
        if "bad" in values:
            raise ActionRefused(400, "bad_request", "This is bad.")
        return {"done": values}

    app = AdminApp(status=lambda: keeper.status, metrics=keeper.metrics, actions={"/api/do": Action(what="x", act=act)})
    return AdminServer(app.application(), directory=directory, listen=LOOPBACK)


def post(body: bytes, path: str = "/api/do") -> bytes:
    """Return a POST of *body*."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def test_an_action_is_for_the_unix_socket(keeper: Keeper, tmp_path: Path) -> None:
    """POST does it over the socket, which lists it; over TCP it does not exist, nor does GET do anything."""
    async with acting(keeper, tmp_path) as server:
        done = await send(server.socket_path, post(b'{"a": 1}'))
        over_tcp = await send(server.addresses[0], post(b'{"a": 1}'))
        got = await get(server.socket_path, "/api/do")
        listed = [
            b"POST /api/do" in (await get(place, "/")).body for place in (server.socket_path, server.addresses[0])
        ]

    assert (done.status, done.json) == (200, {"done": {"a": 1}})
    assert is_problem(over_tcp, status=404, code="no_route")
    assert is_problem(got, status=405, code="method_not_allowed")
    assert listed == [True, False]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"bad": 1}', b"[" * 9000, b'"\xff"'])
async def test_what_no_action_can_take_is_refused(keeper: Keeper, tmp_path: Path, body: bytes) -> None:
    """Anything but a JSON object that the action understands is a problem document, and nothing is done."""
    async with acting(keeper, tmp_path) as server:
        assert is_problem(await send(server.socket_path, post(body)), status=400, code="bad_request")
        large = await send(server.socket_path, post(b'{"a": "' + b"x" * 20_000 + b'"}'))
        assert is_problem(large, status=413, code="bad_request")


async def test_an_action_that_puts_itself_on_record(keeper: Keeper, tmp_path: Path) -> None:
    """It hears who asks and why, and may refuse; a log that can't be written is said as for any other."""
    received: list[Operation] = []

    async def perform(values: dict[str, object], by: Operation) -> dict[str, object]:
        if "unwritten" in values:
            raise LogUnavailable("The request log can't be written.")
        if "bad" in values:
            raise ActionRefused(409, "bad_request", "This is bad.")
        received.append(by)
        return {"done": values}

    app = AdminApp(
        status=lambda: keeper.status, metrics=keeper.metrics, actions={"/api/do": Action(what="x", perform=perform)}
    )
    async with AdminServer(app.application(), directory=tmp_path, listen=LOOPBACK) as server:
        done = await send(server.socket_path, post(b'{"a": 1, "reason": "why"}'))
        assert done.status == 200
        assert is_problem(await send(server.socket_path, post(b'{"bad": 1}')), status=409, code="bad_request")
        unwritten = await send(server.socket_path, post(b'{"unwritten": 1}'))
        assert is_problem(unwritten, status=503, code="log_unavailable")
        assert is_problem(await send(server.addresses[0], post(b"{}")), status=404, code="no_route")

    assert [(one.reason, one.proof, bool(one.who)) for one in received] == [("why", "unix socket", True)]


async def test_the_configuration_is_for_the_unix_socket(keeper: Keeper, tmp_path: Path) -> None:
    """Commands that find a broken file ask for it; over TCP it does not exist."""
    app = AdminApp(status=lambda: keeper.status, metrics=keeper.metrics, configuration=lambda: {"environment": "mock"})
    async with AdminServer(app.application(), directory=tmp_path, listen=LOOPBACK) as server:
        told = await get(server.socket_path, "/api/configuration")
        over_tcp = await get(server.addresses[0], "/api/configuration")
        listed = [b"configuration" in (await get(at, "/")).body for at in (server.socket_path, server.addresses[0])]

    assert (told.status, told.json) == (200, {"settings": {"environment": "mock"}})
    assert is_problem(over_tcp, status=404, code="no_route")
    assert listed == [True, False]


@pytest.mark.parametrize("console", [True, False])
async def test_without_console_the_status_is_for_the_unix_socket(
    keeper: Keeper, tmp_path: Path, *, console: bool
) -> None:
    """It names callers and requests; an admin listener on the network has health and metrics only."""
    app = AdminApp(status=lambda: keeper.status, metrics=keeper.metrics, open_status=lambda: console)
    async with AdminServer(app.application(), directory=tmp_path, listen=LOOPBACK) as server:
        places = (server.socket_path, server.addresses[0])
        told = [(await get(at, "/api/status")).status for at in places]
        listed = [b"/api/status" in (await get(at, "/")).body for at in places]
        metrics = (await get(places[1], "/metrics")).status

    assert told == [200, 200 if console else 404]
    assert listed == [True, console]
    assert metrics == 200
