"""What of a caller's headers reaches the bank (catalogue, section 3), and what of the bank's the caller."""

import gzip
from pathlib import Path

import pytest

from tests.upstream.support import says
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.values import CALLER
from tests.worker.wire import ask, chunked, request, wire


def sent(it: Proxy) -> list[bytes]:
    """Return the header lines that the bank got last, without the three that are ours."""
    first, host, *lines = it.last.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first.endswith(b" HTTP/1.1")
    assert host == b"Host: 127.0.0.1:%d" % it.bank.port
    token = b"Authorization: Bearer " + token_of("open").encode()
    assert lines.count(token) == 1
    assert sum(line.lower().startswith(b"authorization") for line in lines) == 1
    lines.remove(token)
    return [line for line in lines if not line.startswith(b"Content-Length: ")]


REMOVED = [
    b"Connection: close", b"Keep-Alive: timeout=5", b"TE: trailers", b"Trailer: X-Check",
    b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Basic YTpi", b"Proxy-Authenticate: Basic", b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"Authorization: Bearer evil", b"AUTHORIZATION: Bearer evil", b"aUTHORIZATION:Bearer evil",
    b"Authorization: Basic YTpi",
    b"Authorization_: Bearer evil", b"_Authorization: Bearer evil", b"Authorization.: Bearer evil",
    b"Author_ization: Bearer evil", b"X-Payproxy-Key: k", b"X_Payproxy_Key: k", b"Forwarded: for=1.2.3.4",
    b"Via: 1.1 a",
    b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Host: evil", b"X-Forwarded-Proto: https", b"X-Forwarded-Prefix: /a",
    b"X-Forwarded-Anything: a", b"X_Forwarded_For: 1.2.3.4", b"X.Forwarded.For: 1.2.3.4", b"X-Forwarded_Host: evil",
    b"X-Original-URL: /closed", b"X-Rewrite-URL: /closed", b"X_Original_URL: /closed",
    b"X-HTTP-Method-Override: DELETE",
    b"X-Method-Override: DELETE", b"X-HTTP-Method: DELETE", b"X_HTTP_Method_Override: DELETE",
    b"Proxy_Authorization: Basic YTpi", b"Proxy.Connection: a", b"Keep_Alive: a", b"Transfer_Encoding: chunked",
    b"Content_Length: 5", b"Content.Length: 5", b"Host_: evil", b"T_E: trailers",
]  # fmt: skip


@pytest.mark.parametrize("line", REMOVED)
async def test_what_is_not_the_banks_business_is_removed(line: bytes, tmp_path: Path) -> None:
    """Hop-by-hop, rerouting and credential headers, and whatever another server could take for one of them."""
    async with proxy(tmp_path) as it:
        data = request(b"POST", b"/open/a", b"X-Before: 1", line, b"X-After: 2", body=b"abc")
        assert (await ask(it.port, data)).status == 200
        assert sent(it) == [b"X-Before: 1", b"X-After: 2"]
        assert it.last.body == b"abc"


REFUSED = [
    b"Authorization: Bearer a\r\nAuthorization: Bearer b", b"Authorization: Bearer a\r\nauthorization: Basic YTpi",
    b"Authorization: Bearer a\x00b", b"Authorization\x00: Bearer a", b"Authorization: Bearer\r\n evil",
    b"Authorization : Bearer evil", b" Authorization: Bearer evil", b"Authorization\xa0: Bearer evil",
    b"X-Payproxy-Key: a\r\nX-Payproxy-Key: b", b"X-A: b\nAuthorization: Bearer evil",
    b"X-A: b\rAuthorization: Bearer evil",
]  # fmt: skip


@pytest.mark.parametrize("lines", REFUSED)
async def test_authorization_that_is_not_one_plain_line_is_refused(lines: bytes, tmp_path: Path) -> None:
    """Two of them, folded, or hidden behind a control character."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, request(b"GET", b"/open/a", lines))
        assert (reply.status, reply.problem["code"]) == (400, "bad_request")
        assert it.untouched


@pytest.mark.parametrize("value", [b"Bearer a\xffb", b"Bearer caf\xe9", "Bearer \xe9".encode(), b"", b"x" * 5000])
async def test_any_one_authorization_is_replaced(value: bytes, tmp_path: Path) -> None:
    """Whatever it says, the bank sees ours alone."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"GET", b"/open/a", b"Authorization: " + value))).status == 200
        assert sent(it) == []


