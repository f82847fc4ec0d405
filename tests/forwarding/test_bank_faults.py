"""The bank resets, closes, stalls, can't be reached (bad-inputs 75 to 81, 92): what the caller sees, and one send."""

import asyncio
import gzip
import socket
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.upstream.resolver import Resolver
from tests.forwarding.support import agrees, answer, exchanged, next_caller_is_served, post, recorded
from tests.upstream.support import (
    OK,
    Step,
    eventually,
    says,
    says_and_closes,
    says_and_resets,
    says_nothing,
)
from tests.worker.support import proxy
from tests.worker.wire import ask, request, wire

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
FAST = {"response_timeout": 0.3}
RESET = (502, "upstream_reset", b"connection_terminated")
SILENT = (504, "upstream_timeout", b"connection_read_timeout")


def _sends(method: str, target: bytes = b"/open/a") -> bytes:
    return request(method.encode(), target, body=b"{}" if method in {"POST", "PUT", "PATCH"} else b"")


def closed_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        (says_and_resets(b""), RESET),
        (says_and_closes(b""), RESET),
        (says_and_resets(b"HTTP/1.1 200 OK\r\nX-Half"), RESET),
        (says_and_closes(b"HTTP/1.1 200"), RESET),
        (says_nothing, SILENT),
        (says(b"HTTP/1.1 200 OK\r\nX-Half"), SILENT),
    ],
    ids=["reset", "close", "half a head, reset", "half a head, close", "silence", "half a head, silence"],
)
async def test_a_request_whose_answer_does_not_come_is_sent_once(
    tmp_path: Path, method: str, fate: Step, outcome: tuple[int, str, bytes]
) -> None:
    """For every method: the outcome is unknown, not retryable, sent once, and the next caller is served (76, 80)."""
    status, code, kind = outcome
    async with proxy(tmp_path, fate, says(OK), upstream=FAST) as it:
        reply = await ask(it.port, _sends(method), method=method)
        record = await recorded(it)

        assert reply.status == status
        assert reply.header(b"Proxy-Status") == b'payproxy; error=%b; details="%b"' % (kind, code.encode())
        assert (record["code"], record["sent_upstream"], record["status"]) == (code, "unknown", status)
        if method != "HEAD":
            agrees(reply, record, sent="unknown")
        assert reply.header(b"Connection") == b"keep-alive"
        assert len(it.bank.requests) == 1
        await next_caller_is_served(it)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fate", [says_and_resets(b""), says_and_closes(b"")])
async def test_a_kept_connection_that_breaks_under_a_request_is_no_reason_to_send_it_again(
    tmp_path: Path, method: str, fate: Step
) -> None:
    """The second request on one connection meets its end: 502 unknown, and the bank has seen it once (77)."""
    async with proxy(tmp_path, says(OK), fate, says(OK)) as it:
        assert (await ask(it.port, _sends(method))).status == 200
        reply = await ask(it.port, _sends(method))
        agrees(reply, await recorded(it, 2), sent="unknown")

        assert reply.problem["code"] == "upstream_reset"
        assert [sent.connection for sent in it.bank.requests] == [1, 1]
        await next_caller_is_served(it)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_kept_connection_that_the_bank_has_closed_is_not_used(tmp_path: Path, method: str) -> None:
    """Its end was seen while it was idle: the next request goes out on a new one (78)."""
    async with proxy(tmp_path, says(OK)) as it:
        assert (await ask(it.port, _sends(method))).status == 200
        it.bank.peers[0].writer.close()
        await it.bank.peers[0].writer.wait_closed()
        assert (await ask(it.port, _sends(method))).status == 200
        assert [sent.connection for sent in it.bank.requests] == [1, 2]


