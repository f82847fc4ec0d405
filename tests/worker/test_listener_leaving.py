"""Callers that leave at each stage, and a listener that drains."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from proxy.errors import Sent
from proxy.settings.worker_values import RemintValues
from tests.upstream.certificates import Authority, server_context
from tests.upstream.support import OK, Peer, eventually, says
from tests.worker.support import proxy
from tests.worker.values import route
from tests.worker.wire import PATIENCE, ask, request, wire


class Gate:
    """A bank that answers when it is told to."""

    def __init__(self, answer: bytes = OK) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._answer = answer

    async def __call__(self, peer: Peer) -> None:
        """Wait for `go`, then answer."""
        self.asked.set()
        await self.go.wait()
        await peer.send(self._answer)


LEAVING = ["half-close", "close", "reset"]


@pytest.mark.parametrize("how", LEAVING)
async def test_who_leaves_before_the_send_has_sent_nothing(how: str, tmp_path: Path) -> None:
    """The token was still being waited for."""
    async with proxy(tmp_path, tokens=False) as it:
        async with wire(it.port) as caller:
            await caller.send(request(b"POST", b"/open/a", body=b"abc"))
            await eventually(lambda: it.gateway.admission.in_flight == 1)
            {"half-close": caller.half_close, "close": caller.leave, "reset": caller.reset}[how]()
            await eventually(lambda: not it.server.connections or it.server.connections[0].transport is None)
            it.keeper.mint(it.key("open"))
            exchange = await it.ended()
        assert exchange.caller_left
        assert exchange.sent_upstream is Sent.NO
        assert it.untouched


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
async def test_a_payment_is_finished_when_its_caller_leaves(how: str, method: bytes, tmp_path: Path) -> None:
    """The bank's answer is recorded and its connection used again."""
    gate = Gate()
    async with proxy(tmp_path, gate, says(OK)) as it:
        async with wire(it.port) as caller:
            await caller.send(request(method, b"/open/a", body=b"abc"))
            await gate.asked.wait()
            {"half-close": caller.half_close, "close": caller.leave, "reset": caller.reset}[how]()
            await eventually(lambda: not it.server.connections or it.server.connections[0].transport is None)
            # The overview says that the bank does not answer, also if callers don't wait for it.
            assert [len(one.attempts) for one in it.server.awaiting()] == [1]
            gate.go.set()
            exchange = await it.ended()
        assert exchange.caller_left
        assert (exchange.status, exchange.origin, exchange.sent_upstream) == (200, "bank", Sent.YES)
        assert (await ask(it.port, request())).status == 200
        assert it.bank.connections == 1
        await eventually(lambda: len(it.journal("exchange")) == 2)
        record = it.journal("exchange")[0]
        assert (record["caller_left"], record["sent_upstream"]) == (True, "yes")
        assert 0 < record["caller_left_ms"] < record["duration_ms"]


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_read_is_cut_off_when_its_caller_leaves(how: str, method: bytes, tmp_path: Path) -> None:
    """The bank's connection is closed at once, and nobody else gets it."""
    gate = Gate()
    async with proxy(tmp_path, gate, says(OK)) as it:
        async with wire(it.port) as caller:
            await caller.send(request(method))
            await gate.asked.wait()
            {"half-close": caller.half_close, "close": caller.leave, "reset": caller.reset}[how]()
            exchange = await it.ended()
        assert exchange.caller_left
        assert exchange.sent_upstream is Sent.UNKNOWN
        gate.go.set()
        assert (await ask(it.port, request())).status == 200
        assert it.bank.connections == 2


