import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.health import AdminEndpoints, ask, find_endpoints, health
from proxy.cli.instance import PROBE_SECONDS
from proxy.cli.output import Failure
from proxy.keeper.admin_server import server_tls
from proxy.settings.addresses import TcpAddress, UnixAddress
from proxy.settings.load import load
from tests.keeper.support import Keeper
from tests.keeper.test_admin_server import write_certificate
from tests.telemetry.support import status


@contextlib.contextmanager
def hanging(directory: Path, *, room: int = 8) -> Iterator[None]:
    """Listen on admin.sock in *directory* and answer nothing, as a stopped keeper does; *room* is the backlog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(directory / "admin.sock"))
        listener.listen(room)
        yield


@contextlib.contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """Take the permission for the socket *path* from this process; root has to be another user for that."""
    us = os.geteuid()
    path.chmod(0)
    if us == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(us)


def configuration(directory: Path, *lines: str) -> Path:
    """Write a configuration of *lines* and return its path."""
    path = directory / "payproxy.toml"
    path.write_text("\n".join([f'data_directory = "{directory}"', *lines]))
    return path


async def run(path: Path, *arguments: str) -> Result:
    """Run `payproxy health` for the configuration in *path*, without blocking the listener it asks."""
    return await asyncio.to_thread(
        CliRunner().invoke, health, ["--config", str(path), *arguments], standalone_mode=False
    )


async def test_a_living_instance_is_healthy(tmp_path: Path) -> None:
    """Asked over its socket, an instance that answers is healthy, also while it is not ready."""
    async with Keeper(status=status(draining=True)).server(tmp_path, listen=None):
        result = await run(configuration(tmp_path))

    assert (result.return_value, result.stdout) == (0, "keeper ok\n")


async def test_ready_asks_for_readiness(tmp_path: Path) -> None:
    """--ready fails with the reason while the instance is not ready, and passes when it is."""
    keeper = Keeper(status=status(draining=True))
    async with keeper.server(tmp_path, listen=None):
        unready = await run(configuration(tmp_path), "--ready")
        keeper.status = status()
        ready = await run(configuration(tmp_path), "--ready")

    assert unready.return_value == 1
    assert "draining failed: the instance is stopping\n" in unready.stdout
    assert ready.return_value == 0


async def test_json(tmp_path: Path) -> None:
    """--json prints the checks as data."""
    async with Keeper().server(tmp_path, listen=None):
        result = await run(configuration(tmp_path), "--json")

    checks = [{"name": "keeper", "verdict": "ok", "reason": ""}]
    assert json.loads(result.stdout) == {"passed": True, "checks": checks}


async def test_without_the_socket_the_listener_is_asked(tmp_path: Path) -> None:
    """From another container, without the data directory, the TCP listener answers."""
    other = tmp_path / "other"
    other.mkdir()
    async with Keeper().server(other) as server:
        port = server.addresses[0][1]
        result = await run(configuration(tmp_path, "[admin]", f'listen = "127.0.0.1:{port}"'), "--ready")

    assert result.return_value == 0


async def test_a_listener_on_all_addresses_is_asked_over_loopback(tmp_path: Path) -> None:
    """A listener on 0.0.0.0 is reached on 127.0.0.1."""
    other = tmp_path / "other"
    other.mkdir()
    async with Keeper().server(other, listen=TcpAddress(host="0.0.0.0", port=0)) as server:
        port = server.addresses[0][1]
        result = await run(configuration(tmp_path, "[admin]", f'listen = "0.0.0.0:{port}"'))

    assert result.return_value == 0


async def test_a_unix_listener_is_asked(tmp_path: Path) -> None:
    """[admin] listen may be a socket too."""
    other = tmp_path / "other"
    other.mkdir()
    path = tmp_path / "a.sock"
    async with Keeper().server(other, listen=UnixAddress(path=str(path))):
        result = await run(configuration(tmp_path, "[admin]", f'listen = "unix:{path}"'))

    assert result.return_value == 0


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_tls_listener_is_trusted_by_its_own_certificate(tmp_path: Path, *, trusted: bool) -> None:
    """The configured certificate is the one to be shown; another one is not believed."""
    other, elsewhere = tmp_path / "other", tmp_path / "elsewhere"
    other.mkdir()
    elsewhere.mkdir()
    certificate, key = write_certificate(tmp_path)
    wrong, _ = write_certificate(elsewhere)
    async with Keeper().server(other, tls=server_tls(certificate, key)) as server:
        port = server.addresses[0][1]
        lines = ("[admin]", f'listen = "127.0.0.1:{port}"', f'certificate_file = "{certificate if trusted else wrong}"')
        result = await run(configuration(tmp_path, *lines))

    assert (result.return_value == 0) is trusted
    assert trusted or isinstance(result.exception, Failure)


async def test_nobody_there(tmp_path: Path) -> None:
    """Without an instance it fails with exit code 1 and says where it asked."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = await run(configuration(tmp_path, "[admin]", f'listen = "127.0.0.1:{port}"'))

    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == 1
    assert str(result.exception) == f"no instance answers on {tmp_path}/admin.sock or 127.0.0.1:{port}"


