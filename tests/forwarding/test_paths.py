"""From path to audience (catalogue, section 4): no way around a rule, and what matches goes out byte for byte."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.settings.worker_values import CallerValues
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.values import CALLER, ROUTES, route
from tests.worker.wire import ask, request

AMBIGUOUS = [
    b"/open/../closed", b"/open/..", b"/open/.", b"/open/./a", b"/./open/a", b"/../open/a", b"/open/a/../../closed/x",
    b"/closed/../open/x", b"/open/%2e%2e/closed", b"/open/.%2e/closed", b"/open/%2e./closed", b"/open/%2E%2E/closed",
    b"/open/%2e/a", b"/open/a%2fb", b"/open/..%2fclosed", b"/open/..%2Fclosed", b"/open%2fa", b"/open/..%5cclosed",
    b"/open/a%5cb", b"/open/a%5Cb", b"/open\\a", b"/open/..\\closed", b"/open/%252e%252e/closed", b"/open/%25252e/a",
    b"/open/a%252fb", b"/open/%25", b"/open/%c0%ae%c0%ae/closed", b"/open/%c0%af", b"/open/%e0%80%af",
    b"/open/%u002e%u002e/closed", b"/open/%", b"/open/%a", b"/open/%zz", b"/open/%2", b"/open/%ff", b"/open/%c3",
    b"/open/..;/closed", b"/open/..;a=b/closed", b"/open/;a=b/../closed", b"/open;a=b/../closed/x", b"/open/.;/a",
    b"/open/..%3b/closed", b"/open/a%3bb", b"/open/a%3Bb", b"/open/;/a", b"//open/a", b"/open//a", b"///",
    b"/open//../closed", b"/open/a//", b"//", b"/open/%00", b"/open/a%00.json", b"/open/%0d%0aX:%20y", b"/open/%0a",
    b"/open/%09", b"/open/%1f", b"/open/%7f", b"/open/..%20/closed", b"/open/%20../closed", b"/open/%20.%20/a",
    b'/open/"a"', b"/open/<a>", b"/open/a^b", b"/open/a`b", b"/open/{a}", b"/open/a|b", b"/open/[a]", b"/open/a\\",
    b"/open/%2e%2e%2fclosed", b"/open/..%c0%af", b"/%2e%2e/closed", b"/open/%2e%2e;/closed", b"/open/a/%2e%2e%2e/../b",
]  # fmt: skip


@pytest.mark.parametrize("target", AMBIGUOUS)
@pytest.mark.parametrize("query", [b"", b"?a=b"])
async def test_a_path_with_two_readings_is_refused(target: bytes, query: bytes, tmp_path: Path) -> None:
    """Dot segments, escaped syntax, empty segments, parameters that hide one: 400, and no token is used."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, request(b"GET", target + query))
        assert (reply.status, reply.problem["code"]) == (400, "bad_request")
        assert reply.header(b"Connection") == b"close"
        assert it.untouched


VERBATIM = [
    b"/open", b"/open/", b"/open?x", b"/open?", b"/open/a?", b"/open/a??", b"/open/%41%7e", b"/open/caf%c3%a9",
    b"/open/%C3%a9", b"/open/a%20b", b"/open/%3f", b"/open/%23", b"/open/~-._!$&'()*+,=:@", b"/open/a;b=c", b"/open/;",
    b"/open/.well-known", b"/open/...",
    b"/open/a..b", b"/open/..a", b"/open/a?/../closed", b"/open/a?x=%2e%2e/%2f&y=%00%0d%0aX", b"/open/a?%zz",
    b"/open/a?100%", b'/open/a?a[0]=b&c={d}|^`"<>\\', b"/open/a?http://evil/", b"/open/a?;&=?/:@", b"/open/a?%23",
    b"/open/%ef%bc%8e%ef%bc%8e/a",
    b"/open/%e2%80%8b", b"/open/a:b", b"/open/a@b", b"/open/" + b"a/" * 500, b"/open/a?" + b"b" * 8000,
]  # fmt: skip


