"""Replicas that share a real Redis have one mint for each token (bad-inputs 132, 145), counted by the simulator."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.events import TokenAdopted, TokenMinted, TokenSharingStopped
from proxy.simulator.server import Bank, simulator
from tests.journeys.support import TOKEN_PATH
from tests.keeper.sharing import NAMES, SkewedClock, all_have_one, each_has_one, made, running, three
from tests.support.redis import REDIS, VALKEY, RedisServer, redis_server, sentinel
from tests.upstream.support import eventually

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    """Run the simulator."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as running_bank:
        yield running_bank


@pytest.fixture(params=[REDIS, pytest.param(VALKEY, marks=pytest.mark.thorough)])
async def redis(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RedisServer]:
    """Run a Redis or a Valkey."""
    async with redis_server(tmp_path, program=request.param) as server:
        yield server


async def test_three_that_start_together_mint_once(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Although the token endpoint takes longer than a lease lasts."""
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=3.0)
    replicas = three(tmp_path, bank, redis)
    async with running(*replicas):
        await all_have_one(*replicas)

    assert bank.world.mint_count() == 1
    assert sorted(len(one.said(TokenMinted)) for one in replicas) == [0, 0, 1]
    assert sorted(len(one.said(TokenAdopted)) for one in replicas) == [0, 1, 1]
    [minter] = {one.status.minter for one in replicas if one.status.minter}
    assert minter.partition("-")[0] in NAMES


async def test_one_that_joins_or_comes_back_does_not_mint(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """It takes the token that is there, with what is left of its life, and numbers it by itself."""
    first = made(tmp_path / "a", bank, redis.url)
    async with running(first):
        await each_has_one(first)
        late = made(tmp_path / "b", bank, redis.url)
        async with running(late):
            await all_have_one(first, late)
            assert (late.token.mint, late.token.origins) == (1, first.token.origins)
            assert first.token.expires - 1.0 <= late.token.expires <= first.token.expires
    again = made(tmp_path / "b", bank, redis.url)
    async with running(again):
        await each_has_one(again)

    assert bank.world.mint_count() == 1


@pytest.mark.thorough
async def test_short_tokens_cost_one_mint_for_all_and_never_a_wait(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """Tokens of five seconds are renewed every three, by one of three; each always has one that can be sent."""
    bank.world.faults.set("lifetime", path=TOKEN_PATH, seconds=5)
    replicas = three(tmp_path, bank, redis)
    async with running(*replicas):
        await all_have_one(*replicas)
        while bank.world.mint_count() < 5:
            assert all(one.fingerprint for one in replicas)
            await asyncio.sleep(0.02)
        await all_have_one(*replicas)
    minted = [one.when for one in bank.world.seen(TOKEN_PATH)]

    assert min(later - earlier for earlier, later in pairwise(minted)) >= 2.9
    for one in replicas:
        serials = [update.token.mint for update in one.updates if update.token is not None]
        assert serials == sorted(set(serials))


async def test_a_revoked_token_costs_one_mint_for_all_replicas(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """200 requests are in flight on each when it is refused."""
    replicas = three(tmp_path, bank, redis)
    async with running(*replicas):
        revoked = await all_have_one(*replicas)
        bank.world.faults.set("slow", path=TOKEN_PATH, seconds=0.5)
        tokens = [one.token for one in replicas]
        told = await asyncio.gather(
            *(one.refuse(token) for one, token in zip(replicas, tokens, strict=True) for _ in range(200))
        )
        assert set(told) == {"replaced"}
        assert await all_have_one(*replicas) != revoked
        # One more, of a request that was sent before, costs nothing.
        assert await replicas[0].refuse(tokens[0]) == "replaced"

    assert bank.world.mint_count() == 2


async def test_who_has_no_traffic_learns_of_the_new_token(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Within a second or two, before its first request would be refused."""
    replicas = three(tmp_path, bank, redis)
    async with running(*replicas):
        revoked = await all_have_one(*replicas)
        await replicas[1].refuse(replicas[1].token)
        await eventually(lambda: revoked not in {one.fingerprint for one in replicas})
        await all_have_one(*replicas)

    assert bank.world.mint_count() == 2


async def test_a_late_refusal_does_not_delete_the_next_token(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Only the very token that was refused is deleted in Redis."""
    first, second = made(tmp_path / "a", bank, redis.url), made(tmp_path / "b", bank, redis.url)
    async with running(first, second):
        await all_have_one(first, second)
        old = second.token
        await first.refuse(first.token)
        assert await second.refuse(old) == "replaced"
        await all_have_one(first, second)

    assert bank.world.mint_count() == 2


@pytest.mark.parametrize("skew", [-5.0, 5.0])
async def test_clocks_may_be_five_seconds_apart(tmp_path: Path, bank: Bank, redis: RedisServer, skew: float) -> None:
    """A token of ten seconds ends for both at the same moment, and is never sent after that."""
    bank.world.faults.set("lifetime", path=TOKEN_PATH, seconds=10)
    first = made(tmp_path / "a", bank, redis.url)
    other = made(tmp_path / "b", bank, redis.url, clock=SkewedClock(skew=skew))
    async with running(first):
        await each_has_one(first)
        async with running(other):
            await all_have_one(first, other)
            assert first.token.expires - 1.0 <= other.token.expires <= first.token.expires

    assert bank.world.mint_count() == 1


async def test_a_failing_minter_lets_the_others_try(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Its way to the token endpoint may be broken; the one that gets a token gives it to those that failed."""
    bank.world.faults.set("status", path=TOKEN_PATH, status=500, times=2)
    replicas = three(tmp_path, bank, redis)
    async with running(*replicas):
        await all_have_one(*replicas)

    assert bank.world.mint_count() == 1


async def test_another_secret_has_another_token(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Nobody adopts a token of an old credential; those with the same one share it."""
    first = made(tmp_path / "a", bank, redis.url)
    async with running(first):
        await each_has_one(first)
        bank.world.register_secret_client("mock-client", "new-secret")
        second, third = (made(tmp_path / name, bank, redis.url, secret="new-secret") for name in ("b", "c"))
        async with running(second, third):
            renewed = await all_have_one(second, third)
            assert renewed != first.fingerprint

    assert bank.world.mint_count() == 2


async def test_share_tokens_false_mints_alone(tmp_path: Path, bank: Bank, redis: RedisServer) -> None:
    """Each for itself, whatever [state] says; and nothing of it is in Redis."""
    apart = "share_tokens = false"
    replicas = [made(tmp_path / name, bank, redis.url, credential=apart) for name in NAMES]
    async with running(*replicas):
        await each_has_one(*replicas)
        await eventually(lambda: bank.world.mint_count() == 3)
        assert await redis.command("KEYS", "*token*") == b"*0\r\n"


async def test_a_token_bound_to_an_address_is_not_shared_any_more(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """Two of another replica were refused here, though it keeps them, and one minted here is accepted."""
    first, second = made(tmp_path / "a", bank, redis.url), made(tmp_path / "b", bank, redis.url)
    async with running(first):
        await each_has_one(first)
        async with running(second):
            await all_have_one(first, second)
            for _ in range(2):
                adopted = second.token
                assert second.status.minter
                assert await second.refuse(adopted, worked=False) == "replaced"
                second.replayed(adopted.mint)  # of a token that was followed by another it says nothing of that one
                assert not second.said(TokenSharingStopped)
                second.replayed()
                if not second.said(TokenSharingStopped):
                    # What was minted here is refused there, and so on.
                    await eventually(lambda: first.fingerprint == second.fingerprint)
                    await first.refuse(first.token, worked=False)
                    await eventually(lambda: bool(second.status.minter))
            assert len(second.said(TokenSharingStopped)) == 1
            assert "bound to an address" in second.problem
            own, before = second.fingerprint, bank.world.mint_count()
            await second.refuse(second.token)
            assert own != second.fingerprint != first.fingerprint
            assert bank.world.mint_count() == before + 1


async def test_a_token_that_had_worked_is_not_bound_to_an_address(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """It was revoked: sharing goes on, however often that happens."""
    first, second = made(tmp_path / "a", bank, redis.url), made(tmp_path / "b", bank, redis.url)
    async with running(first, second):
        for _ in range(4):
            await all_have_one(first, second)
            late = first if first.status.minter else second
            await late.refuse(late.token, worked=True)
            late.replayed()
        await all_have_one(first, second)
        assert (first.problem, second.problem) == ("", "")


async def test_no_command_for_a_request_and_as_many_for_three_replicas_each(
    tmp_path: Path, bank: Bank, redis: RedisServer
) -> None:
    """A replica asks a few times a second, whatever the others do; requests are served from memory."""

    async def commands(number: int) -> float:
        replicas = [made(tmp_path / f"{number}-{name}", bank, redis.url) for name in NAMES[:number]]
        async with running(*replicas):
            await all_have_one(*replicas)
            await redis.command("CONFIG", "RESETSTAT")
            await asyncio.sleep(5)
            stats = (await redis.command("INFO", "commandstats")).decode()
        lines = [line for line in stats.splitlines() if line.startswith(("cmdstat_get", "cmdstat_set", "cmdstat_time"))]
        return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines) / number / 5

    alone, together = await commands(1), await commands(3)

    assert 2 <= alone <= 4
    assert 2 <= together <= 4


async def test_a_redis_that_sentinels_watch(tmp_path: Path, bank: Bank) -> None:
    """The one that they call master."""
    async with redis_server(tmp_path) as master:
        replica = RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(master.port))
        try:
            await replica.start()
            async with sentinel(tmp_path, master) as port:
                url = f"redis+sentinel://127.0.0.1:{port}/main/0"
                replicas = [made(tmp_path / name, bank, url) for name in NAMES]
                async with running(*replicas):
                    await all_have_one(*replicas)
                    assert bank.world.mint_count() == 1
                    await master.end()
                    async with asyncio.timeout(60):
                        while b"master" not in await replica.command("ROLE"):  # noqa: ASYNC110 - another process's state
                            await asyncio.sleep(0.05)
                    # After the failover the next token is shared again; who was not looking has noticed nothing.
                    await eventually(lambda: not any(one.problem for one in replicas))
                    await replicas[0].refuse(replicas[0].token)
                    await eventually(lambda: len({one.fingerprint for one in replicas}) == 1)
        finally:
            await replica.end()
