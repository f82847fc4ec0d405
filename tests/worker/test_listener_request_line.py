"""Request lines, targets, Host and sizes (catalogue, section 2 and cases 29 to 39, 49 to 51)."""

from pathlib import Path

import pytest

from tests.worker.support import Proxy, proxy
from tests.worker.wire import ask, chunked, request, wire

HOST = b"Host: localhost\r\n"

LINES = {
    "0.9": b"GET /open/a\r\n\r\n",
    "PRI": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100 + b"\r\n\r\n",
    "garbage": b"\x00\x01\x02\x03\r\n\r\n",
    "JSON": b'{"amount": 1}\r\n\r\n',
    "tabs": b"GET\t/open/a\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "tab before version": b"GET /open/a\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "vertical tab": b"GET\x0b/open/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces before": b"GET  /open/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces behind": b"GET /open/a  HTTP/1.1\r\n" + HOST + b"\r\n",
    "three spaces": b"GET   /open/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "space at the end": b"GET /open/a HTTP/1.1 \r\n" + HOST + b"\r\n",
    "space first": b" GET /open/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL first": b"\x00GET /open/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "four words": b"GET /open/a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "other protocol": b"GET /open/a ICE/1.1\r\n" + HOST + b"\r\n",
    "lower-case protocol": b"GET /open/a http/1.1\r\n" + HOST + b"\r\n",
    "LF only": request().replace(b"\r\n", b"\n"),
    "LF LF at the end": b"GET /open/a HTTP/1.1\r\nHost: localhost\n\n",
    "LF behind the request line": b"GET /open/a HTTP/1.1\n" + HOST + b"\r\n",
    "CR only": request().replace(b"\r\n", b"\r") + b"\r\n\r\n",
    "no Host": b"GET /open/a HTTP/1.1\r\n\r\n",
    "two Hosts": request(b"GET", b"/open/a", b"Host: localhost"),
    "two Hosts, differing": request(b"GET", b"/open/a", b"host: evil"),
}
LINES |= {
    f"version {version!r}": b"GET /open/a HTTP/" + version + b"\r\n" + HOST + b"\r\n"
    for version in [b"1.10", b"01.1", b"2.0", b"3.0", b"1.2", b"0.9", b"1.", b".1", b"1", b"", b"1.1a", b"1,1", b"-1.1"]
}
LINES |= {
    f"method {method[:20]!r}": request(method)
    for method in [b"get", b"Get", b"G" * 9000, b"GE(T", b"G\xc3\x89T", b"TRACE", b"GET:", b'"GET"']
}
LINES |= {
    f"target {target!r}": request(b"GET", target)
    for target in [
        b"*", b"", b"open/a", b"@evil", b".evil", b":80@evil", b"/open/\x00a", b"/open/\ra", b"/open/\x1ba",
        b"/open/\x7f",
        "/open/\xe9".encode(), "/open/\xe9".encode("latin-1"), b"/open/a b", b"/open/a#b", b"/open/a?b#c", b"#", b"?a",
        b"http://u:p@127.0.0.1/open/a", b"http://127.0.0.1@evil/open/a", b"https://127.0.0.1/open/a",
        b"ftp://127.0.0.1/open/a", b"file:///open/a", b"http:/open/a", b"http:open/a", b"http:///open/a", b"///open/a",
        b"//evil/open/a", b"//127.0.0.1/open/a", b"/\\evil/open", b"http://127.0.0.1:x/open/a", b"javascript:1",
        b"http://127.0.0.1\\@evil/open/a", b"http://[::1/open/a", b"http://", b"http://127.0.0.1#@evil/open",
        b"/open/a?b\x7f", b"/open/a?\xff",
    ]
}  # fmt: skip
LINES |= {
    f"host {host!r}": b"GET /open/a HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    for host in [
        b"", b"evil", b"a b", b"a/b", b"a@localhost", b"localhost@a", b"localhost:99999999", b"localhost:",
        b"local\xe9",
        b"localhost, evil", b"localhost:80:80", b"[::1", b"localhost\x00", b"localhost?", b"localhost#", b"http://localhost",
        b"localhost:-1", b"localhost\\evil",
    ]
}  # fmt: skip
LINES |= {
    f"value {value!r}": request(b"GET", b"/open/a", b"X-A: " + value)
    for value in [b"a\x01b", b"a\x00b", b"a\x7fb", b"a\rb", b"a\nb", b"a\x0bb", b"a\x1bb", b"\x08"]
}
LINES |= {
    f"name {name!r}": request(b"GET", b"/open/a", name + b": a")
    for name in [
        b"X\x01",
        b"X Y",
        b"X\xe9",
        "\xc9".encode(),
        b"",
        b"X\x00",
        b"X(",
        b"X/",
        b'X"',
        b"X@",
        b"X\x7f",
        b"X[]",
    ]
}
SIZES = {
    "target of 100 KB": (request(b"GET", b"/open/" + b"a" * 100_000), "target_too_long", 414),
    "target of 16 KB and one": (request(b"GET", b"/open/" + b"a" * (16384 - 5)), "target_too_long", 414),
    "20,000 headers": (request(b"GET", b"/open/a", *[b"X-%d: a" % n for n in range(20_000)]), "headers_too_large", 431),
    "1001 headers": (request(b"GET", b"/open/a", *[b"X-%d: a" % n for n in range(1001)]), "headers_too_large", 431),
    "line of 100 KB": (request(b"GET", b"/open/a", b"X: " + b"a" * 100_000), "headers_too_large", 431),
    "name of 70 KB": (request(b"GET", b"/open/a", b"X" * 70_000 + b": a"), "headers_too_large", 431),
    "66 KB in all": (
        request(b"GET", b"/open/a", *[b"X-%d: " % n + b"a" * 1000 for n in range(66)]), "headers_too_large", 431,
    ),
    "1 MB in all": (
        request(b"GET", b"/open/a", *[b"X-%d: " % n + b"a" * 1000 for n in range(1000)]), "headers_too_large", 431,
    ),
    "endless head": (b"GET /open/a HTTP/1.1\r\n" + b"X-A: abc\r\n" * 500_000, "headers_too_large", 431),
}  # fmt: skip