@pytest.mark.parametrize("target", VERBATIM)
async def test_what_has_one_reading_goes_out_byte_for_byte(target: bytes, tmp_path: Path) -> None:
    """Nothing is decoded, collapsed or encoded anew; a query can be anything that a URI can hold but a fragment."""
    async with proxy(tmp_path) as it:
        assert (await ask(it.port, request(b"GET", target))).status == 200
        assert it.last.head.split(b"\r\n")[0] == b"GET " + target + b" HTTP/1.1"
        assert b"Bearer " + token_of("open").encode() in it.last.head


NOWHERE = [
    b"/openx", b"/open.evil", b"/OPEN/a", b"/Open", b"/ope", b"/%6fpen/a", b"/op%65n", b"/open;a/b", b"/", b"/open%20",
    b"/open:80", b"/open@evil", b"/x/open", b"/open-a",
]  # fmt: skip


@pytest.mark.parametrize("target", NOWHERE)
async def test_what_is_not_a_whole_segment_matches_no_rule(target: bytes, tmp_path: Path) -> None:
    """Prefixes, other spellings and escaped letters are another path: 404, and the connection stays."""
    async with proxy(tmp_path) as it:
        reply = await ask(it.port, request(b"GET", target))
        assert (reply.status, reply.problem["code"]) == (404, "no_route")
        assert reply.header(b"Connection") == b"keep-alive"
        assert it.untouched


@pytest.mark.parametrize("target", [b"/%63losed/x", b"/closed;a/x", b"/close%64", b"/closed;", b"/c%6Cosed"])
async def test_a_catch_all_is_no_way_to_another_audience(target: bytes, tmp_path: Path) -> None:
    """A path that the catch-all takes but that a decoding server would read as another rule's is refused."""
    async with proxy(tmp_path, routes=(*ROUTES, route("all", path="/"))) as it:
        reply = await ask(it.port, request(b"GET", target))
        assert (reply.status, reply.problem["code"]) == (400, "bad_request")
        assert it.untouched
        assert (await ask(it.port, request(b"GET", b"/closed/x"))).status == 200
        assert b"canary-closed-1" in it.last.head


def _token(it: Proxy) -> bytes:
    return it.last.head.split(b"Authorization: Bearer ")[1].split(b"\r\n")[0]


