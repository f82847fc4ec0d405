import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.checks.connect_error import Probed, connect_error, connected_line
from proxy.checks.probe import Destination, ProbeResult, ProbeStep, probe
from proxy.clock import SystemClock
from proxy.settings.findings import Complaint
from proxy.upstream.tls import TlsUnusable
from tests.support.ports import lasting_port
from tests.tokens.support import Identity, make_tls

PROBED = Probed(table=("credentials", "login"), url_key="token_url")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Identity, Identity]:
    """A CA's file, and a server's and a client's identity."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def server(identity: Identity | None = None, *, says: bytes | None = None) -> AsyncIterator[int]:
    """Give the port of a server, with TLS if it has an identity; *says* is sent to whoever has sent a head."""
    context = None
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if says is not None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(says)
                await writer.drain()
            else:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def https(port: int, **changes: Any) -> Destination:
    """Return a TLS destination on loopback."""
    return replace(Destination(scheme="https", host="127.0.0.1", port=port), **changes)


async def walked(destination: Destination, seconds: float = 5) -> ProbeResult:
    """Return what came of a probe."""
    return await probe(destination, clock=SystemClock(), seconds=seconds)


def complained(result: ProbeResult, probed: Probed = PROBED) -> Complaint:
    """Return the complaint about a failed probe."""
    complaint = connect_error(result, probed)
    assert complaint is not None
    return complaint


async def test_a_trusted_server(tls: tuple[Path, Identity, Identity]) -> None:
    """The connection is made; TLS version and issuer are reported."""
    async with server(tls[1]) as port:
        result = await walked(https(port, ca_file=str(tls[0])))

    assert result.step is ProbeStep.ARRIVED
    assert connect_error(result, PROBED) is None
    assert "TLSv1.3, certificate issued by CN=a private CA, ends 20" in connected_line(result)


async def test_an_issuer_that_is_not_trusted(tls: tuple[Path, Identity, Identity]) -> None:
    """The complaint names who issued the certificate, which shows a proxy that inspects TLS."""
    async with server(tls[1]) as port:
        result = await walked(https(port))

    complaint = complained(result)
    assert result.step is ProbeStep.CERTIFICATE
    assert complaint.key == ("credentials", "login", "ca_file")
    assert "issued by CN=a private CA, is not accepted" in complaint.what
    bank = replace(result, destination=replace(result.destination, host="login.jpmorgan.com"))
    assert "a proxy that inspects TLS most likely answered" in complained(bank).what
    pinned = replace(result, destination=replace(result.destination, ca_file="/ca.crt"))
    assert "replaces the system's authorities" in complained(pinned).fix


async def test_a_certificate_for_another_name(tls: tuple[Path, Identity, Identity]) -> None:
    """The names that it is for are shown."""
    async with server(tls[1]) as port:
        result = await walked(https(port, ca_file=str(tls[0]), host="localhost"))

    complaint = complained(result)
    assert complaint.key == ("credentials", "login", "token_url")
    assert "it is for 127.0.0.1" in complaint.fix


async def test_an_expired_certificate(tls: tuple[Path, Identity, Identity]) -> None:
    """This machine's clock is looked at first."""
    async with server(tls[1]) as port:
        result = await walked(https(port))
    assert "clock first" in complained(replace(result, verify_code=10)).fix


async def test_no_tls_at_the_other_end() -> None:
    """A server that answers TLS with nonsense is told apart from one that is away."""
    async with server(says=b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        result = await walked(https(port), seconds=2)
    assert result.step is ProbeStep.HANDSHAKE
    assert "no TLS connection" in complained(result).what


async def test_a_server_that_says_nothing() -> None:
    """The probe ends in its time and says so."""
    async with server() as port:
        result = await walked(https(port), seconds=0.2)
    assert (result.step, result.reason) == (ProbeStep.HANDSHAKE, "no answer within 0.2 s")


async def test_nobody_listens() -> None:
    """A refused connection is one; with HTTPS_PROXY set, the missing egress_proxy is the first suspect."""
    result = await walked(https(lasting_port()))
    assert (result.step, result.reason) == (ProbeStep.CONNECTION, "connection refused")
    assert complained(result).key == ("credentials", "login", "token_url")
    proxied = complained(result, replace(PROBED, proxy_variable="HTTPS_PROXY"))
    assert proxied.key == ("credentials", "login", "egress_proxy")
    assert "HTTPS_PROXY is set here" in proxied.what


@pytest.mark.parametrize("through_proxy", [False, True])
async def test_a_name_that_does_not_exist(*, through_proxy: bool) -> None:
    """RFC 6761 6.4: invalid never resolves; with an egress proxy it is the proxy's name that counts."""
    destination = https(443, egress_proxy="http://nothing.invalid:3128") if through_proxy else https(
        443, host="nothing.invalid"
    )  # fmt: skip
    result = await walked(destination, seconds=20)
    assert result.step is ProbeStep.NAME
    assert complained(result).key[2] == ("egress_proxy" if through_proxy else "token_url")


@pytest.mark.parametrize(("status", "word"), [(407, "without a password"), (403, "have it allow CONNECT")])
async def test_an_egress_proxy_that_refuses(status: int, word: str) -> None:
    """Its status is shown; a proxy that wants a password gets none."""
    async with server(says=f"HTTP/1.1 {status} No\r\n\r\n".encode()) as port:
        result = await walked(https(443, host="login.jpmorgan.com", egress_proxy=f"http://127.0.0.1:{port}"))
    complaint = complained(result)
    assert result.step is ProbeStep.TUNNEL
    assert str(status) in complaint.what
    assert word in complaint.fix


async def test_an_egress_proxy_that_is_away() -> None:
    """It is named with its address."""
    result = await walked(https(443, host="login.jpmorgan.com", egress_proxy=f"http://127.0.0.1:{lasting_port()}"))
    complaint = complained(result)
    assert complaint.key == ("credentials", "login", "egress_proxy")
    assert "can't be reached (connection refused)" in complaint.what


async def test_plain_http() -> None:
    """Without TLS the probe ends with the connection."""
    async with server() as port:
        result = await walked(Destination(scheme="http", host="127.0.0.1", port=port))
    assert connected_line(result) == f"127.0.0.1:{port} answers"


async def test_files_of_our_own(tmp_path: Path) -> None:
    """A CA file that can't be used is no property of the network."""
    with pytest.raises(TlsUnusable):
        await walked(https(443, ca_file=str(tmp_path / "missing")))
