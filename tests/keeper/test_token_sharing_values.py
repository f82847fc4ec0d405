"""What stands in the Redis of shared tokens: sealed, put there again if lost, never believed if it is not ours."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.simulator.server import Bank, simulator
from proxy.stores.encryption import Seal
from tests.journeys.waiting import until
from tests.keeper.sharing import KEYS, Replica, all_have_one, each_has_one, made, names, refuse_all, running, three
from tests.support.redis import RedisServer, redis_server
from tests.upstream.support import eventually

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    """Run the simulator."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as running_bank:
        yield running_bank


@pytest.mark.parametrize("how", ["flushed", "evicted"])
async def test_what_is_lost_is_put_there_again(tmp_path: Path, bank: Bank, how: str) -> None:
    """A replica that joins then takes the token of the others."""
    async with redis_server(tmp_path) as redis:
        first, second = (made(tmp_path / name, bank, redis.url) for name in ("a", "b"))
        async with running(first, second):
            await all_have_one(first, second)
            [name] = await names(redis)
            await redis.command(*(("FLUSHALL",) if how == "flushed" else ("DEL", name)))
            await there_again(redis, name)
            late = made(tmp_path / "c", bank, redis.url)
            async with running(late):
                await all_have_one(first, second, late)
        assert bank.world.mint_count() == 1


async def there_again(redis: RedisServer, name: str) -> None:
    """Return once *name* is there."""

    async def there() -> bool:
        return await redis.command("EXISTS", name) == b":1\r\n"

    await until(there, otherwise=f"{name} was not restored")


@pytest.mark.parametrize("when", ["at start", "later"])
@pytest.mark.parametrize(
    "what", ["garbage", "another type", "another key's", "another environment's", "another name's"]
)
async def test_what_is_there_is_not_ours(tmp_path: Path, bank: Bank, what: str, when: str) -> None:
    """It is not used, but replaced by the token that the replicas then share."""
    async with redis_server(tmp_path) as redis:
        wrong = await foreign(tmp_path, bank, redis, what)
        before = bank.world.mint_count()
        replicas = three(tmp_path, bank, redis)
        if when == "at start":
            await redis.command(*wrong)
        async with running(*replicas):
            await all_have_one(*replicas)
            if when == "later":
                await redis.command(*wrong)
            await share_again_without_words(redis, bank, _bytes(wrong[-1]), *replicas)
        assert bank.world.mint_count() == before + 2


async def share_again_without_words(redis: RedisServer, bank: Bank, wrong: bytes, *replicas: Replica) -> None:
    """Return once what was wrong is gone, and the next token is one for all."""

    async def gone() -> bool:
        [name] = await names(redis)
        is_string = await redis.command("TYPE", name) == b"+string\r\n"
        return is_string and wrong not in await redis.command("GET", name)

    await until(gone, otherwise="it was not replaced")
    await eventually(lambda: not any(one.problem for one in replicas))
    before = bank.world.mint_count()
    await refuse_all(*replicas)
    await all_have_one(*replicas)
    assert bank.world.mint_count() == before + 1


def _bytes(word: str | bytes) -> bytes:
    return word if isinstance(word, bytes) else word.encode()


async def test_the_foreign_values_of_these_tests_are_wrong_in_one_thing_only(tmp_path: Path, bank: Bank) -> None:
    """With key, environment and name of ours the same value is adopted; the origins are ours even then."""
    async with redis_server(tmp_path) as redis:
        await redis.command(*await foreign(tmp_path, bank, redis, "ours"))
        one = made(tmp_path / "a", bank, redis.url)
        async with running(one):
            await each_has_one(one)
            assert (one.token.value.reveal(), one.token.origins) == ("stolen", (bank.url,))


async def foreign(directory: Path, bank: Bank, redis: RedisServer, what: str) -> tuple[str | bytes, ...]:
    """Return the command that puts something else in the place of the token."""
    model = made(directory / "model", bank, redis.url)
    async with running(model):
        await each_has_one(model)
        [name] = await names(redis)
    await redis.command("FLUSHALL")
    if what == "another type":
        return ("EVAL", "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], ARGV[1])", "1", name, "x" * 100)
    if what == "garbage":
        return ("SET", name, "x" * 100)
    key = KEYS["new"] if what == "another key's" else KEYS["old"]
    environment = "production" if what == "another environment's" else "mock"
    place = name.partition(":mock:")[2] if what != "another name's" else "token:other"
    text = '{"token": "stolen", "lifetime": 3600, "ends": 9e9, "ends_wall": 9e9, "minter": "x"}'
    sealed = Seal([key.encode()], environment=environment, entropy=SystemEntropy()).close(place, text.encode())
    return ("SET", name, sealed)


