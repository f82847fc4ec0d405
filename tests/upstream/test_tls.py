import asyncio
import datetime as dt
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from proxy.errors import ProxyError, Sent, UpstreamReset, UpstreamUnreachable
from proxy.upstream.tls import TlsUnusable, client_context
from tests.upstream.certificates import Authority, Identity, server_context
from tests.upstream.support import OK, ask, bank, call, eventually, pool_of, post, says, says_and_closes

PAST = -dt.timedelta(days=3)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The private CA of the bank."""
    return Authority(tmp_path)


async def test_a_bank_with_a_certificate_of_the_private_ca_is_spoken_to(authority: Authority) -> None:
    """The right chain and the right name: the request goes out and the connection is kept."""
    context = server_context(authority.identity("bank"))
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
        assert pool.origin == f"https://127.0.0.1:{it.port}"
        assert await call(pool, post(1_000_000), bytes(1_000_000), method="POST") == (200, b"ok", False)
        assert await call(pool) == (200, b"ok", True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_connections_are_reused_over_both_versions_of_tls(authority: Authority, version: ssl.TLSVersion) -> None:
    """Session tickets that follow the handshake of TLS 1.3 don't make a connection look dirty."""
    context = server_context(authority.identity("bank"), version=version)
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
        for _ in range(20):
            await call(pool)
        assert (it.heads, it.connections) == (20, 1)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda ca: ca.identity("bank", starts=2 * PAST, ends=PAST), "expired"),
        (lambda ca: ca.identity("bank", starts=-PAST, ends=-2 * PAST), "not yet valid"),
        (lambda ca: ca.identity("bank", host="other.example"), "mismatch"),
        (lambda ca: ca.identity("bank", host="127.0.0.2"), "mismatch"),
        (lambda ca: ca.identity("bank", self_signed=True), "self-signed"),
        (lambda ca: Authority(ca.own.file.parent, "stranger").identity("bank"), "unable to get local issuer"),
    ],
    ids=["expired", "not yet valid", "wrong host", "wrong address", "self-signed", "unknown CA"],
)
async def test_a_bank_that_cannot_prove_its_name_gets_nothing(
    authority: Authority, make: Callable[[Authority], Identity], word: str
) -> None:
    """No byte of a request, no token: certainly not sent, and the operator is told why (bad-inputs 94)."""
    context = server_context(make(authority))
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
        with pytest.raises(UpstreamUnreachable) as refusal:
            await pool.connect()

        assert refusal.value.sent is Sent.NO
        assert word in refusal.value.cause.lower()
        assert str(it.port) in refusal.value.cause
        assert it.heads == 0
        assert "0 in use, 0 idle" in repr(pool)


async def test_without_a_private_ca_the_systems_authorities_count(authority: Authority) -> None:
    """A certificate of a CA that the system does not know is refused."""
    async with bank(tls=server_context(authority.identity("bank"))) as it, pool_of(it.port, scheme="https") as pool:
        with pytest.raises(UpstreamUnreachable):
            await pool.connect()
        assert it.heads == 0


async def test_a_bank_that_speaks_only_tls_11_gets_nothing(authority: Authority) -> None:
    """TLS 1.2 is the least (bad-inputs 94)."""
    context = server_context(authority.identity("bank"), version=ssl.TLSVersion.TLSv1_1)
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
        with pytest.raises(UpstreamUnreachable, match="TLS"):
            await pool.connect()
        assert it.heads == 0


