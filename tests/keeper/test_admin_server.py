import asyncio
import os
import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.keeper.admin_server import ListenFailed, server_tls
from proxy.keeper.data_directory_lock import DataDirectoryInUse
from proxy.settings.addresses import TcpAddress, UnixAddress
from tests.keeper.support import Keeper, connection, get, names


async def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    """admin.sock has mode 0600 whatever the umask, and is gone after closing."""
    before = os.umask(0)
    try:
        async with Keeper().server(tmp_path) as server:
            mode = server.socket_path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
    finally:
        os.umask(before)

    assert names(tmp_path) == []


async def test_without_a_listener_there_is_still_the_socket(tmp_path: Path) -> None:
    """[admin] listen = "" turns TCP off; the commands go on talking over the socket."""
    async with Keeper().server(tmp_path, listen=None) as server:
        assert server.addresses == ()
        assert (await get(server.socket_path, "/livez")).status == 200


async def test_a_unix_listener_beside_the_socket(tmp_path: Path) -> None:
    """[admin] listen = "unix:/path" is served too, and removed at the end."""
    path = tmp_path / "other.sock"
    async with Keeper().server(tmp_path, listen=UnixAddress(path=str(path))):
        assert (await get(path, "/livez")).status == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    assert not path.exists()


async def test_a_killed_instance_leaves_no_obstacle(tmp_path: Path) -> None:
    """The socket that kill -9 leaves behind is replaced."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    assert path.exists()

    async with Keeper().server(tmp_path) as server:
        assert (await get(server.socket_path, "/livez")).status == 200


async def test_a_second_instance_is_refused(tmp_path: Path) -> None:
    """Who finds an answering socket stops, says so, and leaves the first one in peace."""
    async with Keeper().server(tmp_path) as first:
        with pytest.raises(DataDirectoryInUse, match=r"another payproxy uses .*data_directory of its own"):
            async with Keeper().server(tmp_path):
                pass

        assert (await get(first.socket_path, "/livez")).status == 200


async def test_a_busy_instance_is_an_instance(tmp_path: Path) -> None:
    """A socket whose queue is full is not taken for a stale one."""
    path = tmp_path / "admin.sock"
    with (
        socket.socket(socket.AF_UNIX) as busy,
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as two,
    ):
        busy.bind(str(path))
        busy.listen(0)
        one.connect(str(path))
        two.settimeout(0)
        with pytest.raises(BlockingIOError):
            two.connect(str(path))

        with pytest.raises(DataDirectoryInUse):
            async with Keeper().server(tmp_path):
                pass


async def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    """A file of that name is somebody's; it is named and left alone."""
    path = tmp_path / "admin.sock"
    path.write_text("precious")

    with pytest.raises(ListenFailed, match="not a socket"):
        async with Keeper().server(tmp_path):
            pass

    assert path.read_text() == "precious"


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link in the socket's place is not removed and leads nowhere."""
    (tmp_path / "admin.sock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ListenFailed, match="not a socket"):
        async with Keeper().server(tmp_path):
            pass


async def test_an_address_in_use_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    """If TCP can't be had the message says which address, and the socket is closed and removed again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenFailed, match=rf"127\.0\.0\.1:{port} \(\[admin\] listen\)"):
            async with Keeper().server(tmp_path, listen=TcpAddress(host="127.0.0.1", port=port)):
                pass

    assert names(tmp_path) == []


async def test_a_path_too_long_is_said(tmp_path: Path) -> None:
    """The kernel's bound for socket paths becomes advice."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()

    with pytest.raises(ListenFailed, match="choose a shorter path"):
        async with Keeper().server(deep):
            pass


async def test_closing_does_not_remove_a_successors_socket(tmp_path: Path) -> None:
    """Only the very socket that was opened is removed."""
    server = Keeper().server(tmp_path, listen=None)
    with socket.socket(socket.AF_UNIX) as successor:
        async with server:
            server.socket_path.unlink()
            successor.bind(str(server.socket_path))

        assert server.socket_path.exists()


async def test_closing_ends_idle_connections(tmp_path: Path) -> None:
    """A client that keeps its connection does not keep the keeper from stopping."""
    server = Keeper().server(tmp_path, listen=None)
    await server.__aenter__()
    async with connection(server.socket_path) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"ok\n")

        async with asyncio.timeout(60):
            await server.__aexit__(None, None, None)
            assert await reader.read() == b""


async def test_connections_are_reused(tmp_path: Path) -> None:
    """A scraper's second request comes over the same connection."""
    async with Keeper().server(tmp_path) as server, connection(server.addresses[0]) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")


async def test_tls(tmp_path: Path) -> None:
    """With a certificate the TCP listener speaks TLS 1.2 or newer only; the socket stays plain."""
    certificate, key = write_certificate(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    client = ssl.create_default_context(cafile=str(certificate))
    async with Keeper().server(data, tls=server_tls(certificate, key)) as server:
        assert (await get(server.addresses[0], "/livez", tls=client)).status == 200
        own = await get(server.addresses[0], "/livez", "Origin: https://localhost", tls=client)
        assert own.status == 200
        assert (await get(server.socket_path, "/livez")).status == 200
        with pytest.raises(asyncio.IncompleteReadError):
            await get(server.addresses[0], "/livez")


def test_an_unusable_certificate_is_named(tmp_path: Path) -> None:
    """The message names both files."""
    with pytest.raises(ListenFailed, match=r"server\.crt with .*server\.key"):
        server_tls(tmp_path / "server.crt", tmp_path / "server.key")


async def test_repr(tmp_path: Path) -> None:
    """A repr says where it listens."""
    server = Keeper().server(tmp_path)
    assert repr(server) == "<AdminServer closed>"
    async with server:
        port = server.addresses[0][1]
        assert repr(server) == f"<AdminServer 127.0.0.1:{port}, unix:{tmp_path}/admin.sock>"


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "server.crt", directory / "server.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
