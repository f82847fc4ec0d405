"""A refusal of a request whose body is not held: it is never sent twice, but the next one has a fresh token."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.forwarding.support import REFUSED, bearer, fingerprints, post, recorded, refusals, replays
from tests.upstream.support import OK, Peer, says
from tests.worker.support import proxy, token_of
from tests.worker.wire import ask, chunked, request, wire

NOT_HELD = b'payproxy; received-status=401; details="body_not_held"'
CHUNKED_HEAD = b"POST /small/pay HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sends",
    [post(b"/small/pay", body=bytes(65)), CHUNKED_HEAD + chunked(bytes(40), bytes(40))],
    ids=["by its length", "in chunks"],
)
async def test_a_larger_body_is_not_sent_twice(tmp_path: Path, sends: bytes) -> None:
    """The 401 is the caller's, record and Proxy-Status say why, and the next request has a newer token."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        reply = await ask(it.port, sends)
        record = await recorded(it)

        assert (reply.status, reply.body) == (401, b"refused")
        assert reply.header(b"Proxy-Status") == NOT_HELD
        assert (record["note"], record["replayed"], record["sent_upstream"]) == ("body_not_held", False, "no")
        assert len(it.bank.requests) == 1
        assert (refusals(it), replays(it)) == ([1], [])
        assert (await ask(it.port, post(b"/small/pay"))).status == 200
        assert bearer(it.last.head) == token_of("small", 2)


async def test_a_body_at_the_limit_is_sent_twice(tmp_path: Path) -> None:
    """The limit itself is still held."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        assert (await ask(it.port, post(b"/small/pay", body=bytes(64)))).status == 200
        assert [request.body for request in it.bank.requests] == [bytes(64)] * 2


@pytest.mark.parametrize("closes", [False, True])
async def test_a_refusal_before_the_upload_is_done_is_handed_on(tmp_path: Path, closes: bool) -> None:  # noqa: FBT001
    """The caller gets the 401 while it sends, the upload is not completed, the next request has a newer token."""
    size = 30_000_000
    got: list[int] = []

    async def refuses_early(peer: Peer) -> None:
        await peer.send(REFUSED)
        if closes:
            peer.writer.close()
        got.append(0)
        with contextlib.suppress(ConnectionError):
            while piece := await peer.reader.read(65536):
                got[0] += len(piece)

    async with proxy(tmp_path, refuses_early, says(OK), early=True) as it, wire(it.port) as caller:
        await caller.send(b"POST /small/pay HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        upload = asyncio.create_task(caller.send(*[bytes(65536)] * 16))
        reply = await caller.answer()
        upload.cancel()
        await asyncio.wait([upload])
        record = await recorded(it)

        assert (reply.status, reply.body, reply.header(b"Connection")) == (401, b"refused", b"close")
        assert reply.header(b"Proxy-Status") == NOT_HELD
        assert (record["note"], refusals(it)) == ("body_not_held", [1])
        assert got[0] < size
        assert it.bank.heads == 1
        assert (await ask(it.port, request(b"GET", b"/small/b"))).status == 200
        assert (await recorded(it, 2))["attempts"][0]["token_fingerprint"] == fingerprints("small", 2)[0]
        assert it.bank.connections == 2


async def test_a_refusal_before_a_held_body_is_sent_is_replayed_whole(tmp_path: Path) -> None:
    """What is held is sent again from its first byte, on another connection."""
    body = bytes(range(256)) * 4000
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        requests.append(b"")
        if len(requests) == 1:
            writer.write(REFUSED)
            await writer.drain()
            while await reader.read(65536):
                pass
        else:
            requests[-1] = await reader.readexactly(len(body))
            writer.write(OK)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy(tmp_path, port=server.sockets[0].getsockname()[1]) as it:
        assert (await ask(it.port, post(body=body))).status == 200
        assert requests == [b"", body]
    server.close()
    await server.wait_closed()
