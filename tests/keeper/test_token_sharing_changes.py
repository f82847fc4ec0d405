"""Shared tokens while the configuration, the credential or the process changes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.credentials.credential import Credential
from proxy.entropy import SystemEntropy
from proxy.events import MintFailed, TokenAdopted
from proxy.simulator.server import Bank, simulator
from proxy.tokens import token_store
from tests.journeys.support import TOKEN_PATH
from tests.keeper.sharing import Replica, all_have_one, each_has_one, made, names, running
from tests.support.redis import RedisServer, redis_server
from tests.upstream.support import eventually

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    """Run the simulator."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as running_bank:
        yield running_bank


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a Redis."""
    async with redis_server(tmp_path) as server:
        yield server


def rotated(one: Replica) -> Credential:
    """Return the credential of *one* with another secret, as a rotation loads it."""
    credential = one.manager.credential("mock")
    assert credential is not None
    return replace(credential, key_fingerprint="f" * 16)


async def test_a_token_of_the_old_credential_is_not_published_as_the_new_ones(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """Nor one whose mint was under way when the credential was replaced, under either name."""
    one = made(tmp_path / "a", bank, redis.url)
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=0.5, times=1)
    async with running(one):
        await eventually(lambda: bank.world.mint_count() == 1)
        await one.manager.replace_credential("mock", rotated(one))
        await each_has_one(one)
        await asyncio.sleep(2.5)  # two looks
        assert await names(redis) == []
        await one.refuse(one.token)
        await each_has_one(one)
        await eventually(lambda: bank.world.mint_count() == 2)
    [name] = await names(redis)
    assert name.endswith(":" + "f" * 16)


async def test_a_replica_with_the_new_credential_shares_with_those_that_have_it(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """A rotation goes from replica to replica; the first new token serves all that have followed."""
    first, second, last = (made(tmp_path / name, bank, redis.url) for name in ("a", "b", "c"))
    async with running(first, second, last):
        old = await all_have_one(first, second, last)
        for one, refused in ((first, first.token), (second, second.token)):
            await one.manager.replace_credential("mock", rotated(one))
            await one.refuse(refused)
        new = await all_have_one(first, second)
        await asyncio.sleep(2.5)  # two looks
        assert (first.fingerprint, last.fingerprint) == (new, old)
    assert bank.world.mint_count() == 2


async def test_a_reload_keeps_what_was_learned(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """The new manager has the token, publishes it again if it is lost, and knows which one was refused."""
    before = made(tmp_path / "a", bank, redis.url)
    async with running(before):
        await each_has_one(before)
        refused = before.token
        [name] = await names(redis)
        await redis.command("COPY", name, "copy")
        await before.refuse(refused)
        held = before.fingerprint
        after = made(tmp_path / "a", bank, redis.url, serial=count(10))
        after.manager.adopt(before.manager)
        async with running(after):
            assert after.fingerprint == held
            await redis.command("COPY", "copy", name, "REPLACE")
            await after.refuse(after.token)
            assert after.token.value != refused.value
            await redis.command("FLUSHALL")
            late = made(tmp_path / "b", bank, redis.url)
            for _ in range(100):
                if await names(redis):
                    break
                await asyncio.sleep(0.1)
            async with running(late):
                assert await all_have_one(after, late) != held
    assert bank.world.mint_count() == 3


async def test_a_reload_without_a_token_keeps_what_was_learned(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """While the token endpoint is out, the refused token comes back, as from a copy of Redis: it is not adopted."""
    before = made(tmp_path / "a", bank, redis.url)
    async with running(before):
        await each_has_one(before)
        [name] = await names(redis)
        await redis.command("COPY", name, "copy")
        bank.world.faults.set("status", path=TOKEN_PATH, status=503)
        assert await before.refuse(before.token) == "failed"
        after = made(tmp_path / "a", bank, redis.url, serial=count(10))
        after.manager.adopt(before.manager)
    await redis.command("COPY", "copy", name, "REPLACE")
    async with running(after):
        await eventually(lambda: bool(after.said(MintFailed) or after.said(TokenAdopted)))
        assert not after.said(TokenAdopted)


async def test_new_files_of_the_same_credential_keep_what_was_learned(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """Its CA or PIN is another: the token in use is not adopted a second time, nor put aside if Redis loses it."""
    one = made(tmp_path / "a", bank, redis.url)
    async with running(one):
        await each_has_one(one)
        mint = one.token.mint
        [name] = await names(redis)
        same = one.manager.credential("mock")
        assert same is not None
        await one.manager.replace_credential("mock", replace(same))
        await redis.command("DEL", name)
        for _ in range(100):
            if await names(redis):
                break
            await asyncio.sleep(0.1)
        assert await names(redis) == [name]
        assert one.token.mint == mint
        assert not one.said(TokenAdopted)
    assert bank.world.mint_count() == 1


@pytest.mark.thorough
async def test_a_replica_that_stops_leaves_no_connection(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Nor a task; and a lease that it held ends by itself."""
    before = asyncio.all_tasks()
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=30, times=1)
    one, other = made(tmp_path / "a", bank, redis.url), made(tmp_path / "b", bank, redis.url)
    async with running(one):
        await eventually(lambda: bank.world.mint_count() == 1)
    async with running(other):
        await each_has_one(other)
    assert bank.world.mint_count() == 2
    await eventually(lambda: len(asyncio.all_tasks() - before) <= 1)  # the simulator's slow answer

    async def clients() -> int:
        return (await redis.command("CLIENT", "LIST")).count(b" addr=")

    async with asyncio.timeout(60):
        while await clients() != 1:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.1)


async def test_a_defect_in_sharing_is_no_reason_to_have_no_token(
    tmp_path: Path, bank: Bank, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica mints for itself and says so, and its other slots go on."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    one = made(tmp_path / "a", bank, redis.url)
    monkeypatch.setattr(token_store.RedisTokenStore, "read", broken)
    async with running(one):
        await each_has_one(one)
        await eventually(lambda: "a defect of the proxy (ZeroDivisionError)" in one.problem)
        monkeypatch.undo()
        await eventually(lambda: not one.problem)
        assert await one.refuse(one.token) == "replaced"
    assert bank.world.mint_count() == 2


async def test_a_clock_of_redis_that_is_set_back_lets_newer_tokens_be_newer(
    tmp_path: Path, bank: Bank, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a failover to a host whose clock is right: what was minted before counted as newer by the difference."""
    read, ahead = token_store.RedisTokenStore.read, [1000.0]

    async def by_another_clock(
        store: token_store.RedisTokenStore, names: Sequence[str], *, probe: bool = False
    ) -> tuple[float, Mapping[str, token_store.Seen]]:
        now, seen = await read(store, names, probe=probe)
        return now + ahead[0], seen

    monkeypatch.setattr(token_store.RedisTokenStore, "read", by_another_clock)
    first, second, third = (made(tmp_path / name, bank, redis.url) for name in ("a", "b", "c"))
    async with running(first, second, third):
        before = await all_have_one(first, second, third)
        ahead[0] = 0.0
        await first.refuse(first.token)
        assert await all_have_one(first, second, third) != before
        adopted = len(second.said(TokenAdopted))
        await asyncio.sleep(2.5)  # two looks
        assert len(second.said(TokenAdopted)) == adopted
        old = first.fingerprint
        await second.refuse(second.token)
        assert await all_have_one(first, second, third) != old
    assert bank.world.mint_count() == 3
