"""The right token or none: its audience, its origins, its end."""

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.forwarding.support import REFUSED, afterwards, agrees, bearer, exchanged, post, recorded
from tests.upstream.support import OK, eventually, says
from tests.worker.support import proxy, token_of
from tests.worker.wire import ask, request, wire

ROUTES = (b"open", b"closed", b"read", b"small")


async def test_each_route_gets_the_token_of_its_own_audience(tmp_path: Path) -> None:
    """Also many at once over shared connections to the bank."""
    async with proxy(tmp_path, says(OK)) as it:
        targets = list(itertools.islice(itertools.cycle(b"/%b/a" % name for name in ROUTES), 80))
        await asyncio.gather(*(ask(it.port, request(b"GET", target)) for target in targets))

        assert len(it.bank.requests) == 80
        for sent in it.bank.requests:
            assert bearer(sent.head) == token_of(sent.head.split(b"/", 2)[1].decode())


@pytest.mark.parametrize(
    "origins",
    [
        (),
        ("http://127.0.0.1:1",),
        ("https://127.0.0.1:{port}",),
        ("http://127.0.0.2:{port}", "http://localhost:{port}"),
    ],
)
async def test_a_token_goes_to_its_origins_only(tmp_path: Path, origins: tuple[str, ...]) -> None:
    """Compared right before the bytes are written: 500, nothing sent, and the connection is not lost."""
    async with proxy(tmp_path, upstream={"max_connections": 1}) as it, wire(it.port) as caller:
        it.keeper.mint(it.key("open"), origins=tuple(origin.format(port=it.bank.port) for origin in origins))
        for count in (1, 2):
            reply = await exchanged(caller, post())
            agrees(reply, await recorded(it, count), sent="no")
            assert (reply.status, reply.problem["code"]) == (500, "internal_error")
        assert it.untouched
        assert (await ask(it.port, request(b"GET", b"/closed/a"))).status == 200


async def test_a_replacement_for_other_origins_is_not_sent_either(tmp_path: Path) -> None:
    """The lock holds for the second send as for the first."""
    async with proxy(tmp_path, says(REFUSED), says(OK)) as it:
        mint = it.keeper.mint
        it.keeper.mint = lambda digest: mint(digest, origins=())  # type: ignore[method-assign, misc, assignment]
        reply = await ask(it.port, post())

        assert (reply.status, reply.problem["code"], reply.problem["sent_upstream"]) == (500, "internal_error", "no")
        assert len(it.bank.requests) == 1
        assert (await recorded(it))["replayed"] is False


async def test_an_expired_token_is_not_used(tmp_path: Path) -> None:
    """A request that comes after its end waits for the next token."""
    async with proxy(tmp_path, tokens=False) as it, wire(it.port) as caller:
        it.keeper.mint(it.key("open"), seconds=0)
        await caller.send(post())
        await eventually(lambda: it.gateway.admission.in_flight == 1)
        assert it.untouched
        it.keeper.mint(it.key("open"))

        assert (await caller.answer()).status == 200
        assert bearer(it.last.head) == token_of("open", 2)


async def test_a_token_that_expires_while_its_request_waits_is_not_sent(tmp_path: Path) -> None:
    """The only connection is busy until the token has ended: nothing is sent, and the caller may try again."""
    ready = asyncio.Event()
    async with (
        proxy(tmp_path, afterwards(b"", OK, ready=ready), says(OK), upstream={"max_connections": 1}) as it,
        wire(it.port) as busy,
        wire(it.port) as late,
    ):
        await busy.send(request(b"GET", b"/closed/a"))
        await eventually(lambda: len(it.bank.requests) == 1)
        it.keeper.mint(it.key("open"), seconds=0.2)
        await late.send(post())
        await eventually(lambda: it.gateway.admission.in_flight == 2)
        await asyncio.sleep(0.3)
        ready.set()
        reply = await late.answer()

        assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
        assert (reply.problem["sent_upstream"], reply.problem["retryable"]) == ("no", True)
        assert (await busy.answer()).status == 200
        assert len(it.bank.requests) == 1
        assert (await ask(it.port, request(b"GET", b"/closed/b"))).status == 200


async def test_without_a_token_nothing_is_sent(tmp_path: Path) -> None:
    """No mint was ever done: when the exchange's time is up, 503 and nothing sent."""
    async with proxy(tmp_path, tokens=False, server={"exchange_timeout": 0.2}) as it:
        reply = await ask(it.port, post())

        agrees(reply, await recorded(it), sent="no")
        assert (reply.status, reply.problem["code"], reply.problem["retryable"]) == (503, "token_unavailable", True)
        assert reply.header(b"Retry-After") == b"1"
        assert it.untouched


async def test_a_streamed_request_gets_the_token_of_when_it_is_sent(tmp_path: Path) -> None:
    """Its head leaves with the first piece of its body: a token that was replaced before that is not used."""
    async with proxy(tmp_path) as it, wire(it.port) as caller:
        await caller.send(request(b"POST", b"/small/pay", b"Content-Length: 100"))
        await eventually(lambda: it.gateway.admission.in_flight == 1)
        it.keeper.mint(it.key("small"))
        await caller.send(bytes(100))

        assert (await caller.answer()).status == 200
        assert bearer(it.last.head) == token_of("small", 2)