async def test_a_bank_that_speaks_no_tls_gets_nothing(authority: Authority) -> None:
    """A plain server where TLS is expected is not reachable, whether it answers the handshake or waits."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with pool_of(port, scheme="https", ca_file=str(authority.own.file)) as pool:
        with pytest.raises(UpstreamUnreachable, match="TLS"):
            await pool.connect()
    server.close()
    async with bank() as it, pool_of(it.port, scheme="https", connect_timeout=0.1) as pool:
        with pytest.raises(UpstreamUnreachable, match="in time"):
            await pool.connect()
        assert it.heads == 0


async def test_the_client_certificate_is_shown(authority: Authority) -> None:
    """A bank that wants mutual TLS gets the configured certificate."""
    context = server_context(authority.identity("bank"), client_authority=authority.own)
    own = str(authority.identity("us").file)
    files = {"ca_file": str(authority.own.file), "client_certificate_file": own, "client_key_file": own}
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", **files) as pool:
        assert await call(pool) == (200, b"ok", False)
        shown = it.peers[0].writer.get_extra_info("peercert")
        assert (("commonName", "us"),) in shown["subject"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_without_the_client_certificate_that_is_asked_for_no_request_is_served(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """The bank sees no request; over TLS 1.3 it says so only after we could send, so the outcome may read unknown."""
    context = server_context(authority.identity("bank"), client_authority=authority.own, version=version)
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
        with pytest.raises(ProxyError) as refusal:
            await ask(await pool.connect())
        assert isinstance(refusal.value, UpstreamUnreachable | UpstreamReset)
        assert refusal.value.cause
        if version is ssl.TLSVersion.TLSv1_2:
            assert isinstance(refusal.value, UpstreamUnreachable)
        assert it.heads == 0


async def test_a_new_certificate_of_the_bank_is_no_event(authority: Authority) -> None:
    """The bank rotates its certificate: open connections go on, new ones see the new certificate (bad-inputs 95)."""
    context = server_context(authority.identity("bank"))
    async with bank(tls=context) as it, pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
        first = await pool.connect()
        context.load_cert_chain(authority.identity("bank2").file)
        second = await pool.connect()
        for connection in (second, first):
            (await ask(connection)).release()
        assert (it.connections, await call(pool)) == (2, (200, b"ok", True))


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"])
async def test_a_close_over_tls_is_noticed_before_reuse(authority: Authority, answer: bytes) -> None:
    """A connection that the bank closed after its answer is not used again (bad-inputs 78)."""
    context = server_context(authority.identity("bank"))
    async with bank(says_and_closes(answer), says(OK), tls=context) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            await call(pool)
            await eventually(lambda: not pool._open)
            assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (2, 2)


def test_verification_is_on_and_old_versions_are_off() -> None:
    """There is no setting for either."""
    context = client_context()
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_session_keys_are_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$SSLKEYLOGFILE, which would let anyone read the tokens on the wire, is not heeded."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert client_context().keylog_filename is None


def test_unusable_files_are_named(authority: Authority, tmp_path: Path) -> None:
    """Missing, a pipe, not PEM, without key, the key of another, encrypted: names the file, holds no key."""
    own, other = authority.identity("us"), authority.identity("other")
    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("CANARY")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    certificate, encrypted, key = tmp_path / "certificate.pem", tmp_path / "encrypted.pem", tmp_path / "key.pem"
    certificate.write_bytes(own.certificate.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    encrypted.write_bytes(own.key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"CANARY")))
    key.write_bytes(other.key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    cases: list[tuple[dict[str, str], str]] = [
        ({"ca_file": str(nothing)}, "nothing.pem: No such file"),
        ({"ca_file": str(text)}, "text.pem: holds no certificate"),
        ({"ca_file": str(tmp_path)}, str(tmp_path)),
        ({"ca_file": str(pipe)}, "pipe: is not a regular file"),
        ({"certificate_file": str(certificate), "key_file": str(pipe)}, "pipe: is not a regular file"),
        ({"certificate_file": str(nothing), "key_file": str(key)}, "nothing.pem: No such file"),
        ({"certificate_file": str(certificate), "key_file": str(nothing)}, "nothing.pem: No such file"),
        ({"certificate_file": str(certificate)}, "certificate.pem"),
        ({"key_file": str(key)}, "client certificate"),
        ({"certificate_file": str(text), "key_file": str(key)}, "text.pem"),
        ({"certificate_file": str(certificate), "key_file": str(text)}, "text.pem"),
        ({"certificate_file": str(certificate), "key_file": str(key)}, "key.pem: is not the key of"),
        ({"certificate_file": str(certificate), "key_file": str(encrypted)}, "encrypted.pem: is encrypted"),
    ]
    for files, expected in cases:
        with pytest.raises(TlsUnusable) as refusal:
            client_context(**files)
        assert expected in str(refusal.value)
        assert "CANARY" not in str(refusal.value)