@pytest.mark.parametrize("turned", [False, True])
async def test_the_first_rule_that_matches_wins(turned: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Of two rules of which one covers the other, whichever stands first."""
    routes = (route("inner", path="/open/inner"), route("outer", path="/open"))
    async with proxy(tmp_path, routes=routes[::-1] if turned else routes) as it:
        for target, audience in ((b"/open/inner/a", "outer" if turned else "inner"), (b"/open/innera", "outer")):
            assert (await ask(it.port, request(b"GET", target))).status == 200
            assert _token(it) == token_of(audience).encode()


async def test_a_rule_for_a_method_is_for_no_other(tmp_path: Path) -> None:
    """405 with Allow, whatever an override header says."""
    async with proxy(tmp_path) as it:
        for lines in ([], [b"X-HTTP-Method-Override: GET"], [b"X_HTTP_Method: GET"]):
            reply = await ask(it.port, request(b"POST", b"/read/a", *lines, body=b"abc"))
            assert (reply.status, reply.problem["code"]) == (405, "method_not_allowed")
            assert reply.header(b"Allow") == b"GET, HEAD"
            assert reply.header(b"Connection") == b"keep-alive"
        assert it.untouched
        assert (await ask(it.port, request(b"GET", b"/read/a", b"X-HTTP-Method-Override: POST"))).status == 200
        assert it.last.head.startswith(b"GET ")
        assert b"Override" not in it.last.head


async def test_methods_choose_between_rules_on_one_path(tmp_path: Path) -> None:
    """A later rule takes the methods that an earlier one on the same path does not."""
    routes = (route("reads", path="/x", methods=("GET",)), route("writes", path="/x", methods=("POST", "PUT")))
    async with proxy(tmp_path, routes=routes) as it:
        assert (await ask(it.port, request(b"GET", b"/x/a"))).status == 200
        assert _token(it) == b"canary-reads-1.abc"
        assert (await ask(it.port, request(b"PUT", b"/x/a"))).status == 200
        assert _token(it) == b"canary-writes-1.abc"
        reply = await ask(it.port, request(b"DELETE", b"/x/a"))
        assert (reply.status, reply.header(b"Allow")) == (405, b"GET, POST, PUT")


async def test_a_star_is_one_segment(tmp_path: Path) -> None:
    """It matches neither nothing nor two."""
    async with proxy(tmp_path, routes=(route("star", path="/a/*/c"),)) as it:
        assert (await ask(it.port, request(b"GET", b"/a/b/c"))).status == 200
        assert (await ask(it.port, request(b"GET", b"/a/b/c/d?e"))).status == 200
        for target in (b"/a/c", b"/a/b", b"/a/b/x/c", b"/a/b/cc"):
            assert (await ask(it.port, request(b"GET", target))).status == 404
        assert len(it.bank.requests) == 2


PREFIXES = [
    ("", "", b"/open/a?b", b"/open/a?b"),
    ("/api", "", b"/open/a?b", b"/api/open/a?b"),
    ("", "/open", b"/open/a?b", b"/a?b"),
    ("", "/open", b"/open?b", b"/?b"),
    ("", "/open", b"/open", b"/"),
    ("", "/open", b"/open/", b"/"),
    ("/api", "/open", b"/open", b"/api"),
    ("/api/v1", "/open", b"/open/%41?", b"/api/v1/%41?"),
]


@pytest.mark.parametrize(("prefix", "strip", "target", "expected"), PREFIXES)
async def test_prefixes_are_put_before_and_taken_away(
    prefix: str, strip: str, target: bytes, expected: bytes, tmp_path: Path
) -> None:
    """The upstream's path prefix plus the matched bytes minus strip_prefix."""
    routes = (route("open", strip_prefix=strip),)
    async with proxy(tmp_path, routes=routes, upstream={"prefix": prefix}) as it:
        assert (await ask(it.port, request(b"GET", target))).status == 200
        assert it.last.head.split(b" ")[1] == expected


async def test_another_callers_rule_is_refused_without_its_token(tmp_path: Path) -> None:
    """403, no token of that audience asked for, and the record says who it was."""
    other = replace(CALLER, name="other", networks=("10.0.0.0/8",))
    routes = (route("open"), route("closed", callers=("other",)))
    async with proxy(tmp_path, routes=routes, callers=(CALLER, other), tokens=False) as it:
        it.keeper.mint(it.key("open"))
        reply = await ask(it.port, request(b"POST", b"/closed/a", body=b"abc"))
        assert (reply.status, reply.problem["code"]) == (403, "caller_not_allowed")
        exchange = await it.ended()
        assert (exchange.caller, exchange.attempts, exchange.code) == ("erp", [], "caller_not_allowed")
        assert it.untouched
        assert it.keeper.received == []
        assert (await ask(it.port, request(b"POST", b"/open/a", body=b"abc"))).status == 200


async def test_an_unknown_caller_is_403_and_407_through_a_proxy_setting(tmp_path: Path) -> None:
    """With absolute-form the client takes us for its proxy, and understands 407 alone."""
    far = CallerValues(
        name="far", networks=("10.0.0.0/8",), api_key_sha256=(), certificate_subject="", max_requests_per_second=0
    )
    async with proxy(tmp_path, callers=(far,)) as it:
        reply = await ask(it.port, request())
        assert (reply.status, reply.problem["code"]) == (403, "caller_unauthenticated")
        reply = await ask(it.port, request(b"GET", b"http://127.0.0.1/open/a"))
        assert (reply.status, reply.problem["code"]) == (407, "caller_unauthenticated")
        assert reply.header(b"Proxy-Authenticate") == b'Basic realm="payproxy", charset="UTF-8"'
        assert it.untouched


async def test_a_token_goes_to_its_origins_only(tmp_path: Path) -> None:
    """The second lock: a token that is not for this upstream is not sent, and nothing is."""
    async with proxy(tmp_path, tokens=False) as it:
        it.keeper.mint(it.key("open"), origins=("https://elsewhere.example:443",))
        reply = await ask(it.port, request(b"POST", b"/open/a", body=b"abc"))
        assert (reply.status, reply.problem["code"], reply.problem["sent_upstream"]) == (500, "internal_error", "no")
        assert b"canary" not in reply.body
        assert it.untouched
