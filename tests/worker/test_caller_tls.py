"""Callers over TLS: strangers in the handshake, records in any pieces, and every way to end a connection."""

import asyncio
import gc
import hashlib
import logging
import os
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.worker.caller_tls import MOST_DATALESS, CallerTls
from tests.support.clock import ManualClock
from tests.upstream.certificates import Authority
from tests.upstream.support import OK, Peer, eventually, says
from tests.worker.support import Proxy, proxy
from tests.worker.test_listener_leaving import Gate
from tests.worker.timeouts import HASTE, timeouts
from tests.worker.tls import (
    SYSTEM,
    OpenSsl,
    below,
    client_context,
    listening,
    openssl_wire,
    product_context,
    tls_ask,
    tls_wire,
)
from tests.worker.wire import Wire, chunked, request, wire

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
ALERT, HANDSHAKE = 0x15, 0x16  # RFC 8446 5.1: types of records
MEGABYTES = 100
MOST_UPDATES = 20_000  # of 27 bytes: half a megabyte


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority of the listener and of callers."""
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> ssl.SSLContext:
    """The listener's context."""
    return product_context(authority.identity("server"))


async def nothing_is_left(it: Proxy) -> None:
    """Wait until no connection is open or in its handshake."""
    await eventually(lambda: (it.server.open_connections, it.server.handshakes) == (0, 0))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_handshake_that_comes_byte_by_byte(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """And a request whose records do."""
    context = client_context(authority, version=version)
    async with proxy(tmp_path) as it, listening(it, server) as port, below(port, context) as caller:
        while not caller.shaken():
            await caller.raw.drip(caller.records())
            await caller.hear()
        await caller.raw.drip(caller.records(request()))
        assert (await caller.read(12)) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "garbage",
    [
        request(),
        bytes(100),
        os.urandom(3_000_000),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x03\x00\x02\x01\x00",
    ],
    ids=["plain HTTP", "zeros", "megabytes", "a bad ClientHello", "an alert"],
)
async def test_who_does_not_speak_tls_gets_no_more_than_an_alert(
    server: ssl.SSLContext, tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged, nothing is left, and the next caller is served."""
    caplog.set_level(logging.DEBUG)
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with wire(port) as caller:
            await caller.send(garbage)
            answer = await caller.closed()
        assert answer == b"" or (answer[0] == ALERT and len(answer) == 7)
        await nothing_is_left(it)
        assert not it.ledger.ended
    assert [one for one in caplog.records if one.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("trickling", [False, True])
async def test_a_handshake_has_one_deadline(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, *, trickling: bool
) -> None:
    """Which bytes that come do not move."""
    async with proxy(tmp_path, timeouts=timeouts(handshake=HASTE)) as it, listening(it, server) as port:
        async with below(port, client_context(authority)) as caller:
            assert not caller.shaken()
            hello = caller.records()
            closed = asyncio.ensure_future(caller.raw.closed())
            at = 0
            while not closed.done():
                if trickling and at < len(hello) - 1 and not caller.raw.writer.is_closing():
                    caller.raw.writer.write(hello[at : at + 1])
                    at += 1
                await asyncio.sleep(HASTE / 100)
            assert await closed == b""
        await nothing_is_left(it)


async def test_many_megabytes_before_the_handshake_is_over_are_not_kept(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """A ClientHello of more than OpenSSL takes is refused at its head, whatever follows."""
    async with proxy(tmp_path) as it, listening(it, server) as port, wire(port) as caller:
        head = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff"
        await caller.send(head + bytes(16380), *[b"\x16\x03\x01\x40\x00" + bytes(16384) for _ in range(100)])
        await caller.closed()
        await nothing_is_left(it)
        assert (await tls_ask(port, client_context(authority), request())).status == 200


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
@pytest.mark.parametrize("sent", [0, 1, 100, -1], ids=["nothing", "a byte", "a part", "a ClientHello"])
async def test_who_leaves_in_the_handshake_leaves_nothing(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, how: str, sent: int
) -> None:
    """Nor does it disturb others."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with below(port, client_context(authority)) as caller:
            assert not caller.shaken()
            hello = caller.records()
            await caller.raw.send(hello[:sent] if sent >= 0 else hello)
            if sent < 0:
                assert (await caller.hear())[0] == HANDSHAKE
            await eventually(lambda: it.server.handshakes == 1)
            {"close": caller.raw.leave, "half-close": caller.raw.half_close, "reset": caller.raw.reset}[how]()
            await nothing_is_left(it)
        assert (await tls_ask(port, client_context(authority), request())).status == 200


async def test_the_ticket_and_the_answer_come_in_one_send(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """One flight of the handshake, and one segment with the ticket and the answer: two sends a connection."""
    context = client_context(authority)
    async with proxy(tmp_path) as it, listening(it, server) as port, below(port, context) as caller:
        await caller.shake()
        await caller.send(request(b"GET", b"/open/a"))
        assert (await caller.read(12)) == b"HTTP/1.1 200"
        assert len(caller.segments) == 2
        assert caller.tls.session is not None
        assert caller.tls.session.has_ticket


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_resumed(authority: Authority, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """With the caller's certificate, which identifies it also then."""
    server = product_context(authority.identity("server"), client_authority=authority.own)
    context = client_context(authority, version=version)
    context.load_cert_chain(authority.identity("erp").file)
    session = None
    async with proxy(tmp_path) as it, listening(it, server) as port:
        for number in range(3):
            async with below(port, context, session=session) as caller:
                await caller.shake()
                await caller.send(request())
                assert (await caller.read(12)) == b"HTTP/1.1 200"
                assert caller.tls.session_reused == (number > 0)
                assert [one.certificate_subject for one in it.server.connections] == ["CN=erp"]
                session = caller.tls.session
            await nothing_is_left(it)


async def served(
    port: int, context: ssl.SSLContext, *, session: ssl.SSLSession | None = None
) -> tuple[bytes, ssl.SSLSession | None]:
    """Send a request on a connection that resumes *session*; return the answer's begin, and the next session."""
    async with below(port, context, session=session) as caller:
        await caller.shake()
        assert caller.tls.session_reused == (session is not None)
        await caller.send(request())
        return await caller.read(12), caller.tls.session


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_ends_with_the_callers_certificate(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """OpenSSL looks at a certificate when a session begins; each resumption would give a ticket for the next."""
    server = product_context(authority.identity("server"), client_authority=authority.own)
    context = client_context(authority, version=version)
    context.load_cert_chain(authority.identity("erp").file)
    clock = ManualClock(SYSTEM.now())
    async with proxy(tmp_path) as it, listening(it, server, clock=clock) as port:
        answer, session = await served(port, context)
        assert answer == b"HTTP/1.1 200"
        await nothing_is_left(it)
        refused: list[str] = []
        it.server.certificate_refused = refused.append
        clock.set_wall(SYSTEM.now() + 100 * 366 * 86400)
        answer, _ = await served(port, context, session=session)
        assert answer == b""
        await nothing_is_left(it)
        assert len(it.ledger.ended) == 1
        assert refused == ["expired"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown", ["missing", "not_trusted", "expired"])
async def test_without_the_right_certificate_nobody_is_let_in(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, shown: str
) -> None:
    """An alert, no answer, no record; it is counted, and what else strangers do in a handshake is not."""
    server = product_context(authority.identity("server"), client_authority=authority.own)
    context = client_context(authority, version=version)
    if shown == "not_trusted":
        context.load_cert_chain(Authority(tmp_path, "stranger").identity("erp").file)
    if shown == "expired":
        hour = timedelta(hours=1)
        context.load_cert_chain(authority.identity("erp", starts=-2 * hour, ends=-hour).file)
    refused: list[str] = []
    async with proxy(tmp_path) as it, listening(it, server) as port:
        it.server.certificate_refused = refused.append
        async with wire(port) as stranger:
            await stranger.send(b"GET / HTTP/1.1\r\n\r\n")
            await stranger.closed()
        with pytest.raises((ssl.SSLError, OSError, EOFError)):
            await tls_ask(port, context, request())
        await nothing_is_left(it)
        assert not it.ledger.ended
        assert refused == [shown]


async def test_without_mutual_tls_no_certificate_is_asked_for(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """A caller that has one is served, and has no name."""
    context = client_context(authority)
    context.load_cert_chain(authority.identity("erp").file)
    async with proxy(tmp_path) as it, listening(it, server) as port, tls_wire(port, context) as caller:
        await caller.send(request())
        assert (await caller.answer()).status == 200
        assert [one.certificate_subject for one in it.server.connections] == [""]


async def test_a_new_certificate_is_for_new_connections(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """Those that are open go on."""
    context = client_context(authority)
    async with proxy(tmp_path) as it, listening(it, server) as port, tls_wire(port, context) as first:
        server.load_cert_chain(authority.identity("second").file)
        async with tls_wire(port, context) as second:
            for caller, name in ((first, "server"), (second, "second")):
                assert ((("commonName", name),),) == caller.writer.get_extra_info("peercert")["subject"]
                await caller.send(request())
                assert (await caller.answer()).status == 200


async def test_requests_in_one_record_are_answered_in_order(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """A hundred of them."""

    async def target(peer: Peer) -> None:
        path = it.last.head.split(b" ")[1]
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    context = client_context(authority)
    async with proxy(tmp_path, target) as it, listening(it, server) as port, tls_wire(port, context) as caller:
        await caller.send(b"".join(request(b"GET", b"/open/%d" % number) for number in range(100)))
        assert [(await caller.answer()).body for _ in range(100)] == [b"/open/%d" % number for number in range(100)]


async def test_large_bodies_arrive_as_they_were(authority: Authority, server: ssl.SSLContext, tmp_path: Path) -> None:
    """Up and down, in records of every size."""
    block = os.urandom(1048576)
    wanted = hashlib.sha256()
    for _ in range(MEGABYTES):
        wanted.update(block)

    async def give_back(peer: Peer) -> None:
        length = MEGABYTES * len(block)
        found = hashlib.sha256(it.last.body)
        assert found.digest() == wanted.digest()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        for _ in range(MEGABYTES):
            await peer.send(block)

    context = client_context(authority)
    async with proxy(tmp_path, give_back) as it, listening(it, server) as port, tls_wire(port, context) as caller:
        await caller.send(request(b"PUT", b"/open/a", b"Content-Length: %d" % (MEGABYTES * len(block))))
        for number in range(MEGABYTES):
            size = 1 + number * 1000
            await caller.send(block[:size])
            await caller.send(block[size:])
        head = await caller.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        found, left = hashlib.sha256(), MEGABYTES * len(block)
        while left:
            piece = await caller.reader.read(min(left, 1048576))
            assert piece
            found.update(piece)
            left -= len(piece)
        assert found.digest() == wanted.digest()


async def test_who_does_not_read_holds_little(authority: Authority, server: ssl.SSLContext, tmp_path: Path) -> None:
    """The bank waits with them; once they read, they get all of it."""
    size = 30_000_000
    body = os.urandom(1_000_000) * 30

    context = client_context(authority)
    async with (
        proxy(tmp_path, says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)) as it,
        listening(it, server) as port,
        tls_wire(port, context, limit=4096) as caller,
    ):
        await caller.send(request())
        await eventually(lambda: any(one.write_would_block for one in it.server.connections))
        [connection] = it.server.connections
        assert connection.transport.get_write_buffer_size() < 1_000_000
        answer = await caller.answer()
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


async def test_an_upload_that_nobody_takes_is_held_back(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """Reading pauses while the bank takes nothing, and goes on when it does."""
    gate = asyncio.Event()

    async def takes_late(peer: Peer) -> None:
        await gate.wait()
        rest = 30_000_000
        while rest and (piece := await peer.reader.read(min(rest, 1048576))):
            rest -= len(piece)
        await peer.send(OK)

    context = client_context(authority)
    async with (
        proxy(tmp_path, takes_late, early=True) as it,
        listening(it, server) as port,
        below(port, context) as caller,
    ):
        await caller.shake()
        await caller.send(request(b"PUT", b"/open/a", b"Content-Length: 30000000"))
        pieces = [caller.records(bytes(1_000_000)) for _ in range(30)]
        sending = asyncio.get_running_loop().create_task(caller.raw.send(*pieces))
        await eventually(lambda: any(one._reading_paused for one in it.server.connections))
        assert not sending.done()
        gate.set()
        await sending
        assert (await caller.read(12)) == b"HTTP/1.1 200"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["close_notify", "without", "reset"])
async def test_a_caller_that_leaves_has_left(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, how: str, version: ssl.TLSVersion
) -> None:
    """Whether or not it says so; a payment is finished, and recorded as the bank answers it."""
    gate = Gate()
    context = client_context(authority, version=version)
    async with proxy(tmp_path, gate) as it, listening(it, server) as port:
        async with below(port, context) as caller:
            await caller.shake()
            await caller.send(request(b"POST", b"/open/a", body=b"abc"))
            await gate.asked.wait()
            if how == "close_notify":
                with pytest.raises(ssl.SSLError):
                    caller.tls.unwrap()
                await caller.raw.send(caller.records())
            elif how == "without":
                caller.raw.half_close()
            else:
                caller.raw.reset()
            await nothing_is_left(it)
            gate.go.set()
            exchange = await it.ended()
        assert exchange.caller_left
        assert exchange.status == 200


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_closing_answer_ends_with_close_notify(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """So that the caller knows that nothing was cut off."""
    context = client_context(authority, version=version)
    async with proxy(tmp_path) as it, listening(it, server) as port, below(port, context) as caller:
        await caller.shake()
        await caller.send(request(b"GET", b"/open/a", b"Connection: close"))
        assert (await caller.read(100_000)).endswith(b"\r\n\r\nok")
        assert caller.was_told_the_end()
        await nothing_is_left(it)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_refused_upload_is_answered_before_it_is_over(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """The answer ends with close_notify while the caller still sends; the rest is read and dropped."""
    context = client_context(authority, version=version)
    async with proxy(tmp_path) as it, listening(it, server) as port, below(port, context) as caller:
        await caller.shake()
        head = request(b"PUT", b"/nowhere", b"Transfer-Encoding: chunked")
        await caller.send(head + b"100000\r\n")
        answer = await caller.read(10_000)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert it.server.open_connections == 1
        if version is ssl.TLSVersion.TLSv1_3:
            for _ in range(16):
                await caller.send(bytes(65536))
            await caller.send(chunked(last=b"\r\n0\r\n\r\n"))
        await eventually(lambda: len(it.ledger.ended) == 1)
        caller.raw.leave()
        await nothing_is_left(it)


async def answered(peer: OpenSsl, raw: Wire) -> None:
    """Wait for the whole answer to `request()`."""
    answer = b""
    while b"\r\n\r\nok" not in answer:
        peer.take(await raw.reader.read(65536))
        answer += peer.read()


async def test_renegotiation_is_refused(server: ssl.SSLContext, tmp_path: Path) -> None:
    """A caller could have us sign without end (CVE-2011-1473)."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with openssl_wire(port, OpenSsl.TLS_1_2) as (peer, raw):
            assert peer.write(request())
            await raw.send(peer.give())
            await answered(peer, raw)
            peer.renegotiate()
            await raw.send(peer.give())
            peer.take(await raw.reader.read(65536))
            assert not peer.shake()
        await nothing_is_left(it)


async def test_key_updates_are_answered(server: ssl.SSLContext, tmp_path: Path) -> None:
    """A caller may change its keys, and have us change ours."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with openssl_wire(port, OpenSsl.TLS_1_3) as (peer, raw):
            for _ in range(3):
                peer.demand_key_update()
                assert peer.write(request())
                await raw.send(peer.give())
                await answered(peer, raw)
        await nothing_is_left(it)


async def test_key_updates_after_our_close_notify_are_not_answered(
    server: ssl.SSLContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the rest of an upload is dropped, nothing is written any more."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with openssl_wire(port, OpenSsl.TLS_1_3) as (peer, raw):
            assert peer.write(request(b"PUT", b"/nowhere", b"Transfer-Encoding: chunked") + b"100000\r\n")
            await raw.send(peer.give())
            peer.take(await raw.closed())
            assert peer.read().startswith(b"HTTP/1.1 404 ")
            for _ in range(3):
                peer.demand_key_update()
                assert peer.write(bytes(1000))
                await raw.send(peer.give())
        await nothing_is_left(it)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_who_sends_key_updates_without_end_is_cut_off(server: ssl.SSLContext, tmp_path: Path) -> None:
    """Each costs some 15 us: megabytes of them would stop the loop, and 24 such callers once stopped a worker."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with openssl_wire(port, OpenSsl.TLS_1_3) as (peer, raw):
            await eventually(lambda: it.server.open_connections == 1)
            for _ in range(MOST_UPDATES):
                peer.demand_key_update()
            assert peer.write(request())
            await raw.send(peer.give())
            await eventually(lambda: not it.server.open_connections)
        await nothing_is_left(it)
        assert not it.ledger.ended


async def test_a_caller_may_send_a_few_records_without_data(server: ssl.SSLContext, tmp_path: Path) -> None:
    """Also in one piece with its request, and with a request of a byte in each record."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        async with openssl_wire(port, OpenSsl.TLS_1_3) as (peer, raw):
            for _ in range(MOST_DATALESS):
                peer.demand_key_update()
            for byte in request():
                assert peer.write(bytes([byte]))
            await raw.drip(peer.give(), size=7)
            await answered(peer, raw)
        await nothing_is_left(it)


async def test_a_connection_leaves_nothing_to_the_garbage_collector(
    authority: Authority, server: ssl.SSLContext, tmp_path: Path
) -> None:
    """Nor does a handshake that fails."""
    async with proxy(tmp_path) as it, listening(it, server) as port:
        gc.collect()
        gc.disable()
        try:
            await tls_ask(port, client_context(authority), request())
            async with wire(port) as stranger:
                await stranger.send(request())
                await stranger.closed()
            await nothing_is_left(it)
            await eventually(lambda: not [one for one in gc.get_objects() if isinstance(one, CallerTls)])
        finally:
            gc.enable()
