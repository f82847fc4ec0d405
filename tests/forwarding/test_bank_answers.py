"""Answers that are good HTTP (bad-inputs 88 to 93, 98, 99): handed on as they are, acted on by nobody, kept apart."""

import asyncio
import base64
from pathlib import Path

import pytest

from tests.forwarding.support import answer, exchanged, next_caller_is_served, post, recorded
from tests.upstream.support import OK, Peer, Step, eventually, says, says_and_closes, says_and_resets
from tests.worker.support import proxy, token_of
from tests.worker.wire import ask, request, wire

ANOTHER = answer(200, body=b"a stranger's")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("location", [b"/elsewhere", b"next?a=b", b"https://other.example/steal", b"//other.example/"])
async def test_a_redirect_is_the_callers(tmp_path: Path, status: int, method: bytes, location: bytes) -> None:
    """Not followed, Location not rewritten, the token sent to nobody else (88)."""
    async with proxy(tmp_path, says(answer(status, b"Location: " + location)), says(OK)) as it:
        reply = await ask(it.port, request(method, body=b"{}" if method == b"POST" else b""))

        assert (reply.status, reply.header(b"Location")) == (status, location)
        assert (len(it.bank.requests), it.bank.connections) == (1, 1)


async def test_headers_that_clients_act_on_are_passed_on_and_not_acted_on(tmp_path: Path) -> None:
    """Alt-Svc, HSTS, Refresh, Link: order and spelling stay, and the next request goes where it always goes (98)."""
    lines = (
        b'alt-svc: h3=":443"; ma=86400',
        b"Strict-Transport-Security: max-age=31536000",
        b"Refresh: 0; url=https://other.example/",
        b"Link: <https://other.example>; rel=preload",
        b"X-Twice: 1",
        b"x-twice: 2",
        b"X-Empty: ",
    )
    async with proxy(tmp_path, says(answer(200, *lines, body=b"ok")), says(OK)) as it:
        reply = await ask(it.port, post())

        given = [tuple(line.split(b": ", 1)) for line in lines]
        assert list(reply.lines[: len(given)]) == given
        await next_caller_is_served(it)


async def test_cookies_belong_to_the_caller_that_got_them(tmp_path: Path) -> None:
    """They pass, are kept nowhere, and reach no other caller's request (93)."""
    cookies = answer(200, b"Set-Cookie: session=first; Path=/", b"Set-Cookie: other=1", body=b"ok")
    async with proxy(tmp_path, says(cookies), says(OK)) as it, wire(it.port) as first:
        reply = await exchanged(first, post())
        assert [value for name, value in reply.lines if name == b"Set-Cookie"] == [
            b"session=first; Path=/",
            b"other=1",
        ]
        assert (await exchanged(first, post())).status == 200
        assert (await ask(it.port, post())).status == 200
        assert (await ask(it.port, post(b"/open/pay", b"Cookie: session=mine"))).status == 200

        heads = [request.head for request in it.bank.requests]
        assert [b"ookie" in head for head in heads] == [False, False, False, True]
        assert b"\r\nCookie: session=mine\r\n" in heads[3]
        assert {request.connection for request in it.bank.requests} == {1}


async def test_our_token_comes_back_in_no_header(tmp_path: Path) -> None:
    """A bank, or what stands before it, that echoes what it got: the value is struck out, the rest stays (98, 99)."""
    token = token_of("open").encode()
    echo = b"\r\n".join(
        [
            b"HTTP/1.1 200 Got " + token,
            b"X-Debug: Authorization=Bearer " + token + b", and " + token,
            b"Location: https://bank.example/cb#access_token=" + token,
            b"X-Plain: " + token[:-1],
            b"request-id: of " + token,
            b"Content-Length: 2",
            b"",
            b"ok",
        ]
    )
    async with proxy(tmp_path, says(echo), request_log={"index_answer_headers": ("request-id",)}) as it:
        reply = await ask(it.port, post())
        record = await recorded(it)

        assert reply.header(b"X-Debug") == b"Authorization=Bearer ***, and ***"
        assert reply.header(b"Location") == b"https://bank.example/cb#access_token=***"
        assert reply.header(b"X-Plain") == token[:-1]
        assert reply.reason == b"Got ***"
        assert record["answer_index"] == {"request-id": "of ***"}
        assert token.decode() not in str(record)


async def test_a_body_is_never_changed(tmp_path: Path) -> None:
    """Not even for our token in it: the bank's answer is the caller's."""
    body = b'{"echo": "Bearer ' + token_of("open").encode() + b'"}' + base64.b64encode(bytes(1000))
    async with proxy(tmp_path, says(answer(200, body=body))) as it:
        assert (await ask(it.port, post())).body == body


