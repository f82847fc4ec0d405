"""Answers that come before the whole request: readable, whatever the caller goes on sending."""

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.support import eventually, says
from tests.worker.support import CLOCK, proxy
from tests.worker.timeouts import timeouts
from tests.worker.values import CALLER, route
from tests.worker.wire import chunked, request, wire

STRANGER = replace(CALLER, networks=("10.0.0.0/8",))
HOLDING = route("open", replay_body_bytes=50_000_000)
EARLY: dict[str, tuple[dict[str, Any], bytes, int, str]] = {
    "413": ({"server": {"max_body_bytes": 1000}}, b"/open/a", 413, "body_too_large"),
    "413 before 503": (
        {"server": {"max_body_bytes": 1000, "body_memory_bytes": 100}}, b"/open/a", 413, "body_too_large",
    ),
    "503": ({"server": {"max_requests": 0}}, b"/open/a", 503, "overloaded"),
    "503 memory": (
        {"server": {"body_memory_bytes": 1000}, "routes": (HOLDING,)}, b"/open/a", 503, "overloaded",
    ),
    "403": ({"callers": (STRANGER,)}, b"/open/a", 403, "caller_unauthenticated"),
    "404": ({}, b"/nowhere", 404, "no_route"),
    "400": ({}, b"/open/../a", 400, "bad_request"),
    "405": ({}, b"/read/a", 405, "method_not_allowed"),
}  # fmt: skip


def _upload(port: int, data: bytes) -> bytes:
    """Send all of *data* without looking at the answer, as simple clients do; then read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as caller:
        view = memoryview(data)
        with contextlib.suppress(ConnectionError):
            while view:
                view = view[caller.send(view[:65536]) :]
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := caller.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize("early", EARLY.values(), ids=EARLY)
@pytest.mark.parametrize("coding", ["length", "chunks"])
async def test_an_early_refusal_is_readable_while_30_mb_come_in(
    early: tuple[dict[str, Any], bytes, int, str], coding: str, tmp_path: Path
) -> None:
    """Also for a caller that only reads once it can send no more; the connection ends then."""
    changes, target, status, code = early
    body = b"a" * 30_000_000
    if coding == "length":
        data = request(b"POST", target, body=body)
    else:
        data = request(b"POST", target, b"Transfer-Encoding: chunked") + chunked(*[body[:100_000]] * 300)
    async with proxy(tmp_path, **changes) as it:
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


REFUSED = request(b"POST", b"/nowhere", b"Content-Length: 100000000")


@pytest.mark.parametrize("limits", [{"linger": 0.2}, {"linger_gap": 0.2}])
async def test_reading_away_ends(limits: dict[str, float], tmp_path: Path) -> None:
    """A caller that neither sends nor leaves is cut off after a moment, of silence or in all."""
    async with proxy(tmp_path, timeouts=timeouts(**limits)) as it, wire(it.port) as caller:
        await caller.send(REFUSED)
        assert (await caller.answer()).status == 404
        await eventually(lambda: not it.server.connections)
        assert len(it.server.lingering) == 0


async def test_who_goes_on_sending_is_read_until_the_time_is_over(tmp_path: Path) -> None:
    """Each byte is in time; nothing that comes before the end is answered by a reset."""
    async with proxy(tmp_path, timeouts=timeouts(linger=0.5, linger_gap=0.3)) as it, wire(it.port) as caller:
        await caller.send(REFUSED)
        assert (await caller.answer()).status == 404
        started, sent = CLOCK.monotonic(), 0
        while it.server.connections:
            await caller.send(b"a" * 100_000)
            sent += 100_000
            await asyncio.sleep(0.01)
        assert CLOCK.monotonic() - started > 0.4
        assert sent > 1_000_000


async def test_not_many_are_read_away_at_once(tmp_path: Path) -> None:
    """Beyond the limit whoever has been silent longest is closed, and the others stay."""
    async with proxy(tmp_path, timeouts=timeouts(lingering=2)) as it, contextlib.AsyncExitStack() as stack:
        first, *others = [await stack.enter_async_context(wire(it.port)) for _ in range(3)]
        for caller in (first, *others):
            await caller.send(REFUSED)
            assert (await caller.answer()).status == 404
        await eventually(lambda: len(it.server.connections) == 2)
        await first.closed()
        assert len(it.server.lingering) == 2


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
        await eventually(lambda: not it.server.connections)
        assert repr(it.gateway.pools["bank"]).endswith("[0 in use, 0 idle, 0 waiting]>")


@pytest.mark.parametrize("chunks", [b"100000005\r\nhello", b"3e8\r\n" + bytes(1000) + b"\r\n1\r\n"])
async def test_a_chunk_beyond_the_limit_is_refused_when_it_is_announced(tmp_path: Path, chunks: bytes) -> None:
    """Nobody waits for what would be refused; a thousand bytes are the limit, not beyond it."""
    async with proxy(tmp_path, server={"max_body_bytes": 1000}) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", b"/open/a", b"Transfer-Encoding: chunked") + chunks)
        reply = await caller.answer()
        assert (reply.status, reply.problem["code"], reply.problem["sent_upstream"]) == (413, "body_too_large", "no")
        assert it.untouched
