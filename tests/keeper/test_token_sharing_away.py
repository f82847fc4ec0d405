"""A Redis that is away, slow, full or wrong costs each replica a mint, no waiting, and sharing resumes by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.events import TokenMinted, TokenSharingFailed, TokenSharingRecovered
from proxy.simulator.server import Bank, simulator
from proxy.stores.redis_client import StoreAway
from proxy.tokens.token_store import RedisTokenStore
from tests.journeys.support import TOKEN_PATH
from tests.keeper.sharing import NAMES, Replica, all_have_one, each_has_one, made, names, refuse_all, running, three
from tests.support.redis import redis_server
from tests.support.tcp_relay import tcp_relay
from tests.upstream.support import eventually

# A mint of the simulator takes milliseconds; the rest is for a busy machine.
ABOUT_A_SECOND = 2.0


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    """Run the simulator."""
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as running_bank:
        yield running_bank


async def say(words: str, *replicas: Replica) -> None:
    """Return once all say *words*, each once."""
    await eventually(lambda: all(words in one.problem for one in replicas))
    for one in replicas:
        assert [event.cause for event in one.said(TokenSharingFailed)].count(one.problem) <= 1  # type: ignore[attr-defined]


async def share_again(bank: Bank, *replicas: Replica) -> None:
    """Return once nobody complains, and the next token, after a refusal, costs one mint."""
    await eventually(lambda: not any(one.problem for one in replicas))
    before, old = bank.world.mint_count(), {one.fingerprint for one in replicas}
    await refuse_all(*replicas)
    assert await all_have_one(*replicas) not in old
    assert bank.world.mint_count() == before + 1
    assert all(one.said(TokenSharingRecovered) for one in replicas)


async def replaced_in_time(*replicas: Replica) -> None:
    """Have every replica replace its token, none waiting for Redis for longer than about a second."""
    started = asyncio.get_running_loop().time()
    told = await asyncio.gather(*(one.refuse(one.token) for one in replicas))
    assert asyncio.get_running_loop().time() - started < ABOUT_A_SECOND
    assert set(told) == {"replaced"}


async def test_away_at_start_and_there_later(tmp_path: Path, bank: Bank) -> None:
    """Each mints at once and says why; when the Redis comes, the next token is one for all."""
    async with redis_server(tmp_path) as redis:
        await redis.end()
        replicas = three(tmp_path, bank, redis)
        async with running(*replicas):
            await each_has_one(*replicas)
            assert bank.world.mint_count() == 3
            await say("it can't be reached", *replicas)
            await redis.start()
            await all_have_one(*replicas)  # the newest
            assert bank.world.mint_count() == 3
            await share_again(bank, *replicas)


@pytest.mark.parametrize("how", ["ended", "stopped"])
async def test_away_later(tmp_path: Path, bank: Bank, how: str) -> None:
    """The token in use stays; a refused one is replaced by each replica within about a second."""
    async with redis_server(tmp_path) as redis:
        replicas = three(tmp_path, bank, redis)
        async with running(*replicas):
            await all_have_one(*replicas)
            if how == "ended":
                await redis.end()
            else:
                redis.stop()
            await replaced_in_time(*replicas)
            assert bank.world.mint_count() == 4
            await say("can't be reached" if how == "ended" else "did not answer in time", *replicas)
            if how == "ended":
                await redis.start()
            else:
                redis.resume()
            await share_again(bank, *replicas)
            # Those that were given up are closed: each has at most as many as it may open.
            assert (await redis.command("CLIENT", "LIST")).count(b" addr=") <= 3 * 4 + 1


@pytest.mark.parametrize("how", ["slow", "partitioned"])
async def test_one_replica_with_a_bad_way_to_it(tmp_path: Path, bank: Bank, how: str) -> None:
    """Five seconds for an answer, or none: that replica mints for itself, the others go on sharing."""
    async with redis_server(tmp_path) as redis, tcp_relay(redis.port) as relay:
        first, second = (made(tmp_path / name, bank, redis.url) for name in ("a", "b"))
        apart = made(tmp_path / "c", bank, f"redis://127.0.0.1:{relay.port}/0")
        async with running(first, second, apart):
            await all_have_one(first, second, apart)
            relay.delay, relay.dropping = (5.0, False) if how == "slow" else (0.0, True)
            await replaced_in_time(first, second, apart)
            assert await all_have_one(first, second) != apart.fingerprint
            assert bank.world.mint_count() == 3
            await say("did not answer in time", apart)
            assert (first.problem, second.problem) == ("", "")
            relay.delay, relay.dropping = 0.0, False
            await eventually(lambda: not apart.problem)
            await all_have_one(first, second, apart)
            await first.refuse(first.token)
            await all_have_one(first, second, apart)
            assert bank.world.mint_count() == 4


@pytest.mark.parametrize("when", ["at start", "later"])
@pytest.mark.parametrize(
    "fault",
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
            "NOREPLICAS",
        ),
        (("ACL", "SETUSER", "default", "-eval", "-set"), ("ACL", "SETUSER", "default", "+@all"), "NOPERM"),
        (("ACL", "SETUSER", "default", "resetkeys", "~other"), ("ACL", "SETUSER", "default", "~*"), "NOPERM"),
    ],
    ids=["full", "read-only", "without replicas", "commands forbidden", "keys forbidden"],
)
async def test_it_takes_no_writes(
    tmp_path: Path, bank: Bank, fault: tuple[tuple[str, ...], tuple[str, ...], str], when: str
) -> None:
    """It is known before a mint needs it, and named by what Redis calls it."""
    command, undo, words = fault
    async with redis_server(tmp_path) as redis:
        if when == "at start":
            await redis.command(*command)
        replicas = three(tmp_path, bank, redis)
        async with running(*replicas):
            await each_has_one(*replicas)
            if when == "later":
                await all_have_one(*replicas)
                await redis.command(*command)
            await say(words, *replicas)
            await replaced_in_time(*replicas)
            assert all(one.said(TokenMinted) for one in replicas)
            await redis.command(*undo)
            await share_again(bank, *replicas)


@pytest.mark.parametrize(("login", "words"), [("", "NOAUTH"), (":wrong@", "WRONGPASS")])
async def test_it_refuses_our_password(tmp_path: Path, bank: Bank, login: str, words: str) -> None:
    """It is no outage: each mints for itself until the URL is right."""
    async with redis_server(tmp_path, "--requirepass", "secret") as redis:
        url = redis.url.replace("//", f"//{login}")
        replicas = [made(tmp_path / name, bank, url) for name in NAMES]
        async with running(*replicas):
            await each_has_one(*replicas)
            assert bank.world.mint_count() == 3
            await say(words, *replicas)
            await replaced_in_time(*replicas)


async def test_scripts_are_forbidden(tmp_path: Path, bank: Bank) -> None:
    """Shared servers often forbid them to users that may write: that is known without a mint, and stays known."""
    async with redis_server(tmp_path) as redis:
        await redis.command("ACL", "SETUSER", "default", "-@scripting")
        one = made(tmp_path / "a", bank, redis.url)
        async with running(one):
            await each_has_one(one)
            await say("NOPERM", one)
            await replaced_in_time(one)
            await asyncio.sleep(2.5)  # two looks
            assert not one.said(TokenSharingRecovered)
            await redis.command("ACL", "SETUSER", "default", "+@scripting")
            await share_again(bank, one)


async def test_a_late_answer_does_not_free_the_lease(
    tmp_path: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is extended over the connections that are opened next, and what is minted under it is published there."""
    extend, late, kept = RedisTokenStore.extend, list[RedisTokenStore](), list[RedisTokenStore]()

    async def extended(store: RedisTokenStore, name: str, nonce: str) -> None:
        if not late:
            late.append(store)
            one.manager.sharing.lost(StoreAway("it did not answer in time"))  # type: ignore[attr-defined]
        if store in late:
            raise StoreAway("it did not answer in time")
        await extend(store, name, nonce)
        kept.append(store)

    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=5.0, times=1)
    async with redis_server(tmp_path) as redis:
        one = made(tmp_path / "a", bank, redis.url)
        monkeypatch.setattr(RedisTokenStore, "extend", extended)
        async with running(one):
            await eventually(lambda: bool(kept))
            await each_has_one(one)
            for _ in range(100):
                if await names(redis):
                    break
                await asyncio.sleep(0.1)
            assert await names(redis)
            assert (await redis.command("CLIENT", "LIST")).count(b" addr=") <= 4 + 1