CONNECTIONS = {
    "custom": ([b"Connection: X-Custom", b"X-Custom: 1", b"X-Other: 2"], [b"X-Other: 2"]),
    "spelled otherwise": ([b"connection: x-custom", b"X-CUSTOM: 1", b"X-Other: 2"], [b"X-Other: 2"]),
    "look-alike": ([b"Connection: X-Custom", b"X_Custom: 1", b"X.Custom: 1", b"X-Other: 2"], [b"X-Other: 2"]),
    "several": ([b"Connection: a, B ,,c", b"A: 1", b"b: 2", b"C: 3", b"D: 4"], [b"D: 4"]),
    "two lines": ([b"Connection: close", b"Connection: a", b"A: 1", b"D: 4"], [b"D: 4"]),
    "authorization": ([b"Connection: authorization", b"D: 4"], [b"D: 4"]),
    "host": ([b"Connection: host, Host", b"D: 4"], [b"D: 4"]),
    "content-length": ([b"Connection: content-length", b"D: 4"], [b"D: 4"]),
    "x-forwarded-for": ([b"Connection: x-forwarded-for", b"X-Forwarded-For: 1", b"D: 4"], [b"D: 4"]),
    "transfer-encoding": ([b"Connection: transfer-encoding", b"D: 4"], [b"D: 4"]),
    "nothing of that name": ([b"Connection: nothing", b"D: 4"], [b"D: 4"]),
    "not its look-alike without hyphen": ([b"Connection: merchant-id", b"merchantId: 1"], [b"merchantId: 1"]),
}


@pytest.mark.parametrize(("lines", "left"), CONNECTIONS.values(), ids=CONNECTIONS)
async def test_connection_names_headers_away_but_not_ours(
    lines: list[bytes], left: list[bytes], tmp_path: Path
) -> None:
    """Host, Authorization, Content-Length and the body stay."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"POST", b"/open/a", *lines, body=b"abc"))).status == 200
        assert sent(it) == left
        assert b"\r\nContent-Length: 3\r\n" in it.last.head
        assert it.last.body == b"abc"


async def test_everything_else_keeps_value_order_and_spelling(tmp_path: Path) -> None:
    """Duplicates, odd cases, empty and 8-bit values, cookies, request ids and a compressed body."""
    lines = [
        b"accept: b", b"Accept: a", b"ACCEPT: c", b"X-Empty: ", b"merchantId: 1", b"merchant-id: 2", b"X-A: a\tb  c",
        b"Cookie: a=b; c=d", b"Cookie: e=f", b"Idempotency-Key: k-1", b"request-id: r", b"X-Latin: caf\xe9",
        "X-Utf: caf\xe9".encode(), b"X-Neither: \xff\xfe", b"User-Agent: legacy/1.0", b"Content-Type: application/json",
        b"Content-Encoding: gzip", b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"1: 2",
        b"x!#$%&'*+-.^_`|~: odd", b"Accept-Encoding: gzip, br", b'X-Quoted: "a, b"; c',
    ]  # fmt: skip
    body = gzip.compress(b'{"amount": 1}')
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"POST", b"/open/a", *lines, body=body))).status == 200
        assert sent(it) == lines
        assert it.last.body == body


async def test_nothing_is_added_for_the_caller(tmp_path: Path) -> None:
    """No User-Agent, Accept, Content-Type, Via or Forwarded of our own."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"POST", b"/open/a", body=b"abc"))).status == 200
        assert sent(it) == []
        assert (await ask(it.port, request())).status == 200
        assert sent(it) == []
        assert b"Content-Length" not in it.last.head


async def test_a_compressed_body_is_not_looked_into(tmp_path: Path) -> None:
    """Invalid gzip passes as it came."""
    async with proxy(tmp_path) as it:
        for body in (b"no gzip at all", gzip.compress(b"x")[:-4], gzip.compress(b"\x00" * 10_000_000)):
            data = request(b"POST", b"/open/a", b"Content-Encoding: gzip", body=body)
            assert (await ask(it.port, data)).status == 200
            assert it.last.body == body


async def test_an_empty_body_keeps_its_length(tmp_path: Path) -> None:
    """Content-Length: 0 is said to the bank too; where nothing was said nothing is."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"POST", b"/open/a", b"Content-Length: 0"))).status == 200
        assert it.last.head.endswith(b"\r\nContent-Length: 0\r\n\r\n")
        coded = request(b"POST", b"/open/a", b"Transfer-Encoding: chunked") + chunked()
        assert (await ask(it.port, coded)).status == 200
        assert it.last.head.endswith(b"\r\nContent-Length: 0\r\n\r\n")
        assert (await ask(it.port, request(b"POST", b"/open/a"))).status == 200
        assert b"Content-Length" not in it.last.head


UPGRADES = {
    "websocket": [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"],
    "h2c as JDK 11 asks": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAAB"], "several": [b"Connection: Upgrade", b"Upgrade: h2c, websocket"],
    "unknown": [b"Connection: upgrade", b"Upgrade: TLS/1.0"],
}  # fmt: skip


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("body", [b"", b"abc"])
@pytest.mark.parametrize("together", [True, False])
async def test_an_upgrade_is_stripped_and_the_request_served(
    lines: list[bytes],
    body: bytes,
    together: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """Its tail is an ordinary request, or the connection ends with the answer; never a hang, never a tunnel."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        first = request(b"POST", b"/open/a", *lines, body=body)
        tail = request(b"GET", b"/open/tail")
        await caller.send(*([first + tail] if together else [first]))
        reply = await caller.answer()
        assert reply.status == 200
        assert reply.header(b"Upgrade") is None
        assert it.bank.requests[0].body == body
        assert not any(b"pgrade" in line or b"HTTP2" in line for line in it.bank.requests[0].head.split(b"\r\n"))
        if reply.header(b"Connection") == b"close":
            assert await caller.closed() == b""
            assert len(it.bank.requests) == 1
        else:
            if not together:
                await caller.send(tail)
            assert (await caller.answer()).status == 200
            assert it.last.head.startswith(b"GET /open/tail ")


