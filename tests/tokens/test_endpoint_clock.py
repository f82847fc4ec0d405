"""Clocks that differ: measured, corrected, named (bad-inputs 121)."""

import asyncio

import pytest

from proxy.errors import TokenRefused
from proxy.events import ClockSkewMeasured
from tests.support.clock import ManualClock
from tests.tokens.support import (
    Events,
    answer,
    credential,
    refusal,
    token,
    token_endpoint,
)
from tests.tokens.support_endpoint import NOW, asserting, at, claims, client, failure, mint


async def test_skew_is_measured_and_corrected() -> None:
    """iat, nbf and exp of the next assertion come from the endpoint's clock."""
    events = Events()
    async with token_endpoint(token(date=at(45))) as bank, client(asserting(bank.url), events=events) as endpoint:
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    first, second = claims(bank.asked[0]), claims(bank.asked[1])
    assert events[0] == ClockSkewMeasured(credential="login", seconds=45)
    for name in ("iat", "nbf", "exp"):
        before, after = first[name], second[name]
        assert isinstance(before, int)
        assert after == before + 45


@pytest.mark.parametrize("skew", [-2, -1, 0, 1, 2])
async def test_two_seconds_of_skew_are_ignored(skew: int) -> None:
    """Date has whole seconds, and the call took time."""
    events = Events()
    async with token_endpoint(token(date=at(skew))) as bank, client(asserting(bank.url), events=events) as endpoint:
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    assert claims(bank.asked[0])["iat"] == claims(bank.asked[1])["iat"]
    assert len(events) == 2


async def test_skew_is_taken_against_the_midpoint_of_the_call() -> None:
    """A call of 10 s makes up for 5 s, and within that nothing is certain."""
    clock, events = ManualClock(NOW), Events()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await clock.advance(10)
        writer.write(token(date=at(11)))

    async with (
        token_endpoint(slow, token()) as bank,
        client(asserting(bank.url), events=events, clock=clock) as endpoint,
    ):
        await endpoint.mint(audience="", scope="")
        await endpoint.mint(audience="", scope="")

    assert events == [ClockSkewMeasured(credential="login", seconds=6)]
    iat = claims(bank.asked[0])["iat"]
    assert isinstance(iat, int)
    assert claims(bank.asked[1])["iat"] == iat + 10


@pytest.mark.parametrize("skew", [300, -300])
async def test_an_assertion_refused_for_the_clock_is_made_anew_once(skew: int) -> None:
    """The refusal itself tells the time: a second assertion with the corrected clock goes out at once (121)."""
    async with token_endpoint(refusal(date=at(skew)), token(date=at(skew))) as bank:
        assert await mint(asserting(bank.url)) == "abc.DEF-123"

    first, second = (claims(asked) for asked in bank.asked)
    iat = first["iat"]
    assert isinstance(iat, int)
    assert second["iat"] == iat + skew
    assert first["jti"] != second["jti"]


async def test_a_refusal_names_the_clock() -> None:
    """If it is refused all the same, the operator reads how far off the clock is, and no third request is made."""
    async with token_endpoint(refusal(date=at(300))) as bank:
        error = await failure(asserting(bank.url))

    assert len(bank.asked) == 2
    assert error.cause == (
        "401 invalid_client: no (this machine's clock is 300 s behind the token endpoint's, "
        "which assertions are corrected for)"
    )
    assert "clock" not in error.detail


async def test_correction_is_bounded_to_ten_minutes() -> None:
    """A clock that is an hour off is named, not covered up."""
    async with token_endpoint(refusal(date=at(-3600))) as bank:
        error = await failure(asserting(bank.url))

    iat = claims(bank.asked[0])["iat"]
    assert isinstance(iat, int)
    assert claims(bank.asked[1])["iat"] == iat - 600
    assert "3600 s ahead of the token endpoint's, too far to correct" in error.cause


async def test_a_clock_that_was_set_since_is_noticed() -> None:
    """The old correction makes the next assertion wrong; its refusal heals that in the same mint."""
    clock = ManualClock(NOW)
    replies = token(date=at(300)), refusal(date=at(300)), token(date=at(300))
    async with token_endpoint(*replies) as bank, client(asserting(bank.url), clock=clock) as endpoint:
        await endpoint.mint(audience="", scope="")
        clock.set_wall(NOW + 300)
        await endpoint.mint(audience="", scope="")

    iats = [claims(asked)["iat"] for asked in bank.asked]
    assert iats == [NOW - 10, NOW + 590, NOW + 290]


async def test_a_refusal_without_skew_is_not_tried_again() -> None:
    """A bank sees every failed client authentication (bad-inputs 119)."""
    async with token_endpoint(refusal(date=at(1))) as bank:
        error = await failure(asserting(bank.url))

    assert isinstance(error, TokenRefused)
    assert len(bank.asked) == 1


async def test_skew_does_not_matter_to_secrets() -> None:
    """A refused client secret is refused, whatever the clock."""
    async with token_endpoint(refusal(date=at(300))) as bank:
        error = await failure(credential(bank.url))

    assert len(bank.asked) == 1
    assert "clock" not in error.cause


@pytest.mark.parametrize("date", ["soon", "", "Mon, 99 Foo 2026 00:00:00 GMT"])
async def test_a_broken_date_measures_nothing(date: str) -> None:
    """Nonsense in Date is no skew, and no reason to fail."""
    events = Events()
    async with token_endpoint(token(date=date)) as bank, client(asserting(bank.url), events=events) as endpoint:
        await endpoint.mint(audience="", scope="")

    assert events == []


async def test_the_clock_of_a_page_in_between_does_not_count() -> None:
    """HTML is another machine's answer, so its Date says nothing about the endpoint."""
    events = Events()
    page = answer("<html>", kind="text/html", status=403, Date=at(300))
    async with token_endpoint(page) as bank, client(asserting(bank.url), events=events) as endpoint:
        with pytest.raises(TokenRefused):
            await endpoint.mint(audience="", scope="")

    assert events == []
    assert len(bank.asked) == 1
