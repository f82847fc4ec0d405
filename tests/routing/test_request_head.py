"""Heads: understood once, or refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, BrowserRefused, HeadersTooLarge, ProxyError
from proxy.routing.request_head import LOOPBACK_NAMES, RawHead, RequestHead
from tests.routing.support import limits, pairs, raw


def status(head: RawHead, **changes: Any) -> int:
    """Return the status that *head* is refused with, 200 if it is not."""
    try:
        RequestHead.of(head, limits(**changes))
    except ProxyError as error:
        return error.status
    return 200


def test_an_ordinary_head_is_understood() -> None:
    """What is not ours passes in order and spelling."""
    head = RequestHead.of(
        raw((b"aCCept", b"x"), (b"Authorization", b"Basic YTpr"), (b"X-A", b""), method="POST", content_length=3),
        limits(),
    )
    assert (head.method, head.target.path, head.http_1_0) == ("POST", "/a", False)
    assert pairs(head.passed) == [(b"aCCept", b"x"), (b"X-A", b"")]
    assert (head.content_length, head.chunked, head.has_body) == (3, False, True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "TRACE"}, 405),
        ({"method": "CONNECT"}, 405),
        ({"method": "get"}, 501),
        ({"method": "G" * 33}, 501),
        ({"method": "M-SEARCH"}, 200),
        ({"version": (1, 0)}, 200),
        ({"version": (2, 0)}, 505),
        ({"version": (0, 9)}, 505),
        ({"version": (1, 2)}, 505),
        ({"target": "a"}, 400),
        ({"target": "/" + "a" * 20000}, 414),
        ({"fault": HeadersTooLarge("x")}, 431),
    ],
)
def test_request_lines(changes: dict[str, Any], expected: int) -> None:
    """Method, version and target, each with its status."""
    assert status(raw(**changes)) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"localhost", 200), (b"LOCALHOST:80", 200), (b"127.0.0.1:1", 200), (b"[::1]", 200), (b"[::1]:8080", 200),
        (b"evil.example", 421), (b"localhost.", 421), (b"[::2]", 421), (b"", 400), (b"a b", 400), (b"a@localhost", 400),
        (b"localhost:", 400), (b"localhost:123456", 400), (b"localhost:65535", 200),
        (b"localhost:65536", 400), (b"\xe9", 400), (b"localhost/", 400), (b"localhost,a", 400),
    ],
)  # fmt: skip
def test_hosts(host: bytes, expected: int) -> None:
    """Malformed is 400, well-formed and not ours 421."""
    assert status(raw((b"Host", host), host=False), hosts=LOOPBACK_NAMES) == expected
    if expected == 421:
        assert status(raw((b"Host", host), host=False)) == 200
        assert status(raw((b"Host", host), host=False, target="http://a.example/"), hosts=LOOPBACK_NAMES) == 200


def test_only_http_1_0_may_come_without_host() -> None:
    """RFC 9112 3.2."""
    assert status(raw(host=False)) == 400
    assert status(raw(host=False, version=(1, 0)), hosts=LOOPBACK_NAMES) == 200
    assert status(raw((b"hOST", b"localhost"))) == 400


@pytest.mark.parametrize("name", [b"", b"A B", b"A:", b"A\x00", b"\xe9", b"A\t", b"(", b"A\r"])
def test_bad_names_are_refused(name: bytes) -> None:
    """RFC 9110 5.1, also when the name was seen before."""
    shared = limits()
    for _ in range(2):
        with pytest.raises(BadRequest):
            RequestHead.of(raw((name, b"x")), shared)


@given(st.binary(max_size=20))
def test_values_have_no_controls_but_tab(value: bytes) -> None:
    """8-bit bytes pass as they are."""
    bad = any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value)
    assert status(raw((b"X-A", value))) == (400 if bad else 200)


def test_the_size_of_all_headers_is_bounded() -> None:
    """In bytes and in lines."""
    assert status(raw((b"X", b"a" * 100)), max_header_bytes=100) == 431
    assert status(raw(*[(b"X", b"")] * 999)) == 200
    assert status(raw(*[(b"X", b"")] * 1000)) == 431


@pytest.mark.parametrize("name", [b"Authorization", b"Expect", b"X-Payproxy-Key", b"Proxy-Authorization", b"Origin"])
def test_what_is_read_must_be_single(name: bytes) -> None:
    """Two of them could be read in two ways."""
    with pytest.raises(BadRequest):
        RequestHead.of(raw((name, b"100-continue"), (name.lower(), b"100-continue")), limits(allow_browsers=True))


@pytest.mark.parametrize("name", [b"Connection", b"Forwarded", b"X-Forwarded-For"])
def test_lists_are_joined(name: bytes) -> None:
    """RFC 9110 5.3."""
    head = RequestHead.of(raw((name, b"a"), (name, b"b")), limits())
    assert head.named[name.lower()] == b"a, b"
    assert head.passed == []


def test_browsers_are_refused_after_the_framing() -> None:
    """A refusal that keeps the connection must not hide one that ends it."""
    with pytest.raises(BrowserRefused):
        RequestHead.of(raw((b"Origin", b"null")), limits())
    assert status(raw((b"Origin", b"null")), allow_browsers=True) == 200


def test_keys_come_from_three_places() -> None:
    """X-Payproxy-Key, and the password of either Basic credential."""
    head = RequestHead.of(
        raw(
            (b"X-Payproxy-Key", b"one"),
            (b"Authorization", b"Basic dTp0d28="),
            (b"Proxy-Authorization", b"basic  dTp0aHJlZQ=="),
        ),
        limits(),
    )
    assert head.keys == (b"one", b"two", b"three")
    assert RequestHead.of(raw((b"Authorization", b"Bearer dTp0d28=")), limits()).keys == ()


@pytest.mark.parametrize(
    ("version", "value", "expected"),
    [((1, 1), b"100-Continue", True), ((1, 0), b"100-continue", False), ((1, 1), b"other", None)],
)
def test_expectations(version: tuple[int, int], value: bytes, expected: bool | None) -> None:  # noqa: FBT001
    """Only 100-continue can be met, and HTTP/1.0 never waits for it."""
    head = raw((b"Expect", value), version=version)
    if expected is None:
        assert status(head) == 417
    else:
        assert RequestHead.of(head, limits()).expects_continue is expected


def test_targets_and_hosts_are_remembered_in_bounds() -> None:
    """Callers choose them too; what was refused, or checked less since the target names a host, is not remembered."""
    shared = limits(hosts=LOOPBACK_NAMES)
    for number in range(3000):
        RequestHead.of(raw(target=f"/{number}"), shared)
        RequestHead.of(raw((b"Host", b"localhost:%d" % number), host=False), shared)
    assert len(shared.targets) <= 1024
    assert len(shared.accepted_hosts) <= 1024
    RequestHead.of(raw((b"Host", b"evil.example"), host=False, target="http://a.example/"), shared)
    assert status(raw((b"Host", b"evil.example"), host=False), hosts=LOOPBACK_NAMES) == 421
    for _ in range(2):
        with pytest.raises(BadRequest):
            RequestHead.of(raw((b"Host", b"evil.example"), host=False), shared)
