import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.errors import UpstreamUnreachable
from proxy.upstream.dial import Egress
from tests.upstream.certificates import Authority, server_context
from tests.upstream.support import bank, call, eventually, pool_of


@dataclass
class EgressProxy:
    """A corporate proxy: it answers CONNECT as told and then passes bytes both ways."""

    answer: bytes
    heads: list[bytes] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open one tunnel."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
            if self.answer.startswith(b"HTTP/1.1 2"):
                host, _, port = self.heads[-1].split()[1].decode().rpartition(":")
                there_reader, there_writer = await asyncio.open_connection(host, int(port))
                await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@contextlib.asynccontextmanager
async def egress(answer: bytes = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n") -> AsyncIterator[EgressProxy]:
    """Run an egress proxy on loopback."""
    it = EgressProxy(answer)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        await eventually(lambda: len(asyncio.all_tasks()) == 1)


async def test_tls_to_the_bank_runs_inside_the_tunnel(tmp_path: Path) -> None:
    """The egress proxy learns host and port and nothing else, and the bank's name is still verified."""
    authority = Authority(tmp_path)
    context = server_context(authority.identity("bank"))
    async with bank(tls=context) as it, egress() as way:
        settings = {"scheme": "https", "ca_file": str(authority.own.file), "egress_proxy": way.url}
        async with pool_of(it.port, **settings) as pool:
            assert await call(pool) == (200, b"ok", False)
            assert await call(pool) == (200, b"ok", True)
            origin = b"127.0.0.1:%d" % it.port
            assert way.heads == [b"CONNECT " + origin + b" HTTP/1.1\r\nHost: " + origin + b"\r\n\r\n"]
            assert pool.origin == f"https://127.0.0.1:{it.port}"
    assert it.connections == 1


async def test_a_wrong_certificate_inside_the_tunnel_is_refused(tmp_path: Path) -> None:
    """A proxy that answers in the bank's stead gets no request."""
    authority = Authority(tmp_path)
    context = server_context(authority.identity("bank", host="corp.example"))
    async with bank(tls=context) as it, egress() as way:
        settings = {"scheme": "https", "ca_file": str(authority.own.file), "egress_proxy": way.url}
        async with pool_of(it.port, **settings) as pool:
            with pytest.raises(UpstreamUnreachable, match="certificate"):
                await pool.connect()
    assert it.heads == 0


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 407 CANARY\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.0 503 CANARY\r\n\r\n", "503"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "200"),
        (b"SSH-2.0-CANARY\r\n\r\n", "malformed"),
        (b"HTTP/1.1 2000 CANARY\r\n\r\n", "200"),
        (b"", "did not answer"),
        (b"HTTP/1.1 403 " + b"CANARY" * 3000, "did not answer"),
        (b"HTTP/1.1 200 OK\r\n\r\nCANARY", "more than its answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n\r\n\r\n", "more than its answer"),
    ],
    ids=range(9),
)
async def test_a_refused_tunnel_is_certainly_not_sent(answer: bytes, cause: str) -> None:
    """The operator learns the proxy's status, and nothing of what else it said."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with pool_of(1, egress_proxy=url) as pool:
        with pytest.raises(UpstreamUnreachable) as refusal:
            await pool.connect()
        assert cause in refusal.value.cause
        assert "CANARY" not in f"{refusal.value!r} {refusal.value.detail} {refusal.value.cause}"
    server.close()


async def test_a_silent_egress_proxy_is_given_up_in_time() -> None:
    """CONNECT counts into the connect time-out."""
    async with egress(b"") as way, pool_of(1, egress_proxy=way.url, connect_timeout=0.1) as pool:
        with pytest.raises(UpstreamUnreachable):
            await pool.connect()


@pytest.mark.parametrize(
    ("url", "egress_proxy"),
    [
        ("", None),
        ("http://proxy.corp:3128", Egress(host="proxy.corp", port=3128)),
        ("http://[::1]:3128/", Egress(host="::1", port=3128)),
        ("http://proxy.corp", Egress(host="proxy.corp", port=80)),
    ],
)
def test_the_egress_proxy_is_read_from_its_url(url: str, egress_proxy: Egress | None) -> None:
    """Host and port are all that counts."""
    assert Egress.of(url) == egress_proxy


@pytest.mark.parametrize(
    "url", ["proxy:3128", "https://proxy:1", "socks5://proxy:1", "http://", "http://u:p@proxy:1", "http://proxy:x"]
)
def test_other_ways_out_are_refused(url: str) -> None:
    """What can't be done is said, and a password in the URL is not quoted."""
    with pytest.raises(ValueError, match=r"^(?!.*u:p)"):
        Egress.of(url)
