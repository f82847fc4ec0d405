import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from functools import partial
from pathlib import Path

import pytest

from proxy.keeper import admin_connections
from proxy.keeper.admin_connections import MOST_CONNECTIONS, AdminConnection, Phase
from proxy.keeper.admin_server import AdminServer, server_tls
from proxy.link.counts import Counts, ReplayCount
from tests.console.support import OPERATORS, Stage
from tests.keeper.support import Keeper, connection, get
from tests.keeper.test_admin_server import write_certificate
from tests.upstream.support import eventually

HALF = b"GET /livez HTTP/1.1\r\nHost: local"
WHOLE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_BODY = (
    b"POST /console/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 1000\r\n\r\nname=a"
)
CHUNKED = HALF_BODY[: HALF_BODY.index(b"Content-Length")] + b"Transfer-Encoding: chunked\r\n\r\n"
# Wide enough to pass on a busy machine where nothing is wrong, and not waited for where something is.
LONG = 60.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let heads and answers have a fraction of their time."""
    monkeypatch.setattr(admin_connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(admin_connections, "ANSWER_SECONDS", 0.3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sent", [b"", HALF], ids=["nothing", "half a head"])
async def test_a_head_has_a_deadline(tmp_path: Path, sent: bytes) -> None:
    """Whoever connects and says nothing, or half of it, is cut off; over TCP and on the socket."""
    async with Keeper().server(tmp_path) as server:
        for place in (server.addresses[0], server.socket_path):
            async with connection(place) as (reader, writer):
                writer.write(sent)
                await _cut(reader)


@pytest.mark.usefixtures("short")
async def test_a_byte_now_and_then_wins_no_time(tmp_path: Path) -> None:
    """The clock starts with the connection, or the first byte of the next head, and no later byte sets it back."""
    async with Keeper().server(tmp_path) as server, connection(server.addresses[0]) as (reader, writer):
        writer.write(WHOLE)
        await reader.readuntil(b"ok\n")

        async def trickle() -> None:
            for letter in HALF * 10_000:
                writer.write(bytes([letter]))
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        await _cut(reader)
        trickling.cancel()


@pytest.mark.usefixtures("short")
async def test_half_a_head_behind_a_whole_one_has_its_deadline_too(tmp_path: Path) -> None:
    """What was pipelined is no way around it."""
    async with Keeper().server(tmp_path) as server, connection(server.addresses[0]) as (reader, writer):
        writer.write(WHOLE + HALF)
        await reader.readuntil(b"ok\n")
        await _cut(reader)


async def test_an_idle_connection_has_no_deadline(tmp_path: Path) -> None:
    """A scraper comes back after any deadline of a head, on the same connection."""
    async with Keeper().server(tmp_path) as server, connection(server.addresses[0]) as (reader, writer):
        for _ in range(2):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")
            [one] = server._listeners[-1].connections
            await eventually(lambda one=one: one.phase is Phase.IDLE)  # type: ignore[misc]
            assert one._timer is None


@pytest.mark.usefixtures("short")
async def test_an_answer_that_is_not_taken_is_given_up(tmp_path: Path) -> None:
    """By TCP; a command on the socket may take its time, since it could do anything that we can."""
    keeper = Keeper()
    replays = (ReplayCount(f"{number:0300d}", "succeeded", 1.0) for number in range(9000))
    keeper.metrics.add(Counts(replays=tuple(replays)))
    async with keeper.server(tmp_path) as server:
        with _slow(server.addresses[0]) as stranger, _slow(server.socket_path) as command:
            for one in (stranger, command):
                one.sendall(METRICS)
            by_tcp, local = _connections(server)
            await eventually(lambda: bool(by_tcp) and bool(local))
            await eventually(lambda: not by_tcp)
            assert local


@pytest.mark.parametrize("sent", [b"", HALF, WHOLE], ids=["nothing", "half a head", "a whole one, and idle"])
async def test_whoever_needs_a_place_gets_one(tmp_path: Path, sent: bytes) -> None:
    """Three hundred connections of strangers keep neither a probe nor a command out, and are never more than 64."""
    async with Keeper().server(tmp_path) as server, contextlib.AsyncExitStack() as stack:
        by_tcp, local = _connections(server)
        for number in range(300):
            _reader, writer = await stack.enter_async_context(connection(server.addresses[0]))
            with contextlib.suppress(ConnectionError):
                writer.write(sent)
            assert len(by_tcp) <= MOST_CONNECTIONS
            if number % 50 == 49:
                assert (await get(server.addresses[0], "/livez")).status == 200
        await eventually(lambda: len(by_tcp) >= MOST_CONNECTIONS - 1)
        assert (await get(server.socket_path, "/livez")).status == 200
        assert len(local) <= 1


@pytest.mark.parametrize(
    "sent", [HALF_BODY, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["body", "answer"]
)
async def test_whoever_lets_us_wait_within_a_request_makes_room(
    tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that does not end or an answer that is not read is cut first, and not the probe that has just connected.

    The probe sends its request after others took every place that strangers can take.
    """
    monkeypatch.setattr(admin_connections, "ANSWER_SECONDS", LONG)
    stage = Stage(directory=tmp_path, operators=OPERATORS)
    replays = (ReplayCount(f"{number:0300d}", "succeeded", 1.0) for number in range(9000))
    stage.metrics.add(Counts(replays=tuple(replays)))
    async with stage.server() as server:
        by_tcp, _ = _connections(server)
        with contextlib.ExitStack() as stack:
            for number in range(MOST_CONNECTIONS):
                stack.enter_context(_slow(server.addresses[0])).sendall(sent)
                await eventually(partial(_in_service, by_tcp, number + 1))
            async with connection(server.addresses[0]) as (reader, writer):
                await eventually(partial(_in_service, by_tcp, MOST_CONNECTIONS - 1))
                for _ in range(10):
                    stack.enter_context(_slow(server.addresses[0])).sendall(sent)
                    await eventually(partial(_in_service, by_tcp, MOST_CONNECTIONS - 1))
                writer.write(WHOLE)
                assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("head", "then"),
    [(HALF_BODY, b""), (CHUNKED, b"5\r\nna"), (CHUNKED, b"no length\r\n\r\n")],
    ids=["hung up", "hung up in a chunk", "no chunk"],
)
async def test_half_a_body_leaves_no_line_in_the_log(
    tmp_path: Path, head: bytes, then: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients that hang up, or send no chunks, could fill the disk with tracebacks otherwise."""
    async with Stage(directory=tmp_path, operators=OPERATORS).server() as server:
        by_tcp, _ = _connections(server)
        with _call(server.addresses[0]) as one:
            one.sendall(head)
            await eventually(partial(_in_service, by_tcp, 1))
            one.sendall(then)
        await eventually(lambda: not by_tcp)
        assert (await get(server.addresses[0], "/livez")).status == 200
    assert not [one for one in caplog.records if one.levelno > logging.DEBUG]


async def test_half_a_handshake_is_a_connection_too(tmp_path: Path) -> None:
    """Strangers who begin TLS and do not end it are counted, and make room."""
    certificate, key = write_certificate(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    async with Keeper().server(data, tls=server_tls(certificate, key)) as server:
        with contextlib.ExitStack() as stack:
            for number in range(MOST_CONNECTIONS + 20):
                stack.enter_context(_call(server.addresses[0]))
                await eventually(partial(_said, server, f"{min(number + 1, MOST_CONNECTIONS)} handshakes"))
            assert (await get(server.addresses[0], "/livez", tls=_trusting(certificate))).status == 200


async def test_with_few_descriptors_there_are_fewer_places(tmp_path: Path) -> None:
    """What mints, sinks and workers need is never a stranger's."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (220, before[1]))
    try:
        async with Keeper().server(tmp_path) as server:
            with contextlib.ExitStack() as stack:
                for _ in range(40):
                    stack.enter_context(_call(server.addresses[0]))
                    assert (await get(server.addresses[0], "/livez")).status == 200
            by_tcp, _ = _connections(server)
            assert len(by_tcp) <= 14
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _said(server: AdminServer, words: str) -> bool:
    return words in repr(server._listeners[-1])


async def _cut(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(LONG):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


def _connections(server: AdminServer) -> tuple[set[AdminConnection], set[AdminConnection]]:
    """Return the living connections, by TCP and of the socket."""
    local, by_tcp = server._listeners
    return by_tcp.connections, local.connections


def _in_service(connections: set[AdminConnection], number: int) -> bool:
    return sum(one.phase is Phase.IN_SERVICE for one in connections) == number


def _call(place: tuple[str, int]) -> socket.socket:
    return socket.create_connection(place, timeout=LONG)


def _slow(place: tuple[str, int] | Path) -> socket.socket:
    """Return a connection that reads nothing, and has no room for what comes."""
    one = socket.socket(socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(str(place) if isinstance(place, Path) else place)
    return one


def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
