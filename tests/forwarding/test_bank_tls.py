"""TLS with the bank (bad-inputs 94, 95): whoever can't prove to be the bank gets no byte of a request, and no token."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.forwarding.support import agrees, bearer, post, recorded
from tests.upstream.certificates import Authority, Identity, server_context
from tests.upstream.support import OK, Bank, bank, eventually, says_and_closes
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.wire import ask, request, wire

PAST = -dt.timedelta(days=3)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The private CA of the bank."""
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def _between(
    directory: Path, theirs: Bank, authority: Authority, *, host: str = "127.0.0.1", client: Identity | None = None
) -> AsyncIterator[Proxy]:
    upstream = {"scheme": "https", "host": host, "ca_file": str(authority.own.file)}
    if client is not None:
        upstream |= {"client_certificate_file": str(client.file), "client_key_file": str(client.file)}
    async with proxy(directory, port=theirs.port, upstream=upstream) as it:
        yield it


async def test_a_bank_with_the_right_certificate_gets_the_request(tmp_path: Path, authority: Authority) -> None:
    """And keeps its connection."""
    async with (
        bank(tls=server_context(authority.identity("bank"))) as theirs,
        _between(tmp_path, theirs, authority) as it,
    ):
        for _ in range(3):
            assert (await ask(it.port, post())).status == 200
        assert bearer(theirs.requests[0].head) == token_of("open")
        assert (len(theirs.requests), theirs.connections) == (3, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda ca: server_context(ca.identity("bank", starts=2 * PAST, ends=PAST)),
        lambda ca: server_context(ca.identity("bank", starts=-PAST, ends=-2 * PAST)),
        lambda ca: server_context(ca.identity("bank", host="other.example")),
        lambda ca: server_context(ca.identity("bank", host="127.0.0.2")),
        lambda ca: server_context(ca.identity("bank", self_signed=True)),
        lambda ca: server_context(Authority(ca.own.file.parent, "stranger").identity("bank")),
        lambda ca: server_context(ca.identity("bank"), version=ssl.TLSVersion.TLSv1_1),
    ],
    ids=["expired", "not yet valid", "wrong host", "wrong address", "self-signed", "unknown CA", "TLS 1.1 only"],
)
async def test_a_bank_that_cannot_prove_its_name_gets_nothing(
    tmp_path: Path, authority: Authority, make: Callable[[Authority], ssl.SSLContext]
) -> None:
    """502, certainly not sent; the caller learns no detail, the record why."""
    async with bank(tls=make(authority)) as theirs, _between(tmp_path, theirs, authority) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        agrees(reply, record, sent="no")
        assert (reply.status, reply.problem["code"], reply.problem["retryable"]) == (502, "upstream_unreachable", True)
        assert record["cause"].startswith(f"127.0.0.1:{theirs.port}: ")
        assert record["attempts"] == []
        assert (theirs.heads, theirs.requests) == (0, [])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_bank_that_wants_another_client_certificate_takes_no_request(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion
) -> None:
    """502; with TLS 1.3 the bank says no only after our side of the handshake, so the outcome may read unknown."""
    context = server_context(authority.identity("bank"), client_authority=authority.own, version=version)
    async with bank(tls=context) as theirs, _between(tmp_path, theirs, authority) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert (reply.status, reply.problem["code"]) in {(502, "upstream_unreachable"), (502, "upstream_reset")}
        agrees(reply, record, sent="no" if record["code"] == "upstream_unreachable" else "unknown")
        assert (theirs.heads, theirs.requests) == (0, [])


async def test_the_client_certificate_of_the_upstream_is_shown(tmp_path: Path, authority: Authority) -> None:
    """With client_certificate_file a bank that wants mutual TLS is served."""
    context = server_context(authority.identity("bank"), client_authority=authority.own)
    client = authority.identity("client")
    async with bank(tls=context) as theirs, _between(tmp_path, theirs, authority, client=client) as it:
        assert (await ask(it.port, post())).status == 200
        assert len(theirs.requests) == 1


@contextlib.asynccontextmanager
async def _leaving(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Run a bank that says answer and close_notify in one segment, then waits; gives its port and what each got."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        async def patiently(step: Callable[[], bytes | None]) -> bytes | None:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))

        await patiently(tls.do_handshake)
        got.append(await patiently(lambda: tls.read(65536)) or b"")
        tls.write(OK)
        with contextlib.suppress(ssl.SSLWantReadError):  # it waits for the other side's
            tls.unwrap()
        writer.write(outgoing.read())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_bank_that_leaves_with_its_answer_is_connected_to_again(
    tmp_path: Path, authority: Authority, method: bytes
) -> None:
    """The close_notify came along with the answer: the next request, there already, goes out on another connection."""
    upstream = {"scheme": "https", "ca_file": str(authority.own.file)}
    asked = request(method, b"/open/pay", body=b"pay" if method == b"POST" else b"")
    async with (
        _leaving(server_context(authority.identity("bank"))) as (port, got),
        proxy(tmp_path, port=port, upstream=upstream, request_log={"durability": "async"}) as it,
        wire(it.port) as caller,
    ):
        it.ledger._its._journal._durable = False  # nobody waits for the disk: no turn of the loop between the requests
        await caller.send(asked + asked)
        assert [(await caller.answer()).status for _ in range(2)] == [200, 200]
        assert [each.split(b" ")[0] for each in got] == [method, method]


async def test_a_bank_without_tls_gets_nothing(tmp_path: Path, authority: Authority) -> None:
    """A plain server on the port: the handshake fails, and nothing was sent."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream = {"scheme": "https", "ca_file": str(authority.own.file)}
    async with proxy(tmp_path, port=server.sockets[0].getsockname()[1], upstream=upstream) as it:
        reply = await ask(it.port, post())

        assert (reply.status, reply.problem["code"], reply.problem["sent_upstream"]) == (
            502,
            "upstream_unreachable",
            "no",
        )
        assert got[0].startswith(b"\x16\x03")
        assert b"canary" not in got[0]
    server.close()
    await server.wait_closed()


async def test_a_bank_may_change_its_certificate(tmp_path: Path, authority: Authority) -> None:
    """New connections are checked against the new one (95); a wrong one stops them, and the right one heals it."""
    context = server_context(authority.identity("bank"))
    closing = says_and_closes(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    async with bank(closing, tls=context) as theirs, _between(tmp_path, theirs, authority) as it:
        assert (await ask(it.port, post())).status == 200
        context.load_cert_chain(authority.identity("renewed").file)
        assert (await ask(it.port, post())).status == 200
        context.load_cert_chain(authority.identity("wrong", host="other.example").file)
        assert (await ask(it.port, post())).status == 502
        context.load_cert_chain(authority.identity("right").file)
        assert (await ask(it.port, post())).status == 200
        await eventually(lambda: len(theirs.requests) == 3)
