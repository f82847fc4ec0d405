"""A refusal whose second send can't be made: the bank's own 401 is the caller's."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from proxy.link.messages import RefusalAnswer
from tests.forwarding.support import (
    REFUSED,
    afterwards,
    answer,
    bearer,
    callers_are,
    exchanged,
    post,
    recorded,
    refusals,
    replays,
)
from tests.records.faults import SlowDisk
from tests.upstream.support import OK, Peer, eventually, says
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.wire import Reply, ask, request, wire


def _is_the_banks_own(reply: Reply, note: str) -> None:
    assert (reply.status, reply.reason, reply.body) == (401, b"Its Reason", b"refused")
    assert reply.header(b"WWW-Authenticate") == b'Bearer error="invalid_token"'
    assert reply.header(b"Proxy-Status") == f'payproxy; received-status=401; details="{note}"'.encode()


@pytest.mark.parametrize("outcome", ["kept", "failed"])
async def test_without_a_newer_token_the_banks_401_is_handed_on(tmp_path: Path, outcome: str) -> None:
    """The budget is spent or the mint failed: one send, and the record says why there was no second."""
    async with proxy(tmp_path, says(REFUSED)) as it:
        it.keeper.answer = outcome
        reply = await ask(it.port, post())
        record = await recorded(it)

        _is_the_banks_own(reply, "no_newer_token")
        assert (record["status"], record["origin"], record["note"]) == (401, "bank", "no_newer_token")
        assert (record["replayed"], record["sent_upstream"], len(record["attempts"])) == (False, "no", 1)
        assert len(it.bank.requests) == 1
        assert (refusals(it), replays(it)) == ([1], [])


async def test_a_keeper_that_never_answers_does_not_hold_the_exchange_beyond_its_time(tmp_path: Path) -> None:
    """After exchange_timeout the caller gets the bank's 401."""
    async with proxy(tmp_path, says(REFUSED), server={"exchange_timeout": 0.5}) as it:
        it.keeper.answer = ""
        started = asyncio.get_running_loop().time()
        reply = await ask(it.port, post())

        assert asyncio.get_running_loop().time() - started > 0.4
        _is_the_banks_own(reply, "no_newer_token")
        assert len(it.bank.requests) == 1


async def test_a_token_given_up_without_a_new_one_is_used_by_nobody(tmp_path: Path) -> None:
    """The mint failed: the next request gets token_refused at once and is not sent with the old token."""
    async with proxy(tmp_path, says(REFUSED)) as it:
        it.keeper.answer = ""
        async with wire(it.port) as caller:
            await caller.send(post())
            await eventually(lambda: refusals(it) == [1])
            it.keeper.failure(it.key("open"), "token_refused")
            it.gateway.tokens.on_answer(RefusalAnswer(it.keeper.received[0].ask, "failed"))
            _is_the_banks_own(await caller.answer(), "no_newer_token")
            reply = await exchanged(caller, post())

        assert (reply.status, reply.problem["code"], reply.problem["sent_upstream"]) == (502, "token_refused", "no")
        assert len(it.bank.requests) == 1


async def test_a_second_intent_that_cannot_be_written_forbids_the_second_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails after the first send: the bank's 401 is handed on, nothing more is sent."""
    disk = SlowDisk(monkeypatch)

    async def refuses_and_breaks_the_disk(peer: Peer) -> None:
        disk.error = OSError(5, "Input/output error")
        await peer.send(REFUSED)

    async with proxy(tmp_path, refuses_and_breaks_the_disk, says(OK)) as it:
        reply = await ask(it.port, post())

        exchange = await it.ended()
        _is_the_banks_own(reply, "log_unavailable")
        assert [attempt.sent for attempt in exchange.attempts] == ["yes", "no"]
        assert (exchange.replayed, exchange.sent_upstream) == (False, "no")
        assert len(it.bank.requests) == 1
        disk.error = None
        record = await recorded(it)
        assert (record["id"], record["note"]) == (exchange.id, "log_unavailable")


async def test_a_second_connection_that_cannot_be_had_forbids_the_second_send(tmp_path: Path) -> None:
    """The bank refuses the token, closes, and is gone: its 401 is handed on."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            server.close()
            writer.write(REFUSED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy(tmp_path, port=server.sockets[0].getsockname()[1]) as it:
        reply = await ask(it.port, request(b"DELETE", b"/open/pay"))
        record = await recorded(it)

        _is_the_banks_own(reply, "upstream_unreachable")
        assert (len(record["attempts"]), record["replayed"], record["sent_upstream"]) == (1, False, "no")
        assert len(heads) == 1
    await server.wait_closed()


async def test_no_free_connection_forbids_the_second_send(tmp_path: Path) -> None:
    """The first answer, still coming, holds the only connection: after connect_timeout it is handed on whole."""
    ready = asyncio.Event()
    large = answer(401, body=bytes(100_000))
    step = afterwards(large[:-50_000], large[-50_000:], ready=ready)
    limits = {"max_connections": 1, "connect_timeout": 0.2}
    async with proxy(tmp_path, step, says(OK), upstream=limits) as it, wire(it.port) as caller:
        await caller.send(post())
        await eventually(lambda: len(refusals(it)) == 1)
        ready.set()
        reply = await caller.answer()

        assert (reply.status, len(reply.body), reply.cut) == (401, 100_000, False)
        assert reply.header(b"Proxy-Status") == b'payproxy; received-status=401; details="overloaded"'
        assert len(it.bank.requests) == 1


async def _leaves_while_minting(it: Proxy, sends: bytes) -> None:
    it.keeper.answer = ""
    async with wire(it.port) as caller:
        await caller.send(sends)
        await eventually(lambda: refusals(it) == [1])
        caller.leave()
        await callers_are(it, 0)
        it.keeper.mint(it.key("open"))
        it.gateway.tokens.on_answer(RefusalAnswer(it.keeper.received[0].ask, "replaced"))
        await it.ended()


@pytest.mark.parametrize("method", [b"POST", b"GET"])
async def test_a_caller_that_leaves_while_a_token_is_minted_is_not_sent_again(tmp_path: Path, method: bytes) -> None:
    """There is nobody to answer: one send, and the record says that the caller left."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        await _leaves_while_minting(it, request(method, b"/open/pay"))
        record = await recorded(it)

        assert (record["caller_left"], record["replayed"], record["sent_upstream"]) == (True, False, "no")
        assert [attempt["status"] for attempt in record["attempts"]] == [401]
        assert len(it.bank.requests) == 1
        assert (await ask(it.port, post())).status == 200
        assert bearer(it.last.head) == token_of("open", 2)


async def test_a_caller_that_leaves_while_a_token_is_minted_disturbs_nobody(tmp_path: Path) -> None:
    """The connection of its first send serves another request by then, which must not be cut off."""
    ready = asyncio.Event()
    async with (
        proxy(tmp_path, says(REFUSED), afterwards(b"", OK, ready=ready), upstream={"max_connections": 1}) as it,
        wire(it.port) as other,
        wire(it.port) as leaving,
    ):
        it.keeper.answer = ""
        await leaving.send(request(b"GET", b"/open/a"))
        await eventually(lambda: refusals(it) == [1])
        await other.send(request(b"GET", b"/closed/b"))
        await eventually(lambda: len(it.bank.requests) == 2)
        leaving.leave()
        await callers_are(it, 1)
        ready.set()

        assert (await other.answer()).status == 200
        it.gateway.tokens.on_answer(RefusalAnswer(it.keeper.received[0].ask, "failed"))
        await it.ended(2)
