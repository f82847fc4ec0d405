"""Requests and answers damaged at random, the same at each run, through the whole worker."""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from random import Random  # noqa: TID251 - a seed, so that a failure can be had again
from typing import Any

from tests.support.mutation import TOKENS, cut, mutated
from tests.support.plain_http import NotWhole, answer, requests
from tests.upstream.support import OK, Peer, eventually
from tests.worker.support import Proxy, proxy, token_of
from tests.worker.timeouts import timeouts
from tests.worker.values import route
from tests.worker.wire import Reply, Wire, chunked, request, wire

LANES = 6
REQUEST_CASES = 100  # in each lane
ANSWER_CASES = 80
HANG = 8.0  # seconds; nothing may take so long, on the busiest machine
QUICK = timeouts(head=0.1, body_gap=0.1, idle=0.05, linger=0.05)
OURS = b"Bearer " + token_of("all").encode()
TOKENS_FOR_REQUESTS = (
    *TOKENS, b"\r\nAuthorization: Bearer evil", b"\r\nHost: localhost", b"\r\nExpect: 100-continue", b"POST", b"/../",
    b"http://localhost", b"\r\nConnection: authorization", b" HTTP/1.1\r\n", b"%00", b"\r\nAuthorization_: Bearer evil",
    request(b"POST", b"/in", body=b"inside"),
)  # fmt: skip

Sent = tuple[bytes, bytes, bytes]  # method, target, body


def _requests(number: int) -> tuple[bytes, ...]:
    """Return sound requests that know their *number*: /held is read whole first, /streamed is not."""
    tag = b"%d" % number
    return (
        request(b"GET", b"/held/" + tag, b"X-A: b"),
        request(b"POST", b"/held/" + tag, b"Idempotency-Key: k", body=b"hello"),
        request(b"POST", b"/held/" + tag, b"Transfer-Encoding: chunked") + chunked(b"hello", b" world"),
        request(b"PUT", b"/streamed/" + tag, body=b"hello" * 20),
        request(b"POST", b"/streamed/" + tag, b"Transfer-Encoding: chunked") + chunked(b"hello" * 20, b"x"),
        request(b"GET", b"/held/" + tag) + request(b"POST", b"/held/" + tag + b"b", body=b"GET / HTTP/1.1\r\n\r\n"),
        request(b"GET", b"/held/" + tag, version=b"1.0"),
        request(b"DELETE", b"/nowhere") + request(b"GET", b"/held/" + tag),
    )


class Callers:
    """Those who send damaged requests in one lane, and what may have come of them."""

    def __init__(self, it: Proxy, seed: int) -> None:
        self._it = it
        self._random = Random(seed)  # noqa: S311 - damage, no secret
        self._allowed: Counter[Sent] = Counter()
        self._seen = 0
        self.data = b""

    async def meet(self, number: int) -> None:
        """Send one damaged request, and look at all that came of it."""
        random, it = self._random, self._it
        self.data = mutated(random.choice(_requests(number)), random, TOKENS_FOR_REQUESTS)
        sound = requests(self.data)
        self._allowed.update(_sent(one.first, one.body) for one in sound)
        before, ended = it.bank.heads, len(it.ledger.ended)
        leaves = random.random() < 0.2
        async with wire(it.port) as caller:
            hearing = asyncio.get_running_loop().create_task(_replies(caller))
            await caller.send(*cut(self.data, random))
            if leaves:
                random.choice((caller.reset, caller.leave))()
            replies, broken = await hearing
            if not leaves:
                # Who still sends after an answer that was the last may meet a reset, and lose that answer.
                known = len(it.ledger.ended) - ended if broken else len(replies)
                self._check_replies(replies, known, complete=len(sound))
        await eventually(lambda: it.server.open_connections == 0)
        await eventually(lambda: it.gateway.admission.in_flight == 0)
        if not leaves:
            ours = [exchange for exchange in it.ledger.ended[ended:] if exchange.origin == "bank"]
            assert len(ours) <= it.bank.heads - before
        self._check_bank()
        assert all(exchange.code != "internal_error" for exchange in it.ledger.ended[ended:])
        assert it.gateway.admission.held_bytes == 0

    def _check_replies(self, replies: list[Reply], known: int, *, complete: int) -> None:
        """Have every request that came whole answered, unless an answer before said that it is the last.

        *known*: how many answers there were, heard or not.
        """
        if known < complete:
            assert known
        if len(replies) < complete and len(replies) == known:
            assert replies[-1].header(b"Connection") == b"close"
        for reply in replies:
            assert OURS not in reply.body + b"".join(value for _, value in reply.lines)
            if reply.status != 200:
                assert reply.problem["code"] != "internal_error"

    def _check_bank(self) -> None:
        """Have each request at the bank be one that was sent and that no other was made of, with our token alone."""
        for one in self._it.bank.requests[self._seen :]:
            self._seen += 1
            sent = _sent(one.head.partition(b"\r\n")[0], one.body)
            assert self._allowed[sent] > 0, sent
            self._allowed[sent] -= 1
            fields = [line.partition(b": ") for line in one.head[:-4].split(b"\r\n")[1:]]
            assert [value for name, _, value in fields if name.lower() == b"authorization"] == [OURS]
            alike = {name.lower().replace(b"_", b"-") for name, _, value in fields if value != OURS}
            assert b"authorization" not in alike