async def test_a_plain_h2c_offer_keeps_the_connection(tmp_path: Path) -> None:
    """JDK clients offer it with each request; a connection each would be dear."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        for _ in range(3):
            await caller.send(request(b"GET", b"/open/a", *UPGRADES["h2c as JDK 11 asks"]))
            assert (await caller.answer()).header(b"Connection") == b"keep-alive"


@pytest.mark.parametrize("form", ["X-Forwarded-For: 9.9.9.9", "Forwarded: for=9.9.9.9", "X-Real-IP: 9.9.9.9"])
async def test_the_record_says_who_really_called(form: str, tmp_path: Path) -> None:
    """An address that the caller makes up is not believed."""
    async with proxy(tmp_path, callers=(CALLER,)) as it:
        assert (await ask(it.port, request(b"GET", b"/open/a", form.encode()))).status == 200
        exchange = await it.ended()
        assert (exchange.client_address, exchange.caller, exchange.caller_proof) == ("127.0.0.1", "erp", "network")


async def test_a_trusted_proxy_is_believed(tmp_path: Path) -> None:
    """Its X-Forwarded-For decides who the caller is, and does not reach the bank."""
    async with proxy(tmp_path, callers=(CALLER,), server={"trusted_proxies": ("127.0.0.1/32",)}) as it:
        reply = await ask(it.port, request(b"GET", b"/open/a", b"X-Forwarded-For: 127.0.0.9, 9.9.9.9"))
        assert (reply.status, reply.problem["code"]) == (403, "caller_unauthenticated")
        assert (await it.ended()).client_address == "9.9.9.9"
        assert (await ask(it.port, request(b"GET", b"/open/a", b"X-Forwarded-For: 127.0.0.9"))).status == 200
        assert sent(it) == []


@pytest.mark.parametrize("line", [b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site", b"origin: null"])
async def test_browsers_are_refused(line: bytes, tmp_path: Path) -> None:
    """A web page must not be able to pay, unless the operator says otherwise."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, request(b"POST", b"/open/a", line, body=b"abc"))
        assert (reply.status, reply.problem["code"]) == (403, "browser_refused")
        assert it.untouched
    async with proxy(tmp_path / "2", server={"allow_browsers": True}) as it:
        assert (await ask(it.port, request(b"POST", b"/open/a", line, body=b"abc"))).status == 200
        assert sent(it) == [line]


ANSWER = (
    b"HTTP/1.1 201 Made it\r\ncontent-type: application/json\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Case: A  b\r\n"
    b"Connection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTrailer: X\r\nUpgrade: h2c\r\nrequest-id: r\r\n"
    b"Payproxy-Request-Id: forged\r\nProxy-Authenticate: Basic\r\nX-Echo: Bearer canary-open-1.abc;\r\n"
    b"Via: 1.1 bank\r\n"
    b"X-Utf: caf\xc3\xa9\r\nContent-Length: 2\r\nLocation: https://elsewhere.example/\r\n\r\n{}"
)


async def test_the_banks_headers_come_back_as_they_were(tmp_path: Path) -> None:
    """But for hop-by-hop ones, our token, and the two that are added."""
    async with proxy(tmp_path, says(ANSWER)) as it, wire(it.port) as caller:
        await caller.send(request())
        reply = await caller.answer()
        assert (reply.status, reply.reason, reply.body) == (201, b"Made it", b"{}")
        ours = {b"Payproxy-Request-Id", b"Proxy-Status", b"Content-Length", b"Connection", b"Keep-Alive"}
        assert [pair for pair in reply.lines if pair[0] not in ours] == [
            (b"content-type", b"application/json"),
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
            (b"X-Case", b"A  b"),
            (b"request-id", b"r"),
            (b"X-Echo", b"Bearer ***;"),
            (b"Via", b"1.1 bank"),
            (b"X-Utf", b"caf\xc3\xa9"),
            (b"Location", b"https://elsewhere.example/"),
        ]
        assert reply.header(b"Payproxy-Request-Id") == (await it.ended()).id.encode()
        assert reply.header(b"Proxy-Status") == b"payproxy; received-status=201"
