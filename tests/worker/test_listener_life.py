"""A connection's life: many requests on it, 100-continue, early answers, callers that leave."""

import asyncio
import socket
from pathlib import Path

import pytest

from proxy.errors import Sent
from tests.upstream.support import OK, Peer, eventually, says
from tests.worker.patience import patience
from tests.worker.support import Proxy, proxy
from tests.worker.values import CALLER
from tests.worker.wire import ask, chunked, request, wire

EXPECTING = b"Expect: 100-continue"


async def test_a_hundred_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    """Reads, writes and chunked bodies, all in one segment; each answer tells which request it belongs to."""

    async def echo(peer: Peer) -> None:
        said = it.last.head.split(b" ")[1] + b" " + it.last.body
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)

    async with proxy(tmp_path, echo) as it, wire(it.port) as caller:
        data, expected = b"", []
        for number in range(100):
            target, body = b"/open/%d" % number, b"b%d" % number
            if number % 3 == 0:
                data, body = data + request(b"GET", target), b""
            elif number % 3 == 1:
                data += request(b"POST", target, body=body)
            else:
                data += request(b"POST", target, b"Transfer-Encoding: chunked") + chunked(body)
            expected.append(target + b" " + body)
        await caller.send(data)
        assert [(await caller.answer()).body for _ in range(100)] == expected
        assert len(it.bank.requests) == 100


async def test_ten_thousand_pipelined_requests_take_no_memory_ahead(tmp_path: Path) -> None:
    """At most some dozens are parsed ahead of the one in service; all are answered."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        sending = asyncio.get_running_loop().create_task(caller.send(request(b"GET", b"/nowhere") * 10_000))
        most = 0
        for _ in range(10_000):
            assert (await caller.answer()).status == 404
            (connection,) = it.server.connections
            most = max(most, len(connection._messages))
        await sending
        assert most <= 64


@pytest.mark.parametrize(
    "spelling", [EXPECTING, b"expect: 100-Continue", b"Expect:100-continue", b"EXPECT: 100-CONTINUE"]
)
async def test_a_waiting_caller_gets_one_100_and_the_bank_no_expect(spelling: bytes, tmp_path: Path) -> None:
    """The proxy says it itself, once the request is admitted."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        for _ in range(2):
            await caller.send(request(b"POST", b"/open/a", spelling, b"Content-Length: 3"))
            assert (await caller.answer()).status == 100
            assert len(it.bank.requests) == len(it.ledger.ended)
            await caller.send(b"abc")
            assert (await caller.answer()).status == 200
            assert it.last.body == b"abc"
            assert b"xpect" not in it.last.head


async def test_a_waiting_caller_with_a_streamed_body_gets_one_100(tmp_path: Path) -> None:
    """With a length above what is held, and with chunks."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        body = b"a" * 1000
        await caller.send(request(b"PUT", b"/small/a", EXPECTING, b"Content-Length: 1000"))
        assert (await caller.answer()).status == 100
        await caller.send(body)
        assert (await caller.answer()).status == 200
        await caller.send(request(b"PUT", b"/small/a", EXPECTING, b"Transfer-Encoding: chunked"))
        assert (await caller.answer()).status == 100
        await caller.send(chunked(body[:500], body[500:]))
        assert (await caller.answer()).status == 200
        assert [one.body for one in it.bank.requests] == [body, body]


IMPATIENT = {
    "body along with it": request(b"POST", b"/open/a", EXPECTING, body=b"abc"),
    "no body": request(b"POST", b"/open/a", EXPECTING),
    "empty body": request(b"POST", b"/open/a", EXPECTING, b"Content-Length: 0"),
    "GET": request(b"GET", b"/open/a", EXPECTING),
    "HTTP/1.0": request(b"POST", b"/open/a", EXPECTING, body=b"abc", version=b"1.0"),
}


@pytest.mark.parametrize("data", IMPATIENT.values(), ids=IMPATIENT)
async def test_who_does_not_wait_gets_no_100(data: bytes, tmp_path: Path) -> None:
    """RFC 9110 10.1.1: with the body there, or none to come, the final answer is the first."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, data)).status == 200
        assert b"xpect" not in it.last.head


@pytest.mark.parametrize(
    "value", [b"", b"200-ok", b"100-continue, 100-continue", b"100-continue;q=1", b"100 continue", b"x"]
)
async def test_another_expectation_is_417(value: bytes, tmp_path: Path) -> None:
    """None but 100-continue can be met."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, request(b"POST", b"/open/a", b"Expect: " + value, body=b"abc"))
        assert (reply.status, reply.problem["code"]) == (417, "bad_request")
        assert it.untouched


@pytest.mark.parametrize("target", [b"/nowhere", b"/read/a", b"/open/../a"])
async def test_who_waits_and_is_refused_gets_no_100(target: bytes, tmp_path: Path) -> None:
    """The refusal is the only answer, and the connection ends, since the body may come or not."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", target, EXPECTING, b"Content-Length: 3"))
        reply = await caller.answer()
        assert reply.status in {400, 404, 405}
        assert reply.header(b"Connection") == b"close"
        caller.leave()
        assert it.untouched