def _sent(first: bytes, body: bytes) -> Sent:
    method, target, _ = first.split(b" ")
    for authority in (b"http://localhost", b"http://127.0.0.1"):
        target = target.removeprefix(authority)
    return method, target, body


async def _replies(caller: Wire) -> tuple[list[Reply], bool]:
    """Return all final answers until the proxy closes, which it soon does, and whether a reset came instead."""
    found: list[Reply] = []
    while True:
        try:
            found.append(await caller.answer())
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            return [reply for reply in found if reply.status >= 200], isinstance(error, ConnectionError)


async def _in_lanes(make: Any) -> None:
    """Run *make* for each seed; no task of the worker may end by an exception that nobody takes."""
    untaken: list[dict[str, Any]] = []

    def take(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        untaken.append(context)

    asyncio.get_running_loop().set_exception_handler(take)
    async with asyncio.TaskGroup() as lanes:
        for seed in range(LANES):
            lanes.create_task(make(seed))
    gc.collect()
    assert untaken == []


async def _bounded(case: Coroutine[Any, Any, None], what: Any) -> None:
    try:
        async with asyncio.timeout(HANG):
            await case
    except BaseException as error:
        error.add_note(what())
        raise


async def test_a_damaged_request_is_answered_and_never_becomes_another(tmp_path: Path) -> None:
    """What reaches the bank was sent so, once, and has our token; the rest hears why not, and nothing hangs."""

    async def run(seed: int) -> None:
        routes = (
            route("held", audience="all"),
            route("in", audience="all"),
            route("streamed", audience="all", replay_body_bytes=20),
        )
        async with proxy(tmp_path / str(seed), routes=routes, timeouts=QUICK) as it:
            callers = Callers(it, seed)
            for number in range(REQUEST_CASES):
                await _bounded(callers.meet(number), lambda: f"lane {seed}: {callers.data!r}")
            assert it.bank.heads > REQUEST_CASES / 10

    await _in_lanes(run)


ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
)


class Answers:
    """What a bank says that is damaged at random; never twice in a row, so that what comes after it is seen too."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - damage, no secret
        self.data = OK
        self.said = asyncio.Event()

    async def step(self, peer: Peer) -> None:
        """Say it in pieces, and perhaps hang up."""
        try:
            for piece in cut(self.data, self.random):
                await peer.send(piece)
                await asyncio.sleep(0)
            if self.data != OK and self.random.random() < 0.3:
                with contextlib.suppress(OSError):  # the proxy may have hung up before
                    peer.writer.close()
                    await peer.writer.wait_closed()
        finally:
            self.said.set()

    async def meet(self, it: Proxy) -> None:
        """Have one damaged answer, then a good one."""
        self.data = mutated(self.random.choice(ANSWERS), self.random)
        before = it.bank.heads
        self.said.clear()
        async with wire(it.port) as caller:
            await caller.send(request(b"POST", b"/all/a", b"Idempotency-Key: k", body=b"hello"))
            reply = await caller.answer()
        await self.said.wait()
        again = reply.status == 401 or b"401" in self.data
        assert 1 <= it.bank.heads - before <= 1 + again
        assert len(it.bank.requests) == it.bank.heads
        _check_reply(reply, self.data)
        self.data = OK
        async with wire(it.port) as caller:
            await caller.send(request(b"GET", b"/all/b", b"Connection: close"))
            reply = await caller.answer()
        assert (reply.status, reply.body) == (200, b"ok")


def _check_reply(reply: Reply, data: bytes) -> None:
    """Hold what a caller got against another reading of the bank's bytes: theirs, an error of ours, or visibly cut."""
    if reply.status in {502, 504} and reply.header(b"Content-Type") == b"application/problem+json":
        assert reply.problem["code"] in {"upstream_bad_response", "upstream_reset", "upstream_timeout"}
        return
    if reply.cut:
        return
    try:
        status, message = answer(data)
    except NotWhole:
        raise AssertionError(f"{reply} was made of {data!r}") from None
    assert (reply.status, reply.body) == (status, message.body), data
    assert OURS not in reply.body


async def test_a_damaged_answer_reaches_nobody_as_a_whole_one(tmp_path: Path) -> None:
    """The caller gets what the bank said, a 502 or 504, or a cut; the bank gets the request once, and so the next."""

    async def run(seed: int) -> None:
        answers = Answers(seed)
        routes = (route("all"),)
        async with proxy(tmp_path / str(seed), answers.step, routes=routes, upstream={"response_timeout": 0.15}) as it:
            for _ in range(ANSWER_CASES):
                await _bounded(answers.meet(it), lambda: f"lane {seed}: {answers.data!r}")

    await _in_lanes(run)
