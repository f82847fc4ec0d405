"""TLS towards the token endpoint and the egress proxy on the way (bad-inputs 94)."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.credentials.credential import CredentialUnusable
from proxy.errors import TokenUnavailable
from proxy.tokens.endpoint import TokenEndpoint
from tests.support.clock import ManualClock
from tests.tokens.support import (
    Events,
    FixedEntropy,
    Identity,
    credential,
    make_tls,
    token_endpoint,
)
from tests.tokens.support_endpoint import failure, mint


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Identity, Identity]:
    """A private CA, a server's and a client's identity."""
    return make_tls(tmp_path_factory.mktemp("tls"))


def server_context(tls: tuple[Path, Identity, Identity], *, client_certificate: bool = False) -> ssl.SSLContext:
    """Return the endpoint's TLS side."""
    ca, server, _ = tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    return context


async def test_an_unknown_ca_gets_no_request(tls: tuple[Path, Identity, Identity]) -> None:
    """Verification can't be turned off: no byte of the request is sent (bad-inputs 94)."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        error = await failure(credential(bank.url))

    assert bank.asked == []
    assert error.cause.startswith("its certificate is not accepted: ")


async def test_a_private_ca_without_key_identifiers_is_believed(tls: tuple[Path, Identity, Identity]) -> None:
    """ca_file makes the endpoint trusted, on Python 3.13 too, whose default context refuses such a CA."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        assert await mint(credential(bank.url, ca_file=str(tls[0]))) == "abc.DEF-123"


async def test_a_token_endpoints_session_keys_are_not_written_down(
    tls: tuple[Path, Identity, Identity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE in the environment does not let anybody decrypt a recording with a client secret in it."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
        await mint(credential(bank.url, ca_file=str(tls[0])))

    assert not (tmp_path / "keys.log").exists()


async def test_tls_client_auth_shows_its_certificate(tls: tuple[Path, Identity, Identity]) -> None:
    """The endpoint demands a client certificate, gets it, and client_id in the form (RFC 8705 2)."""
    ca, _, identity = tls
    files = {"client_certificate_file": str(identity.certificate), "client_key_file": str(identity.key)}
    async with token_endpoint(tls=server_context(tls, client_certificate=True)) as bank:
        with_certificate = credential(bank.url, ca_file=str(ca), auth_method="tls_client_auth", **files)
        assert await mint(with_certificate) == "abc.DEF-123"
        error = await failure(credential(bank.url, ca_file=str(ca), auth_method="tls_client_auth"))

    assert [asked.form["client_id"] for asked in bank.asked] == ["client"]
    assert isinstance(error, TokenUnavailable)


async def test_unusable_tls_files_are_named(tmp_path: Path) -> None:
    """A wrong CA or client certificate is found when the client is made."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    files = {"client_certificate_file": str(wrong), "client_key_file": str(wrong)}
    for changes in ({"ca_file": str(wrong)}, {"ca_file": str(tmp_path / "none")}, files):
        with pytest.raises(CredentialUnusable, match=str(tmp_path)):
            TokenEndpoint(credential(**changes), clock=ManualClock(), entropy=FixedEntropy(), observe=Events())


@asynccontextmanager
async def egress(*, status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """Give the URL of a CONNECT proxy and what it was asked."""
    asked: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        writer.write(f"HTTP/1.1 {status} Something\r\n\r\n".encode())
        await writer.drain()
        if status == 200:
            host, port = head.split(" ")[1].rsplit(":", 1)
            away_reader, away_writer = await asyncio.open_connection(host, int(port))
            tasks.append(asyncio.create_task(pump(away_reader, writer)))
            tasks.append(asyncio.create_task(pump(reader, away_writer)))
        else:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_egress_proxy_sees_no_secret(tls: tuple[Path, Identity, Identity]) -> None:
    """The proxy gets CONNECT, the endpoint the request, through TLS."""
    async with token_endpoint(tls=server_context(tls)) as bank, egress() as (url, asked):
        assert await mint(credential(bank.url, ca_file=str(tls[0]), egress_proxy=url)) == "abc.DEF-123"

    assert asked[0].startswith("CONNECT 127.0.0.1:")
    assert "authorization" not in asked[0].lower()
    assert len(bank.asked) == 1


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_an_egress_proxy_that_refuses_is_named(tls: tuple[Path, Identity, Identity], status: int) -> None:
    """The operator reads that it was the proxy; the caller that the endpoint can't be reached."""
    async with token_endpoint(tls=server_context(tls)) as bank, egress(status=status) as (url, _):
        error = await failure(credential(bank.url, ca_file=str(tls[0]), egress_proxy=url))

    assert error.cause == f"the egress proxy refused CONNECT: status {status}"
    assert isinstance(error, TokenUnavailable)
    assert bank.connections == 0


async def test_an_egress_proxy_that_is_down_is_named(tls: tuple[Path, Identity, Identity]) -> None:
    """It is the proxy that can't be reached, not the bank."""
    async with token_endpoint(tls=server_context(tls)) as bank:
        async with egress() as (url, _):
            pass
        error = await failure(credential(bank.url, ca_file=str(tls[0]), egress_proxy=url))

    assert error.cause.startswith("the egress proxy can't be reached")
