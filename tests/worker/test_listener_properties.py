"""What holds for any request: refused or passed byte for byte, our token alone, never two for one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.support import Proxy, proxy, token_of
from tests.worker.timeouts import timeouts
from tests.worker.values import route
from tests.worker.wire import chunked, request, split, wire

EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
OURS = b"Bearer " + token_of("all").encode()
ROUTES = (route("all", path="/", replay_body_bytes=200),)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy with one rule for everything, whose callers are waited for a moment only."""
    quick = timeouts(head=0.2, body_gap=0.2, idle=0.05, linger=0.1)
    async with proxy(tmp_path, routes=ROUTES, timeouts=quick) as running:
        yield running


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Proxy]:
    """Run a proxy that waits for the next piece as long as a busy machine needs to send it."""
    async with proxy(tmp_path, routes=ROUTES, timeouts=timeouts(head=60.0)) as running:
        yield running


async def statuses(it: Proxy, *pieces: bytes) -> list[int]:
    """Return the statuses of all answers to *pieces* until the proxy closes, which it soon does."""
    found = []
    async with wire(it.port) as caller:
        await caller.send(*pieces)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                found.append((await caller.answer()).status)
    return found


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header lines of *head*, which must be exactly as RFC 9112 wants them."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert len(first.split(b" ")) == 3
    assert b"\r" not in head.replace(b"\r\n", b"")
    assert b"\n" not in head.replace(b"\r\n", b"")
    found = []
    for line in lines:
        name, colon, value = line.partition(b": ")
        assert colon
        assert name == name.strip()
        found.append((name, value))
    names = [name.lower() for name, _ in found]
    assert names.count(b"host") == 1
    assert names.count(b"authorization") == 1
    assert dict(found)[b"Authorization"] == OURS
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    return found


segments = st.sampled_from(
    [b"/", b"a", b"open", b".", b"..", b"%2e", b"%2F", b"%41", b";", b"?", b"#", b"\\", b"%00", b"%zz", b" ", b"@",
    b":", b"\x00",
     b"//", b"http://127.0.0.1", b"http://evil", b"%c3%a9", b"\xc3\xa9", b"~", b"*", b"&=", b"[]", b"\t", b"\x7f",
     b"%25"]
)  # fmt: skip
targets = st.one_of(
    st.lists(segments, max_size=6).map(lambda parts: b"/" + b"".join(parts)),
    st.lists(segments, max_size=5).map(b"".join),
    st.binary(max_size=20).map(lambda tail: b"/" + tail),
)


@EXAMPLES
@given(target=targets)
async def test_any_target_is_refused_or_goes_out_byte_for_byte(it: Proxy, target: bytes) -> None:
    """An absolute-form target goes out as its path."""
    before = len(it.bank.requests)
    data = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found = await statuses(it, data)
    assert found
    assert it.bank.heads == len(it.bank.requests)
    if len(it.bank.requests) == before:
        assert found[0] >= 400
        return
    assert found[0] == 200
    assert len(it.bank.requests) == before + 1
    path = target.removeprefix(b"http://127.0.0.1") or b"/"
    expected = path if path.startswith(b"/") else b"/" + path
    assert it.last.head.startswith(b"GET " + expected + b" HTTP/1.1\r\n")
    fields(it.last.head)


names = st.one_of(
    st.sampled_from(
        [b"Authorization", b"authorization", b"Authorization_", b"X-A", b"Connection", b"Host", b"Content-Length",
        b"TE",
         b"Transfer-Encoding", b"Content_Length", b"Expect", b"X-Forwarded-For", b"Upgrade", b"Proxy-Authorization",
         b"A B"]
    ),
    st.binary(min_size=1, max_size=8),
)  # fmt: skip
values = st.one_of(
    st.sampled_from(
        [b"Bearer evil", b"Bearer evil\r\nAuthorization: Bearer worse", b"authorization", b"close",
        b"x, authorization, host",
         b"0", b"5", b"chunked", b"a\nAuthorization: Bearer evil", b"a\r\n Bearer evil", b"100-continue", b"h2c",
         b"\xe9"]
    ),
    st.binary(max_size=12),
)  # fmt: skip