async def _refused(it: Proxy, data: bytes) -> tuple[int, str]:
    async with wire(it.port) as caller:
        await caller.send(data)
        reply = await caller.answer()
        problem = reply.problem
        assert problem["sent_upstream"] == "no"
        assert reply.header(b"Connection") == b"close"
        assert await caller.closed() == b""
    assert it.untouched
    exchange = await it.ended()
    assert exchange.status == reply.status
    return reply.status, problem["code"]


@pytest.mark.parametrize("data", LINES.values(), ids=LINES)
async def test_bad_lines_are_refused_and_closed(data: bytes, tmp_path: Path) -> None:
    """The answer is HTTP/1.1 and ours, nothing goes to the bank, and what stands behind is not served."""
    async with proxy(tmp_path) as it:
        status, code = await _refused(it, data + request(b"GET", b"/open/smuggled"))
        assert status in {400, 405, 421, 501, 505}
        assert code == "bad_request"


@pytest.mark.parametrize(("data", "code", "status"), SIZES.values(), ids=SIZES)
async def test_what_is_too_large_says_which(data: bytes, code: str, status: int, tmp_path: Path) -> None:
    """414 for a target, 431 for headers; the caller can read the answer though it goes on sending."""
    async with proxy(tmp_path) as it:
        assert await _refused(it, data) == (status, code)


async def test_a_header_limit_of_the_targets_size_still_tells_them_apart(tmp_path: Path) -> None:
    """The parser names only the limit that was exceeded, so the two must differ."""
    async with proxy(tmp_path, server={"max_header_bytes": 16384}) as it:
        data = request(b"GET", b"/open/a", b"X: " + b"a" * 17_000)
        assert await _refused(it, data) == (431, "headers_too_large")


@pytest.mark.parametrize("version", [b"2.0", b"0.9"])
async def test_another_version_is_505_or_400(version: bytes, tmp_path: Path) -> None:
    """Whatever the version asked for, the reply is HTTP/1.1."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, b"GET /open/a HTTP/" + version + b"\r\n" + HOST + b"\r\n")
        assert reply.status in {400, 505}


TUNNELS = {
    "authority": b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "path": b"CONNECT /open/a HTTP/1.1\r\n" + HOST + b"\r\n",
    "host without port": b"CONNECT evil HTTP/1.1\r\n" + HOST + b"\r\n",
    "body": b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
    "chunks": b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
}


@pytest.mark.parametrize("data", TUNNELS.values(), ids=TUNNELS)
@pytest.mark.parametrize("together", [True, False])
async def test_connect_is_refused_and_its_tail_never_parsed(
    data: bytes,
    together: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """What comes behind a CONNECT is the tunnel's, so that there is one answer and then the end."""
    tail = request(b"GET", b"/open/smuggled")
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(*([data + tail] if together else [data, tail]))
        reply = await caller.answer()
        assert reply.status in {400, 405}
        assert reply.problem["code"] == "bad_request"
        assert await caller.closed() == b""
        assert it.untouched