async def test_replicas_with_other_keys_mint_apart(tmp_path: Path, bank: Bank) -> None:
    """Both say so; with the new key second everywhere first, a rotation of keys costs no mint."""
    async with redis_server(tmp_path) as redis:
        first, second = (
            made(tmp_path / name, bank, redis.url, keys=keys) for name, keys in (("a", ("old",)), ("b", ("new",)))
        )
        async with running(first, second):
            await each_has_one(first, second)
            await eventually(lambda: all("can't be used" in one.problem for one in (first, second)))
            assert bank.world.mint_count() == 2


async def test_a_rotation_of_the_encryption_keys_costs_no_mint(tmp_path: Path, bank: Bank) -> None:
    """[old, new], then [new, old], then [new]: each round on all replicas, one after the other."""
    async with redis_server(tmp_path) as redis:
        rounds = [("old",), ("old", "new"), ("new", "old"), ("new",)]
        for before, after in pairwise(rounds):
            first, second = (made(tmp_path / name, bank, redis.url, keys=before) for name in ("a", "b"))
            async with running(second):
                async with running(first):
                    await all_have_one(first, second)
                first = made(tmp_path / "a", bank, redis.url, keys=after)
                async with running(first):
                    await all_have_one(first, second)
                    assert (first.problem, second.problem) == ("", "")
            # Which key it has meanwhile is not settled: each replica encrypts it once again with its own first key.
            second = made(tmp_path / "b", bank, redis.url, keys=after)
            async with running(second):
                await each_has_one(second)
                await is_sealed_by(redis, after[0])
        assert bank.world.mint_count() == 1


async def is_sealed_by(redis: RedisServer, key: str) -> None:
    """Return once the shared token is encrypted with *key*."""
    seal = Seal([KEYS[key].encode()], environment="mock", entropy=SystemEntropy())

    async def current() -> bool:
        [name] = await names(redis)
        return seal.is_current((await redis.command("GET", name)).partition(b"\r\n")[2])

    await until(current, otherwise=f"it was not encrypted with the {key} key")


async def test_an_older_value_is_not_taken_back(tmp_path: Path, bank: Bank) -> None:
    """A Redis restored from a copy has the token that was refused meanwhile, without an end."""
    async with redis_server(tmp_path) as redis:
        first, second = (made(tmp_path / name, bank, redis.url) for name in ("a", "b"))
        async with running(first, second):
            old = await all_have_one(first, second)
            [name] = await names(redis)
            await redis.command("COPY", name, "copy")
            await redis.command("PERSIST", "copy")
            await first.refuse(first.token)
            new = await all_have_one(first, second)
            assert new != old
            await redis.command("COPY", "copy", name, "REPLACE")
            await asyncio.sleep(2.5)
            assert (first.fingerprint, second.fingerprint) == (new, new)
            await second.refuse(second.token)
            assert await all_have_one(first, second) not in {old, new}
        assert bank.world.mint_count() == 3


async def test_values_are_sealed_and_end_before_the_token(tmp_path: Path, bank: Bank) -> None:
    """No token is seen there, and every key has an end."""
    async with redis_server(tmp_path) as redis:
        one = made(tmp_path / "a", bank, redis.url)
        async with running(one):
            await each_has_one(one)
            [name] = await names(redis)
            secret = one.token.value.reveal().encode()
            assert secret not in await redis.command("GET", name)
            left = int((await redis.command("PTTL", name))[1:-2]) / 1000
            assert 0 < left <= one.status.seconds_left + 1
            everything = (await redis.command("KEYS", "*")).decode().split("\r\n")
            for key in [line for line in everything if line.startswith("payproxy:")]:
                assert int((await redis.command("PTTL", key))[1:-2]) != -1, key


async def test_a_lease_that_somebody_holds_for_ever_is_taken(tmp_path: Path, bank: Bank) -> None:
    """One of ours ends after two seconds: what has no end, or another type, was put there by somebody else."""
    async with redis_server(tmp_path) as redis:
        first = made(tmp_path / "a", bank, redis.url)
        async with running(first):
            await each_has_one(first)
            [name] = await names(redis)
            lease = name.replace(":token:", ":lease:")
            for command in (("SET", lease, "x"), ("RPUSH", lease, "x")):
                await redis.command("DEL", lease)
                await redis.command(*command)
                assert await first.refuse(first.token) == "replaced"
        assert bank.world.mint_count() == 3
