"""What the Redis alone has lost, or what somebody else wrote there, is noticed, said, and brought again by replicas."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.journeys.conftest import Start
from tests.journeys.moved import Moved
from tests.journeys.replicas import (
    MEMBERS,
    MIGRATIONS,
    PINS,
    became,
    is_served,
    is_well,
    move,
    reaches,
    replicas,
    says,
)
from tests.journeys.two_banks import two_banks
from tests.journeys.waiting import until
from tests.support.redis import RedisServer, redis_server

# What `_join` and `_look_for_losses` say, and what a value that can't be read makes them say.
LOST, OVERWRITTEN = "it has lost its data", f"{MIGRATIONS} was overwritten"

Fault = Callable[[RedisServer], Awaitable[object]]


async def _deleted(redis: RedisServer) -> bytes:
    return await redis.command("DEL", PINS)


async def _oldest_evicted(redis: RedisServer) -> bytes:
    return await redis.command("XTRIM", PINS, "MAXLEN", "1")


@asynccontextmanager
async def _lost_again_and_again(redis: RedisServer) -> AsyncIterator[None]:
    """Delete the pins in the Redis, for the block, as soon as they were brought again."""
    over = asyncio.Event()

    async def deletes() -> None:
        while not over.is_set():
            await _deleted(redis)
            await asyncio.sleep(0.005)  # each is a connection of its own

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(deletes())
        try:
            yield
        finally:
            over.set()


@pytest.mark.parametrize("lose", [_deleted, _oldest_evicted])
async def test_pins_lost_in_the_redis_alone_are_brought_again(tmp_path: Path, start: Start, lose: Fault) -> None:
    """Both replicas that run say so; one that was stopped when they were made follows them when it is back."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first, second, away = await replicas(tmp_path, "abc", redis, banks, start)
        assert await away.instance.stop() == 0
        await first.fail("lost")
        await second.fail("later")
        await first.roll_back()
        await reaches(second, 0)

        await lose(redis)
        for one in (first, second):
            await says(one, LOST)
        away.instance = await start(away.configuration)

        for key in ("lost", "later"):
            await is_served(away, key)
            assert banks.at(key) == "modern"
        await is_served(away, "other")
        assert banks.at("other") == "legacy"
        for one in (first, second, away):
            await is_well(one)
        banks.check()


async def test_a_replica_that_starts_while_pins_are_lost_never_serves_without_them(
    tmp_path: Path, start: Start
) -> None:
    """Whatever it finds there at the moment of its start: the retry is refused, unsent, until its pin has come."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first, away = await replicas(tmp_path, "ab", redis, banks, start)
        assert await away.instance.stop() == 0
        await first.fail("lost")
        await first.roll_back()

        async with _lost_again_and_again(redis):
            away.instance = await start(away.configuration)
            for _ in range(50):
                await became(away, "lost")
        await is_served(away, "lost")

        assert banks.at("lost") == "modern"
        await is_served(away, "other")
        assert banks.at("other") == "legacy"
        banks.check()


async def _garbage(redis: RedisServer) -> bytes:
    return await redis.command("SET", MIGRATIONS, "nonsense")


async def _tampered_with(redis: RedisServer) -> bytes:
    change = (
        "local v = redis.call('GET', KEYS[1])"
        "return redis.call('SET', KEYS[1], v:sub(1, -2) .. string.char((v:byte(-1) + 1) % 256))"
    )
    return await redis.command("EVAL", change, "1", MIGRATIONS)


async def _of_another_name(redis: RedisServer) -> bytes:
    """Put there a value that a replica has sealed, but for another place."""
    name = (await redis.command("SRANDMEMBER", MEMBERS)).split(b"\r\n")[1].decode()
    return await redis.command("COPY", f"{MEMBERS.removesuffix('s')}:{name}", MIGRATIONS, "REPLACE")


async def _of_another_kind(redis: RedisServer) -> bytes:
    change = "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')"
    return await redis.command("EVAL", change, "1", MIGRATIONS)


async def _one_says(found: list[Moved], words: str) -> None:
    """Return once one of the replicas has said so: the first that notices mends it."""
    await until(
        lambda: any(words in one.instance.stderr.read_text() for one in found), otherwise=f"nobody says {words}"
    )


@pytest.mark.parametrize("spoil", [_garbage, _tampered_with, _of_another_name, _of_another_kind])
async def test_weights_that_somebody_overwrote_are_mended(tmp_path: Path, start: Start, spoil: Fault) -> None:
    """By what the replicas know, which one of them says; nobody has to delete anything, also not before a start."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first, second = await replicas(tmp_path, "ab", redis, banks, start)

        await spoil(redis)
        await _one_says([first, second], OVERWRITTEN)
        for one in (first, second):
            await is_served(one, f"{one.directory.name}-mended")
            assert banks.at(f"{one.directory.name}-mended") == "modern"
            await is_well(one)
        # The value is sound again: a change at one reaches the other by it.
        await move(second, 0, first)

        for one in (first, second):
            assert await one.instance.stop() == 0
        await spoil(redis) if spoil is not _of_another_name else await _garbage(redis)
        second.instance = await start(second.configuration)
        await is_served(second, "later")
        assert banks.at("later") == "legacy"
        first.instance = await start(first.configuration)
        await is_well(first)
        await reaches(first, 0)
        banks.check()