@EXAMPLES
@given(lines=st.lists(st.tuples(names, values), max_size=5))
async def test_no_authorization_but_ours_reaches_the_bank(it: Proxy, lines: list[tuple[bytes, bytes]]) -> None:
    """Whatever headers come: each request at the bank has exactly one, and a strict head."""
    before = len(it.bank.requests)
    await statuses(it, request(b"GET", b"/a", *(name + b": " + value for name, value in lines)))
    for one in it.bank.requests[before:]:
        for name, value in fields(one.head):
            plain = bytes(letter for letter in name.lower() if letter not in b"-_.")
            assert plain != b"authorization" or value == OURS
    assert it.bank.heads == len(it.bank.requests)


bodies = st.binary(max_size=400)
requests = st.one_of(
    st.builds(lambda body: request(b"POST", b"/l", b"X-H: a", body=body), bodies),
    st.builds(
        lambda pieces: request(b"POST", b"/c", b"Transfer-Encoding: chunked") + chunked(*filter(None, pieces)),
        st.lists(bodies, max_size=4),
    ),
    st.just(request(b"GET", b"/g?x=1")),
)


@EXAMPLES
@given(wanted=st.lists(requests, min_size=1, max_size=4), data=st.data())
async def test_any_split_gives_each_request_once_and_in_order(
    patient: Proxy, wanted: list[bytes], data: st.DataObject
) -> None:
    """As many requests at the bank as were sent, each with its body, and as many answers."""
    it = patient
    whole = b"".join(wanted)
    cuts = data.draw(st.lists(st.integers(1, max(len(whole) - 1, 1)), max_size=6))
    before = len(it.bank.requests)
    async with wire(it.port) as caller:
        await caller.send(*split(whole, cuts))
        assert [(await caller.answer()).status for _ in wanted] == [200] * len(wanted)
        caller.half_close()
        assert await caller.closed() == b""
    got = it.bank.requests[before:]
    assert [one.head.split(b" ")[1] for one in got] == [one.split(b" ")[1] for one in wanted]
    for one, sent in zip(got, wanted, strict=True):
        head, _, body = sent.partition(b"\r\n\r\n")
        if b"chunked" in head:
            assert b"".join(_pieces(body)) == one.body
        else:
            assert one.body == body


def _pieces(body: bytes) -> list[bytes]:
    found: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        if not int(size, 16):
            return found
        found.append(rest[: int(size, 16)])
        body = rest[int(size, 16) + 2 :]


breaks = st.sampled_from(
    [b"", b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b"0", b"5", b"g", b";", b":", b"\r\n\r\n", b"0\r\n\r\n",
    b"\xff", b"chunked",
     b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"]
)  # fmt: skip


@EXAMPLES
@given(base=requests, mutation=breaks, data=st.data())
async def test_a_damaged_request_is_never_two(it: Proxy, base: bytes, mutation: bytes, data: st.DataObject) -> None:
    """Something put in, or put in the place of a byte: at most as many requests at the bank as answers, never a half.

    A request put in whole where a body ends is one of its own, so that one more is allowed then.
    """
    at = data.draw(st.integers(0, len(base)))
    instead = data.draw(st.integers(0, 3))
    cuts = data.draw(st.lists(st.integers(1, len(base)), max_size=3))
    before = len(it.bank.requests)
    damaged = base[:at] + mutation + base[at + instead :]
    found = await statuses(it, *split(damaged, cuts))
    got = it.bank.requests[before:]
    assert len(got) <= len([status for status in found if status == 200])
    assert len(got) <= 1 + (b"GET /x" in mutation)
    for one in got:
        fields(one.head)


@EXAMPLES
@given(noise=st.binary(min_size=1, max_size=200), cuts=st.lists(st.integers(1, 199), max_size=4))
async def test_noise_sends_nothing_and_breaks_nothing(it: Proxy, noise: bytes, cuts: list[int]) -> None:
    """Random bytes are answered or waited for; the next caller is served."""
    before = len(it.bank.requests)
    async with wire(it.port) as caller:
        await caller.send(*split(noise, cuts))
    assert await statuses(it, request(b"GET", b"/a", b"Connection: close")) == [200]
    assert len(it.bank.requests) == before + 1
    assert all(exchange.code != "internal_error" for exchange in it.ledger.ended)