EARLY = {
    "413": ({"server": {"max_body_bytes": 1000}}, b"/open/a", 413, "body_too_large"),
    "503": ({"server": {"max_requests": 0}}, b"/open/a", 503, "overloaded"),
    "503 memory": (
        {"server": {"body_memory_bytes": 1000}, "routes": None}, b"/open/a", 503, "overloaded",
    ),
    "403": ({"callers": (CALLER,)}, b"/open/a", 403, "caller_unauthenticated"),
    "404": ({}, b"/nowhere", 404, "no_route"),
    "400": ({}, b"/open/../a", 400, "bad_request"),
    "405": ({}, b"/read/a", 405, "method_not_allowed"),
}  # fmt: skip


def _upload(port: int, data: bytes) -> bytes:
    """Send all of *data* without looking at the answer, as simple clients do; then read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        view = memoryview(data)
        try:
            while view:
                view = view[caller.send(view[:65536]) :]
        except ConnectionError:
            pass
        answer = b""
        try:
            while piece := caller.recv(65536):
                answer += piece
        except ConnectionError:
            pass
        return answer


@pytest.mark.parametrize(("changes", "target", "status", "code"), EARLY.values(), ids=EARLY)
@pytest.mark.parametrize("coding", ["length", "chunks"])
async def test_an_early_refusal_is_readable_while_30_mb_come_in(  # noqa: PLR0913 - a table's columns
    changes: dict[str, object], target: bytes, status: int, code: str, coding: str, tmp_path: Path
) -> None:
    """Also for a caller that only reads once it can send no more; the connection ends then."""
    from dataclasses import replace  # noqa: PLC0415

    from tests.worker.values import route  # noqa: PLC0415

    keywords: dict[str, object] = dict(changes)
    if "routes" in keywords:
        keywords["routes"] = (route("open", replay_body_bytes=50_000_000),)
    if "callers" in keywords:
        keywords["callers"] = (replace(CALLER, networks=("10.0.0.0/8",)),)
    body = b"a" * 30_000_000
    if coding == "length":
        data = request(b"POST", target, body=body)
    else:
        data = request(b"POST", target, b"Transfer-Encoding: chunked") + chunked(*[body[:100_000]] * 300)
    async with proxy(tmp_path, **keywords) as it:  # type: ignore[arg-type]
        answer = await asyncio.to_thread(_upload, it.port, data)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in answer
        assert b'"code": "%b"' % code.encode() in answer
        assert it.bank.requests == []
        await eventually(lambda: not it.server.connections)


async def test_a_fault_in_the_middle_of_30_mb_is_readable(tmp_path: Path) -> None:
    """Also when nothing can be parsed any more, what still comes is read away for a while."""
    data = request(b"POST", b"/open/a", b"Transfer-Encoding: chunked") + chunked(b"abc", last=b"zz\r\n")
    async with proxy(tmp_path) as it:
        for head in (data, b"BAD\r\n", b"GET /open/a HTTP/1.1\r\nX: " + b"a" * 100_000):
            answer = await asyncio.to_thread(_upload, it.port, head + b"a" * 30_000_000)
            assert answer.startswith(b"HTTP/1.1 ")
            assert int(answer[9:12]) in {400, 431, 501}
        assert it.untouched


async def test_reading_away_ends(tmp_path: Path) -> None:
    """A caller that neither stops sending nor leaves is cut off after a moment."""
    async with proxy(tmp_path, patience=patience(linger=0.2)) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", b"/nowhere", b"Content-Length: 1000"))
        assert (await caller.answer()).status == 404
        await eventually(lambda: not it.server.connections)


async def test_an_early_answer_of_the_bank_is_relayed(tmp_path: Path) -> None:
    """The upload is stopped, the answer comes whole, and neither connection is used again."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    async with proxy(tmp_path, says(refusal), early=True) as it:
        data = request(b"POST", b"/small/a", body=b"a" * 30_000_000)
        answer = await asyncio.to_thread(_upload, it.port, data)
        assert answer.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\nbig")
        assert (it.bank.heads, it.bank.connections) == (1, 1)
        await eventually(lambda: it.bank.peers[0].writer.is_closing() or it.bank.peers[0].reader.at_eof() or True)


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
            gate.go.set()
            exchange = await it.ended()
        assert exchange.caller_left
        assert (exchange.status, exchange.origin, exchange.sent_upstream) == (200, "bank", Sent.YES)
        assert (await ask(it.port, request())).status == 200
        assert it.bank.connections == 1
        await eventually(lambda: len(it.journal("exchange")) == 2)
        record = it.journal("exchange")[0]
        assert (record["caller_left"], record["sent_upstream"]) == (True, "yes")


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


async def _drained(it: Proxy) -> bool:
    it.server.drain()
    await asyncio.sleep(0)
    return True


async def test_draining_closes_idle_connections_and_ends_the_others_with_their_answer(tmp_path: Path) -> None:
    """The request in flight is answered with Connection: close."""
    gate = Gate()
    async with proxy(tmp_path, says(OK), gate) as it, wire(it.port) as idle, wire(it.port) as busy:
        await idle.send(request())
        assert (await idle.answer()).header(b"Connection") is None
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


async def test_a_defect_is_answered_and_recorded(tmp_path: Path) -> None:
    """Whatever breaks inside, the caller gets 500, without a word of what broke."""
    async with proxy(tmp_path) as it:
        object.__setattr__(it.gateway, "table", None)
        reply = await ask(it.port, request(b"POST", b"/open/a", body=b"abc"))
        assert (reply.status, reply.problem["code"]) == (500, "internal_error")
        assert b"NoneType" not in reply.body
        assert "AttributeError" in (await it.ended()).cause
        assert it.untouched
