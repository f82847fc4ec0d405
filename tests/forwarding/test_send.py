"""What counts as sent: nothing until the first byte is handed to a connected socket."""

import asyncio
from pathlib import Path

import pytest

from tests.forwarding.support import afterwards, agrees, callers_are, post, recorded
from tests.upstream.support import OK, eventually, says
from tests.worker.support import proxy
from tests.worker.wire import ask, request, wire

UNFINISHED = b"POST /small/pay HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


async def test_a_streamed_upload_that_never_begins_is_not_sent(tmp_path: Path) -> None:
    """The head waits for the first piece: a caller that leaves before it has sent nothing to the bank."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(UNFINISHED)
        await eventually(lambda: it.gateway.admission.in_flight == 1)
        caller.leave()
        record = await recorded(it)

        assert (record["sent_upstream"], record["caller_left"], record["status"]) == ("no", True, 0)
        assert it.untouched
        assert (await ask(it.port, request(b"GET"))).status == 200


async def test_heads_without_a_body_hold_no_connection(tmp_path: Path) -> None:
    """Callers that announce uploads and send nothing keep no other from the bank."""
    async with proxy(tmp_path, upstream={"max_connections": 1, "connect_timeout": 0.5}) as it, wire(it.port) as caller:
        await caller.send(UNFINISHED)
        await eventually(lambda: it.gateway.admission.in_flight == 1)

        assert (await ask(it.port, request(b"GET"))).status == 200


async def test_a_streamed_upload_that_breaks_off_leaves_its_outcome_unknown(tmp_path: Path) -> None:
    """Part of it was handed over; the bank never sees a complete request."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(UNFINISHED + bytes(500))
        await eventually(lambda: it.bank.heads == 1)
        caller.leave()
        record = await recorded(it)

        assert (record["sent_upstream"], record["caller_left"], record["replayed"]) == ("unknown", True, False)
        await eventually(it.bank.peers[0].writer.is_closing)
        assert it.bank.requests == []
        assert (await ask(it.port, request(b"GET"))).status == 200


async def test_a_request_whose_time_is_up_before_it_has_a_connection_is_not_sent(tmp_path: Path) -> None:
    """The exchange's time ends while it waits: 502, not sent, and the connection serves the next."""
    ready = asyncio.Event()
    async with (
        proxy(
            tmp_path,
            afterwards(b"", OK, ready=ready),
            says(OK),
            upstream={"max_connections": 1},
            server={"exchange_timeout": 0.5},
        ) as it,
        wire(it.port) as busy,
        wire(it.port) as late,
    ):
        await late.send(UNFINISHED.replace(b"small", b"open"))
        await eventually(lambda: it.gateway.admission.in_flight == 1)
        await asyncio.sleep(0.3)
        await busy.send(request(b"GET"))
        await eventually(lambda: len(it.bank.requests) == 1)
        await late.send(bytes(1000))
        await asyncio.sleep(0.3)
        ready.set()
        reply = await late.answer()

        agrees(reply, await recorded(it, 2), sent="no")
        assert (reply.status, reply.problem["retryable"]) == (502, True)
        assert (await busy.answer()).status == 200
        assert (await ask(it.port, request(b"GET"))).status == 200
        assert [sent.connection for sent in it.bank.requests] == [1, 1]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_read_whose_caller_leaves_is_cut_off_at_the_bank(tmp_path: Path, method: bytes) -> None:
    """It changes nothing there: the connection is closed at once."""
    async with proxy(tmp_path, afterwards(b"", ready=asyncio.Event())) as it, wire(it.port) as caller:
        await caller.send(request(method))
        await eventually(lambda: len(it.bank.requests) == 1)
        caller.leave()
        record = await recorded(it)

        assert (record["caller_left"], record["sent_upstream"]) == (True, "unknown")
        await eventually(it.bank.peers[0].writer.is_closing)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
async def test_anything_else_is_finished_without_its_caller(tmp_path: Path, method: bytes) -> None:
    """Its answer is in the record, and the connection is used again."""
    ready = asyncio.Event()
    async with proxy(tmp_path, afterwards(b"", OK, ready=ready), says(OK)) as it, wire(it.port) as caller:
        await caller.send(request(method, b"/open/pay"))
        await eventually(lambda: len(it.bank.requests) == 1)
        caller.leave()
        await callers_are(it, 0)
        ready.set()
        record = await recorded(it)

        assert (record["caller_left"], record["sent_upstream"], record["status"]) == (True, "yes", 200)
        assert (await ask(it.port, post())).status == 200
        assert [sent.connection for sent in it.bank.requests] == [1, 1]
