"""Endpoints that break off, drip, flood or are not there (bad-inputs 112, 114, 125)."""

import asyncio
import gzip

import pytest

from proxy.errors import TokenUnavailable
from tests.tokens.support import (
    answer,
    credential,
    token,
    token_endpoint,
)
from tests.tokens.support_endpoint import client, failure


async def test_a_slow_drip_ends_at_the_deadline() -> None:
    """A byte now and then doesn't keep the call alive (bad-inputs 125)."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with token_endpoint(drip) as bank:
        error = await failure(credential(bank.url, timeout=0.3))

    assert error.detail == "The token endpoint of credential login did not answer in time."
    assert error.__context__ is None


async def test_silence_ends_at_the_deadline() -> None:
    """An endpoint that takes the request and says nothing is an outage (bad-inputs 112)."""

    async def silence(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with token_endpoint(silence) as bank:
        error = await failure(credential(bank.url, timeout=0.2))

    assert isinstance(error, TokenUnavailable)
    assert len(bank.asked) == 1


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_answer_is_cut_off(status: int) -> None:
    """64 KiB are read, then the connection is closed (bad-inputs 114)."""
    written = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n\r\n".encode())
        while True:
            writer.write(b" " * 65536)
            await writer.drain()
            written += 65536

    async with token_endpoint(endless) as bank:
        error = await failure(credential(bank.url))

    assert "more than 65536 bytes" in error.cause
    assert written < 50_000_000


async def test_a_body_that_ends_early_is_no_token() -> None:
    """A cut answer is an outage, also if what came would parse."""

    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(token().replace(b"Content-Length: ", b"Content-Length: 9"))
        writer.close()

    async with token_endpoint(cut) as bank:
        error = await failure(credential(bank.url))

    assert error.cause == "the answer broke off"


async def test_a_compressed_answer_is_not_inflated() -> None:
    """It was not asked for, and a small one can become gigabytes."""
    bomb = gzip.compress(b" " * 5_000_000)
    async with token_endpoint(answer(bomb, Content_Encoding="gzip")) as bank:
        error = await failure(credential(bank.url))

    assert "compressed" in error.cause


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 CANARY OK\r\n\r\n", b"CANARY\r\n\r\n", b"HTTP/1.1 200 OK\r\nCANARY\r\n\r\n", b"\x00" * 200]
)
async def test_what_is_no_http_is_not_quoted(reply: bytes) -> None:
    """The library's exceptions quote the answer; ours don't."""
    async with token_endpoint(reply) as bank:
        error = await failure(credential(bank.url, timeout=1))

    assert isinstance(error, TokenUnavailable)
    assert "CANARY" not in error.detail + error.cause


async def test_connection_refused() -> None:
    """Nobody listens: an outage that says so (bad-inputs 112)."""
    async with token_endpoint() as bank:
        url = bank.url
    error = await failure(credential(url))

    assert error.detail == "The token endpoint of credential login can't be reached."
    assert error.cause == "no connection: Connection refused" or error.cause.startswith("no connection: Connect call")


async def test_a_cancelled_mint_leaves_nothing_open() -> None:
    """Cancellation passes, and the connection is closed (a socket left open fails this test)."""
    came = asyncio.Event()

    async def silence(_: asyncio.StreamWriter) -> None:
        came.set()
        await asyncio.Event().wait()

    async with token_endpoint(silence) as bank, client(credential(bank.url)) as endpoint:
        task = asyncio.create_task(endpoint.mint(audience="", scope=""))
        await asyncio.wait_for(came.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_two_audiences_are_minted_in_parallel() -> None:
    """Neither waits for the other's answer (bad-inputs 124)."""
    both = asyncio.Barrier(2)

    async def together(writer: asyncio.StreamWriter) -> None:
        await both.wait()
        writer.write(token())

    async with (
        token_endpoint(together) as bank,
        client(credential(bank.url, audience_parameter="audience")) as endpoint,
    ):
        await asyncio.gather(endpoint.mint(audience="a", scope=""), endpoint.mint(audience="b", scope=""))

    assert sorted(asked.form["audience"] for asked in bank.asked) == ["a", "b"]