async def test_empty_lines_before_a_request_are_skipped(tmp_path: Path) -> None:
    """RFC 9112 2.2: old clients send a CRLF behind a body."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(b"\r\n" + request())
        assert (await caller.answer()).status == 200
        await caller.send(request(b"POST", b"/open/a", body=b"abc") + b"\r\n" + request(b"GET", b"/open/b"))
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status == 200
        assert len(it.bank.requests) == 3


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:8080", b"127.0.0.1:22", b"127.0.0.1", b"[::1]", b"[::1]:80"]
)
async def test_the_bank_gets_its_own_host_whatever_the_caller_says(host: bytes, tmp_path: Path) -> None:
    """Exactly one Host goes out, and it is the upstream's."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, b"GET /open/a HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")).status == 200
        lines = it.last.head.split(b"\r\n")
        assert lines[1] == b"Host: 127.0.0.1:%d" % it.bank.port
        assert sum(line.lower().startswith(b"host:") for line in lines) == 1


async def test_http_1_0_needs_no_host_and_closes(tmp_path: Path) -> None:
    """A caller of HTTP/1.0 gets its answer and the end, or keeps the connection if it asks."""
    async with proxy(tmp_path) as it:
        async with wire(it.port) as caller:
            await caller.send(b"GET /open/a HTTP/1.0\r\n\r\n")
            reply = await caller.answer()
            assert (reply.status, reply.header(b"Connection")) == (200, b"close")
            assert await caller.closed() == b""
        async with wire(it.port) as caller:
            for _ in range(2):
                await caller.send(b"GET /open/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                reply = await caller.answer()
                assert (reply.status, reply.header(b"Connection")) == (200, b"keep-alive")
        assert it.last.head.startswith(b"GET /open/a HTTP/1.1\r\nHost: ")


ABSOLUTE = {
    "same host": (b"http://127.0.0.1/open/a?b", 200, b"/open/a?b"),
    "with a port": (b"http://127.0.0.1:99/open/a", 200, b"/open/a"),
    "another host": (b"http://evil/open/a", 404, b""),
    "the proxy's own name": (b"http://localhost/open/a", 404, b""),
    "no path": (b"http://127.0.0.1", 404, b""),
    "query alone": (b"http://127.0.0.1?a", 404, b""),
}


@pytest.mark.parametrize(("target", "status", "sent"), ABSOLUTE.values(), ids=ABSOLUTE)
async def test_absolute_form_goes_to_the_rules_own_host(
    target: bytes, status: int, sent: bytes, tmp_path: Path
) -> None:
    """The name must be the upstream's, the Host header does not count, and only the path goes out."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, b"GET " + target + b" HTTP/1.1\r\nHost: whatever.example\r\n\r\n")
        assert reply.status == status
        if sent:
            assert it.last.head.split(b"\r\n")[0] == b"GET " + sent + b" HTTP/1.1"
        else:
            assert reply.problem["code"] == "no_route"
            assert it.untouched


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"QUERY"])
async def test_methods_go_out_as_they_are(method: bytes, tmp_path: Path) -> None:
    """With and without a body."""
    async with proxy(tmp_path) as it:
        for body in (b"", b"abc"):
            assert (await ask(it.port, request(method, b"/open/a", body=body), method=method.decode())).status == 200
            assert it.last.head.startswith(method + b" /open/a HTTP/1.1\r\n")
            assert it.last.body == body


async def test_ninety_headers_pass_in_order(tmp_path: Path) -> None:
    """As many as a busy client sends."""
    lines = [b"X-h%d: v%d" % (n, n) for n in range(90)]
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"GET", b"/open/a", *lines))).status == 200
        assert [line for line in it.last.head.split(b"\r\n") if line.startswith(b"X-h")] == lines


async def test_a_target_of_16_kb_passes(tmp_path: Path) -> None:
    """The limit itself is served."""
    target = b"/open/" + b"a" * (16384 - 6)
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"GET", target))).status == 200
        assert it.last.head.split(b" ")[1] == target


async def test_an_answer_to_a_bad_request_echoes_nothing(tmp_path: Path) -> None:
    """Neither the offending line nor what stands around it gets into the answer."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request(b"GET", b"/open/a", b"Authorization: Bearer SECRET\x00canary"))
        answer = await caller.closed()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"SECRET" not in answer
        assert b"canary" not in answer
        assert b"aiohttp" not in answer
