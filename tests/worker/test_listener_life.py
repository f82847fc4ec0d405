"""A connection's life: many requests on it, in order; 100-continue; what breaks inside."""

import asyncio
import gc
from pathlib import Path

import pytest
from aiohttp.base_protocol import BaseProtocol

from proxy.errors import Sent
from proxy.worker.caller_connection import CallerConnection
from proxy.worker.caller_request import CallerRequest
from proxy.worker.listener import check_seam
from proxy.worker.request_parser import RequestParser
from tests.upstream.support import Peer, eventually, says_nothing
from tests.worker.support import proxy
from tests.worker.wire import ask, chunked, request, wire

EXPECTING = b"Expect: 100-continue"
AMBIGUOUS = request(b"POST", b"/open/a", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")


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


async def test_three_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    """The second with a body; each answered by what the bank said to it."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request() + request(b"POST", b"/open/b", body=b"abc") + request(b"GET", b"/open/c"))
        for _ in range(3):
            assert (await caller.answer()).status == 200
        assert [one.head.split(b" ")[1] for one in it.bank.requests] == [b"/open/a", b"/open/b", b"/open/c"]


@pytest.mark.parametrize("bad", [AMBIGUOUS, b"BAD\r\n\r\n", request(b"TRACE")])
async def test_a_bad_request_behind_a_good_one_is_refused(bad: bytes, tmp_path: Path) -> None:
    """The good one is served, the bad one answered, and nothing behind it is looked at."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request(), bad + request(b"GET", b"/open/smuggled"))
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status in {400, 405, 501}
        assert await caller.closed() == b""
        assert len(it.bank.requests) == 1


async def test_a_broken_body_that_waits_in_the_queue_is_refused(tmp_path: Path) -> None:
    """The fault goes to the request whose body it broke, not to the one in service."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request() + request(b"POST", b"/open/a", b"Transfer-Encoding: chunked"), b"zz\r\n")
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status == 400
        assert await caller.closed() == b""
        assert len(it.bank.requests) == 1


async def test_ten_thousand_pipelined_requests_take_no_memory_ahead(tmp_path: Path) -> None:
    """At most some dozens are parsed ahead of the one in service; all are answered."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        sending = asyncio.get_running_loop().create_task(caller.send(request(b"GET", b"/nowhere") * 10_000))
        most = 0
        for _ in range(10_000):
            assert (await caller.answer()).status == 404
            (connection,) = it.server.connections
            assert isinstance(connection, CallerConnection)
            most = max(most, len(connection._queue))
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


async def test_a_defect_is_answered_and_recorded(tmp_path: Path) -> None:
    """Whatever breaks inside, the caller gets 500, without a word of what broke."""
    async with proxy(tmp_path) as it:
        object.__setattr__(it.gateway, "pools", {})  # nothing else of the wrong type may stand in compiled classes
        reply = await ask(it.port, request(b"POST", b"/open/a", body=b"abc"))
        assert (reply.status, reply.problem["code"]) == (500, "internal_error")
        assert b"KeyError" not in reply.body
        assert "KeyError at send.py:" in (await it.ended()).cause
        assert it.untouched


async def test_a_cancelled_connection_ends_its_request_with_a_record(tmp_path: Path) -> None:
    """Whoever cancels it: nobody waits for the bank any more, and the caller's connection closes."""
    async with proxy(tmp_path, says_nothing, upstream={"response_timeout": 15.0}) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", b"/open/a", body=b"abc"))
        await eventually(lambda: len(it.bank.requests) == 1)
        (connection,) = it.server.connections
        connection.cancel()
        exchange = await it.ended()
        assert (exchange.status, exchange.sent_upstream) == (0, Sent.UNKNOWN)
        await eventually(lambda: len(it.journal("exchange")) == 1)
        assert await caller.closed() == b""
        await eventually(lambda: not it.server.connections)
        admission = it.gateway.admission
        assert (admission.in_flight, admission.held_bytes) == (0, 0)
        assert repr(it.gateway.pools["bank"]).endswith("[0 in use, 0 idle, 0 waiting]>")


async def test_a_connection_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    """Callers that open a connection for each request would have it run all the time."""
    async with proxy(tmp_path) as it:
        gc.collect()
        gc.disable()
        try:
            for lines in ((), (b"Connection: close",)):
                async with wire(it.port) as caller:
                    await caller.send(request(b"POST", b"/open/a", *lines, body=b"abc"))
                    assert (await caller.answer()).status == 200
            await eventually(lambda: not it.server.connections)
            kinds = CallerConnection, CallerRequest, RequestParser
            await eventually(lambda: not [one for one in gc.get_objects() if isinstance(one, kinds)])
        finally:
            gc.enable()


def test_the_seam_to_aiohttp_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version without a name that the listener leans on is refused at start."""
    check_seam()
    monkeypatch.delattr(BaseProtocol, "_reading_paused")
    with pytest.raises(RuntimeError, match="_reading_paused"):
        check_seam()