async def test_hop_by_hop_headers_of_the_bank_end_here(tmp_path: Path) -> None:
    """Connection and what it names, Keep-Alive, Proxy-Authenticate, Upgrade, Trailer (RFC 9110 7.6.1)."""
    lines = (
        b"Connection: keep-alive, X-Private",
        b"X-Private: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"Upgrade: h2c",
        b"Payproxy-Request-Id: forged",
        b"X-Stays: 1",
    )
    async with proxy(tmp_path, says(answer(200, *lines))) as it:
        reply = await ask(it.port, request(b"GET"))
        names = [name for name, _ in reply.lines]

        ours = [b"Payproxy-Request-Id", b"Proxy-Status", b"Connection", b"Keep-Alive"]
        assert names == [b"X-Stays", b"Content-Length", *ours]
        assert (reply.header(b"Connection"), reply.header(b"Keep-Alive")) == (b"keep-alive", b"timeout=120")
        assert reply.header(b"Payproxy-Request-Id") != b"forged"


@pytest.mark.parametrize(
    ("method", "first"),
    [
        ("GET", answer(200, body=b"mine") + ANOTHER),
        ("GET", answer(200, body=b"mine") + b"late bytes"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody of HEAD"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + ANOTHER),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nabcde"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + ANOTHER),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n" + ANOTHER),
    ],
    ids=["another answer", "junk", "HEAD", "204", "304", "no body", "chunks"],
)
@pytest.mark.parametrize("apart", [False, True])
async def test_what_the_bank_sends_too_much_reaches_nobody(
    tmp_path: Path,
    method: str,
    first: bytes,
    apart: bool,  # noqa: FBT001 - pytest passes by name
) -> None:
    """In the same segment or later: the caller has its own answer, the next one another connection (89)."""

    async def step(peer: Peer) -> None:
        at = first.index(b"\r\n\r\n") + 4 if apart else len(first)
        await peer.send(first[:at])
        if apart:
            await asyncio.sleep(0.03)
            await peer.send(first[at:])

    async with proxy(tmp_path, step, says(OK)) as it:
        reply = await ask(it.port, request(method.encode()), method=method)
        assert reply.status in {200, 204, 304}
        assert reply.body in {b"", b"mine"}
        if apart:
            await asyncio.sleep(0.06)
        for _ in range(3):
            assert (await next_caller_is_served(it)).body == b"ok"
        assert [sent.connection for sent in it.bank.requests] == [1, 2, 2, 2]


@pytest.mark.parametrize("late", [ANOTHER, answer(408), b"\r\n", b"\0"])
async def test_what_comes_on_an_idle_connection_is_no_answer(tmp_path: Path, late: bytes) -> None:
    """A 408 before closing, a late answer: the next request goes out on another connection (89)."""
    async with proxy(tmp_path, says(OK)) as it:
        assert (await ask(it.port, post())).status == 200
        await it.bank.peers[0].send(late)
        assert (await next_caller_is_served(it)).body == b"ok"
        assert it.last.connection == 2


@pytest.mark.parametrize("count", [1, 5])
async def test_interim_answers_are_swallowed(tmp_path: Path, count: int) -> None:
    """100, 102 and 103 are not for the caller, nor is one send two (90)."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * count
    async with proxy(tmp_path, says(interim + OK)) as it:
        reply = await ask(it.port, post())
        assert (reply.status, reply.body) == (200, b"ok")
        assert reply.header(b"Link") is None
        assert len(it.bank.requests) == 1


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (says_and_closes(answer(413, b"Connection: close", body=b"too large")), 413),
        (says(answer(200, body=b"enough")), 200),
        (says_and_resets(answer(403, body=b"no")), 403),
        (says_and_resets(b""), 502),
        (says_and_closes(b""), 502),
    ],
    ids=["413 and close", "200 and stays", "403 and reset", "reset", "close"],
)
@pytest.mark.parametrize("size", [1_000_000, 30_000_000])
async def test_an_answer_before_the_upload_ends_is_the_callers(
    tmp_path: Path, step: Step, status: int, size: int
) -> None:
    """Held or streamed: the rest is not sent, the answer handed on, the connection not used again (91)."""
    async with proxy(tmp_path, step, says(OK), early=True) as it, wire(it.port) as caller:
        upload = asyncio.create_task(caller.send(post(body=bytes(size))))
        reply = await caller.answer()
        record = await recorded(it)

        assert reply.status == status
        assert record["sent_upstream"] == ("unknown" if status == 502 else "yes")
        assert it.bank.heads == 1
        assert (await ask(it.port, request(b"GET"))).status == 200
        assert (it.bank.heads, it.bank.connections) == (2, 2)
        upload.cancel()
        await asyncio.wait([upload])


async def test_a_large_answer_flows_while_its_caller_reads(tmp_path: Path) -> None:
    """19 MB arrive byte for byte, in chunks too, and the connection is used again."""
    body = bytes(range(256)) * 76_800
    chunks = b"".join(b"%x\r\n%b\r\n" % (65536, body[at : at + 65536]) for at in range(0, len(body), 65536))
    counted = answer(200, body=body)
    in_chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    async with proxy(tmp_path, says(counted), says(in_chunks), says(OK)) as it, wire(it.port) as caller:
        for _ in range(2):
            reply = await exchanged(caller, request(b"GET"))
            assert (reply.body == body, reply.cut) == (True, False)
        await eventually(lambda: len(it.ledger.ended) == 2)
        await next_caller_is_served(it)
        assert it.last.connection == 1