async def test_a_caller_that_leaves_cuts_off_nobody_else(tmp_path: Path) -> None:
    """A bank's connection that went back to the pool is another one's: its old caller can't break it."""
    gate = Gate()
    async with proxy(tmp_path, says(OK), gate) as it, wire(it.port) as first, wire(it.port) as second:
        await first.send(request())
        assert (await first.answer()).status == 200
        await second.send(request())
        await gate.asked.wait()
        first.reset()
        await eventually(lambda: len(it.server.connections) == 1)
        gate.go.set()
        assert (await second.answer()).status == 200
        assert it.bank.connections == 1


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_caller_that_leaves_in_the_middle_of_the_answer(method: bytes, tmp_path: Path) -> None:
    """The rest is dropped, the exchange recorded, the bank's connection not used again."""
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n" + b"a" * 30_000_000
    async with proxy(tmp_path, says(big), says(OK)) as it:
        async with wire(it.port, receive_buffer=8192) as caller:
            await caller.send(request(method))
            await caller.reader.readexactly(5000)
            caller.reset()
        exchange = await it.ended()
        assert exchange.caller_left
        assert exchange.response_bytes < 30_000_000
        assert (exchange.status, exchange.sent_upstream) == (200, Sent.YES)
        assert (await ask(it.port, request())).status == 200
        assert it.bank.connections == 2


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhalf",
    ],
    ids=["small", "large", "chunked", "looked at"],
)
async def test_a_read_cut_off_in_the_middle_of_its_answer_is_not_the_banks_fault(begun: bytes, tmp_path: Path) -> None:
    """We closed the bank's connection, because nobody was there to hear the rest."""
    listed = route("open", remint_on=(RemintValues(status=403, body="GCA-001"),))
    gate = Gate()

    async def begins(peer: Peer) -> None:
        await peer.send(begun)
        await gate(peer)

    async with proxy(tmp_path, begins, routes=(listed,)) as it:
        async with wire(it.port) as caller:
            await caller.send(request(b"GET"))
            await gate.asked.wait()
            (connection,) = it.gateway.pools["bank"]._open
            await eventually(lambda: connection._response is not None)
            caller.leave()
            exchange = await it.ended()
        assert (exchange.caller_left, exchange.code, exchange.attempts[0].status) == (True, "", int(begun[9:12]))
        gate.go.set()


async def test_draining_closes_idle_connections_and_ends_the_others_with_their_answer(tmp_path: Path) -> None:
    """The request in flight is answered with Connection: close."""
    gate = Gate()
    async with proxy(tmp_path, says(OK), gate) as it, wire(it.port) as idle, wire(it.port) as busy:
        await idle.send(request())
        assert (await idle.answer()).header(b"Connection") == b"keep-alive"
        await busy.send(request(b"POST", b"/open/a", body=b"abc"))
        await gate.asked.wait()
        it.server.drain()
        assert await idle.closed() == b""
        gate.go.set()
        reply = await busy.answer()
        assert (reply.status, reply.header(b"Connection")) == (200, b"close")
        assert await busy.closed() == b""
        it.gateway.admission.closed = True
        reply = await ask(it.port, request())
        assert (reply.status, reply.problem["code"], reply.header(b"Connection")) == (503, "draining", b"close")
        assert reply.problem["retryable"]


def _encrypted(port: int, ca_file: str) -> int:
    """Return how many bytes come back over TLS for a second request with a close_notify in the same segment.

    They are counted, not read: behind its own close_notify Python's TLS reads nothing.
    """
    context = ssl.create_default_context(cafile=ca_file)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as raw:
        for step in (tls.do_handshake, lambda: tls.write(request(b"GET", b"/nowhere")), lambda: tls.read(65536)):
            done = False
            while not done:
                with contextlib.suppress(ssl.SSLWantReadError):
                    step()
                    done = True
                raw.sendall(outgoing.read())
                if not done:
                    incoming.write(raw.recv(65536))
        tls.write(request(b"GET", b"/nowhere"))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        raw.sendall(outgoing.read())
        size = 0
        while piece := raw.recv(65536):
            size += len(piece)
        return size


async def test_what_was_answered_is_sent_before_an_end_is_heeded(tmp_path: Path) -> None:
    """Also in a busy turn of the loop, which sends when it is over and the caller's close_notify has been read."""
    authority = Authority(tmp_path)
    tls = server_context(authority.identity("proxy"))
    tls.num_tickets = 0  # whatever comes is the answer, and 24 bytes of close_notify
    async with proxy(tmp_path) as it:
        it.server.coalescer._usual = 1000
        server = await asyncio.get_running_loop().create_server(it.server, "127.0.0.1", 0, ssl=tls)
        with contextlib.closing(server):
            size = await asyncio.to_thread(_encrypted, server.sockets[0].getsockname()[1], str(authority.own.file))
        exchange = await it.ended(2)
        assert (exchange.status, exchange.caller_left) == (404, False)
        assert size > exchange.response_bytes