async def test_something_else_there(tmp_path: Path) -> None:
    """A foreign server's answer is no health, and is not repeated."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"canary":true}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "admin.sock")
    async with server:
        result = await run(configuration(tmp_path))

    assert isinstance(result.exception, Failure)
    assert str(result.exception) == "what answers there is not payproxy"


async def test_a_faulty_configuration_does_not_hide_a_healthy_instance(tmp_path: Path) -> None:
    """A file that is being edited and has faults is not the instance's fault."""
    path = configuration(tmp_path, 'environment = "nowhere"', "[server]", "lisen = 1")
    assert load(path, environ={}, cwd=tmp_path).settings is None
    async with Keeper().server(tmp_path, listen=None):
        result = await run(path)

    assert result.return_value == 0


@pytest.mark.parametrize("given", [True, False])
async def test_what_is_no_toml_hides_no_instance(tmp_path: Path, *, given: bool) -> None:
    """Its directory is read all the same, or named by its socket; stderr says so without quoting the file."""
    directory = tmp_path / "data"
    directory.mkdir()
    path = tmp_path / "payproxy.toml"
    path.write_text('client_secret = "canary\n' + ("" if given else f"data_directory = {directory}\n"))
    async with Keeper().server(directory, listen=None) as server:
        result = await run(path, *(["--socket", str(server.socket_path)] if given else []))

    assert (result.return_value, result.stdout) == (0, "keeper ok\n")
    assert (f"{path} can't be read as TOML" in result.stderr) is not given
    assert "canary" not in result.output


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("", {}),
        ('data_directory = "data"', {}),
        ('data_directory = "/var/lib/payproxy"', {"STATE_DIRECTORY": "/state"}),
        ("", {"STATE_DIRECTORY": "/state:/other"}),
        ('[admin]\nlisten = "127.0.0.1:1"\ncertificate_file = "a.crt"', {}),
        ('[admin]\nlisten = "127.0.0.1:1"', {"PAYPROXY_ADMIN__LISTEN": "127.0.0.1:2"}),
        ('[admin]\nlisten = ""', {"PAYPROXY_ADMIN__CERTIFICATE_FILE": "b.crt"}),
    ],
)
def test_it_looks_where_serve_listens(tmp_path: Path, text: str, environ: Mapping[str, str]) -> None:
    """The few keys that are read here are read as the whole configuration reads them."""
    directory = tmp_path / "etc"
    directory.mkdir()
    path = directory / "payproxy.toml"
    path.write_text(text)

    readable = load(path, environ=environ, cwd=tmp_path, secrets_directory=tmp_path).readable

    assert readable is not None
    assert find_endpoints(path, environ=environ, cwd=tmp_path) == AdminEndpoints(
        socket=Path(readable.data_directory) / "admin.sock",
        listen=readable.admin.listen,
        certificate_file=readable.admin.certificate_file,
    )


def test_the_configuration_is_found_like_everywhere(tmp_path: Path) -> None:
    """$PAYPROXY_CONFIG comes before ./payproxy.toml; without any the defaults hold."""
    (tmp_path / "payproxy.toml").write_text('data_directory = "here"')
    (tmp_path / "other.toml").write_text('data_directory = "there"')

    assert find_endpoints(None, environ={}, cwd=tmp_path).socket == tmp_path / "here/admin.sock"
    named = find_endpoints(None, environ={"PAYPROXY_CONFIG": "other.toml"}, cwd=tmp_path)
    assert named.socket == tmp_path / "there/admin.sock"


def test_it_starts_fast() -> None:
    """Every few seconds, for years: the command imports neither pydantic nor aiohttp nor cryptography."""
    code = "import sys, proxy.cli.main, proxy.cli.health; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {"pydantic", "aiohttp", "cryptography", "prometheus_client", "asyncio"}.isdisjoint(loaded)


@pytest.mark.parametrize("options", [[], ["--json"]])
async def test_an_instance_that_hangs_is_asked_once(tmp_path: Path, options: list[str]) -> None:
    """Its listener is in the same process; a probe has no time for both."""
    with hanging(tmp_path), socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        port = listener.getsockname()[1]
        result = await run(configuration(tmp_path, "[admin]", f'listen = "127.0.0.1:{port}"'), *options)
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == 1
    assert str(result.exception) == (
        f"the instance on {tmp_path}/admin.sock does not answer within 2 s: it hangs; "
        "see PayproxyDown in docs/operations.md"
    )


def test_a_probe_says_why_before_it_is_ended() -> None:
    """Docker ends it after 3 s; half a second is for the start of Python."""
    image = (Path(__file__).parents[2] / "Dockerfile").read_text()

    assert "HEALTHCHECK --interval=10s --timeout=3s" in image
    assert PROBE_SECONDS <= 2.5 - 0.5


def test_another_user_is_told_who_may_ask(tmp_path: Path) -> None:
    """The socket is there and an instance may run well: nothing says that it does not."""
    endpoints = AdminEndpoints(socket=tmp_path / "admin.sock", listen="", certificate_file="")
    with hanging(tmp_path), forbidden(tmp_path / "admin.sock"), pytest.raises(Failure) as refused:
        ask(endpoints, "/livez")

    assert str(refused.value).startswith(f"{tmp_path}/admin.sock is only for the user who runs the instance")