@pytest.mark.parametrize("status", [400, 408, 421, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_an_error_of_the_bank_is_passed_on_and_not_tried_again(tmp_path: Path, method: str, status: int) -> None:
    """Status, headers and body are the bank's, Retry-After too (79)."""
    theirs = answer(status, b"Retry-After: 7", b"Content-Type: text/plain", body=b"theirs")
    async with proxy(tmp_path, says(theirs), says(OK)) as it:
        reply = await ask(it.port, _sends(method))
        record = await recorded(it)

        assert (reply.status, reply.reason, reply.body) == (status, b"Its Reason", b"theirs")
        assert reply.header(b"Retry-After") == b"7"
        assert (record["sent_upstream"], record["origin"], record["code"]) == ("yes", "bank", "")
        assert len(it.bank.requests) == 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_bank_that_is_not_there_gets_nothing(tmp_path: Path, method: str) -> None:
    """Refused connections: 502, certainly not sent, worth another try (75)."""
    async with proxy(tmp_path, port=closed_port()) as it:
        reply = await ask(it.port, _sends(method), method=method)
        record = await recorded(it)

        assert reply.status == 502
        assert (record["code"], record["sent_upstream"]) == ("upstream_unreachable", "no")
        assert str(it.bank.port) not in reply.body.decode()
        if method != "HEAD":
            agrees(reply, record, sent="no")
            assert reply.problem["retryable"] is True
        assert record["attempts"] == []


async def test_a_name_without_address_gets_nothing(tmp_path: Path) -> None:
    """DNS fails: 502, not sent (75)."""

    def no_name(host: str, _: int) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")

    async with proxy(tmp_path, upstream={"host": "bank.invalid"}) as it:
        it.gateway.pools["bank"]._opener._resolver = Resolver("bank.invalid", 1, clock=SystemClock(), lookup=no_name)
        reply = await ask(it.port, post())

        agrees(reply, await recorded(it), sent="no")
        assert (reply.status, reply.problem["code"]) == (502, "upstream_unreachable")


async def test_of_two_addresses_the_one_that_lives_gets_the_request_once(tmp_path: Path) -> None:
    """Only connecting is tried again (96)."""
    async with proxy(tmp_path, upstream={"host": "bank.test"}) as it:
        dead, alive = ("127.0.0.1", closed_port()), ("127.0.0.1", it.bank.port)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (dead, alive)]
        resolver = Resolver("bank.test", it.bank.port, clock=SystemClock(), lookup=lambda *_: found)
        it.gateway.pools["bank"]._opener._resolver = resolver
        it.keeper.mint(it.key("open"))

        assert (await ask(it.port, post())).status == 200
        assert len(it.bank.requests) == 1


async def test_all_connections_in_use_is_overload_and_nothing_is_sent(tmp_path: Path) -> None:
    """Waiting for a connection is bounded by connect_timeout: 503, not sent."""
    limits = {"max_connections": 1, "connect_timeout": 0.2, "response_timeout": 0.8}
    async with proxy(tmp_path, says_nothing, upstream=limits) as it, wire(it.port) as busy:
        await busy.send(post())
        await eventually(lambda: len(it.bank.requests) == 1)
        reply = await ask(it.port, post())

        agrees(reply, await recorded(it), sent="no")
        assert (reply.status, reply.problem["code"], reply.problem["retryable"]) == (503, "overloaded", True)
        assert int(reply.header(b"Retry-After") or 0) >= 1
        assert len(it.bank.requests) == 1


@pytest.mark.parametrize("held", [True, False])
async def test_an_upload_that_the_bank_does_not_take_ends_in_time(tmp_path: Path, held: bool) -> None:  # noqa: FBT001
    """The bank reads nothing: 504, and what it has got is no complete request (80)."""
    ready = asyncio.Event()

    async def reads_nothing(_: object) -> None:
        await ready.wait()

    size = 1_000_000 if held else 20_000_000
    async with proxy(tmp_path, reads_nothing, early=True, upstream=FAST) as it, wire(it.port) as caller:
        upload = asyncio.create_task(caller.send(post(body=bytes(size))))
        reply = await caller.answer()
        agrees(reply, await recorded(it), sent="unknown")

        assert (reply.status, reply.problem["code"]) == (504, "upstream_timeout")
        assert (it.bank.heads, it.bank.connections) == (1, 1)
        upload.cancel()
        await asyncio.wait([upload])
        ready.set()


async def test_an_answer_in_drops_is_served(tmp_path: Path) -> None:
    """A head that comes byte by byte, within the time for each wait (92)."""

    async def drips(peer: object) -> None:
        for byte in OK:
            await says(bytes([byte]))(peer)  # type: ignore[arg-type]
            await asyncio.sleep(0.002)

    async with proxy(tmp_path, drips) as it:
        reply = await ask(it.port, post())
        assert (reply.status, reply.body) == (200, b"ok")


@pytest.mark.parametrize("body", [gzip.compress(b"text" * 100, mtime=0), b"\x1f\x8b no gzip at all"])
async def test_a_compressed_answer_is_not_touched(tmp_path: Path, body: bytes) -> None:
    """Good or bad, its bytes are the caller's (87)."""
    async with proxy(tmp_path, says(answer(200, b"Content-Encoding: gzip", body=body))) as it:
        reply = await ask(it.port, request(b"GET"))
        assert (reply.body, reply.header(b"Content-Encoding")) == (body, b"gzip")


async def test_a_connection_to_a_caller_lives_through_the_banks_faults(tmp_path: Path) -> None:
    """Each failure is answered on one connection, in order."""
    async with (
        proxy(tmp_path, says_and_resets(b""), says(OK), says_and_closes(b""), says(b"x\r\n\r\n"), says(OK)) as it,
        wire(it.port) as caller,
    ):
        assert [(await exchanged(caller, post())).status for _ in range(5)] == [502, 200, 502, 502, 200]
        assert len(it.bank.requests) == 5
