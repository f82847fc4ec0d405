"""Replicas that share a real Redis: what one decides or pins, the others have; without it the last known holds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.keeper.migrations import MigrationRefused
from proxy.keeper.replicas import Replicas
from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.side import Side
from proxy.migration.stores.pins import Pins
from proxy.migration.stores.redis import RedisStore
from proxy.migration.stores.seal import Seal
from proxy.secret import Secret
from tests.keeper.migrating import BY, Migrating
from tests.support.redis import RedisServer, redis_server
from tests.upstream.support import eventually

CLOCK, ENTROPY = SystemClock(), SystemEntropy()
KEY = b"k" * 32
SOON = 2.0


def pin(number: int) -> Pins:
    """Return a pin that holds for a day."""
    return {f"{number:032x}": RetryPin(Side.MODERN, "bank", CLOCK.now() + PIN_SECONDS)}


def made(directory: Path, redis: RedisServer, *, key: bytes = KEY) -> Migrating:
    """Return the migrations of a keeper that shares *redis*, not begun yet."""
    directory.mkdir(exist_ok=True)
    keeper = Migrating(directory=directory)

    async def opened() -> RedisStore:
        seal = Seal([key], environment="production", entropy=ENTROPY)
        return RedisStore(Secret(redis.url), ca_file="", environment="production", seal=seal)

    migrations = keeper.migrations
    migrations.share = Replicas(
        opened, name=ENTROPY.token_bytes(4).hex(), weights=migrations.weights, pins=migrations.pins, clock=CLOCK
    )
    return keeper


@asynccontextmanager
async def begun(directory: Path, redis: RedisServer) -> AsyncIterator[Migrating]:
    """Begin as a keeper does, and stand still: it says nothing more and hears nothing."""
    keeper = made(directory, redis)
    await keeper.open()
    await keeper.migrations.share.begin()
    try:
        yield keeper
    finally:
        assert isinstance(keeper.migrations.share, Replicas)
        await keeper.migrations.share.close()
        keeper.migrations.close()


@asynccontextmanager
async def going(keeper: Migrating) -> AsyncIterator[None]:
    """Let one that stood still go on while the block lasts."""
    task = asyncio.create_task(keeper.migrations.share.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def running(directory: Path, redis: RedisServer, *, key: bytes = KEY) -> AsyncIterator[Migrating]:
    """Run the migrations of a keeper as keeper/main.py does."""
    keeper = made(directory, redis, key=key)
    await keeper.open()
    await keeper.migrations.share.begin()
    tasks = [
        asyncio.create_task(keeper.migrations.share.run()),
        asyncio.create_task(keeper.migrations.run()),
    ]
    try:
        yield keeper
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        keeper.migrations.close()


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a Redis."""
    async with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def two(tmp_path: Path, redis: RedisServer) -> AsyncIterator[tuple[Migrating, Migrating]]:
    """Run two replicas."""
    async with running(tmp_path / "a", redis) as first, running(tmp_path / "b", redis) as second:
        yield first, second


async def soon(what: object, *, within: float = SOON) -> None:
    """Return once *what* holds, at most two seconds later."""
    async with asyncio.timeout(within):
        await eventually(what)  # type: ignore[arg-type]


async def test_a_change_reaches_the_other_replica(two: tuple[Migrating, Migrating]) -> None:
    """Within two seconds, with who and why; each change is made on what all know."""
    first, second = two

    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: second.weight == 50)
    await second.migrations.rollback("payments", **BY)
    await soon(lambda: first.weight == 0)

    assert first.migrations.states() == second.migrations.states()
    assert first.migrations.states()[0].version == 2
    assert first.message["readable"]


async def test_of_two_changes_at_once_one_is_made(two: tuple[Migrating, Migrating]) -> None:
    """The other is refused, and both replicas agree."""
    first, second = two
    done = await asyncio.gather(
        first.migrations.set("payments", 10, **BY),
        second.migrations.set("payments", 20, **BY),
        return_exceptions=True,
    )

    assert sorted(isinstance(one, MigrationRefused) for one in done) == [False, True]
    await soon(lambda: first.weight == second.weight != 0)
    assert first.migrations.states()[0].version == 1


async def test_what_the_guard_holds_is_held_everywhere(two: tuple[Migrating, Migrating]) -> None:
    """Also if both replicas hold one at the same moment."""
    first, second = two
    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: second.weight == 50)

    await asyncio.gather(
        first.migrations.hold_caller("payments", "erp", "403"), second.migrations.hold_caller("payments", "crm", "403")
    )

    await soon(
        lambda: all(one.message["states"]["payments"]["guard_pinned"] == ["crm", "erp"] for one in (first, second))
    )


async def test_a_pin_is_kept_once_the_other_replica_has_it(two: tuple[Migrating, Migrating]) -> None:
    """Before the caller has its answer: on the other's disk and in its workers; it is not sent back."""
    first, second = two

    assert await first.migrations.pins.keep(pin(1))

    assert second.migrations.pins.pins.keys() == pin(1).keys()
    assert [message["type"] for message in second.heard[-1:]] == ["pins"]
    assert (second.directory / "retry-pins.jsonl").read_text().count("\n") == 2
    assert await second.migrations.pins.keep(pin(2))
    assert first.migrations.pins.pins.keys() == (pin(1) | pin(2)).keys()


async def test_many_pins_at_once(two: tuple[Migrating, Migrating]) -> None:
    """An outage of the bank pins a lot in a moment; each is everywhere in time."""
    first, second = two

    kept = await asyncio.gather(*(first.migrations.pins.keep(pin(number)) for number in range(600)))

    assert all(kept)
    assert len(second.migrations.pins.pins) == 600


async def test_a_new_replica_begins_with_what_is_known(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """Weights and pins, before it serves anyone."""
    first, _ = two
    await first.migrations.set("payments", 50, **BY)
    await first.migrations.pins.keep(pin(1))

    async with begun(tmp_path / "c", redis) as third:
        assert (third.weight, third.message["readable"]) == (50, True)
        assert third.migrations.pins.messages()[0]["pins"][0][0] == next(iter(pin(1)))


async def test_a_replica_that_died_is_not_waited_for_long(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """One that went without a word counts for two seconds; one that left in order not at all."""
    first, _ = two
    async with running(tmp_path / "c", redis):
        assert await first.migrations.pins.keep(pin(1))
    assert await first.migrations.pins.keep(pin(2))
    async with begun(tmp_path / "d", redis):
        assert not await first.migrations.pins.keep(pin(3))

        async with asyncio.timeout(10):
            number = 4
            while not await first.migrations.pins.keep(pin(number)):
                number += 1
        assert first.message["readable"]


@pytest.mark.parametrize("how", ["stopped", "ended"])
async def test_a_redis_that_is_away(redis: RedisServer, two: tuple[Migrating, Migrating], how: str) -> None:
    """The last known holds and pins count as unreadable; a rollback works at once, a weight does not grow.

    When it is back, empty or not, the rollback is everywhere, with a higher version than what it follows.
    """
    first, second = two
    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: second.weight == 50)
    if how == "stopped":
        redis.stop()
    else:
        await redis.end()
    await soon(lambda: not first.message["readable"] and not second.message["readable"])
    assert "the Redis of [state]" in first.migrations.problem
    assert (first.weight, second.weight) == (50, 50)

    with pytest.raises(MigrationRefused, match="stays at 50"):
        await first.migrations.set("payments", 60, **BY)
    assert not await first.migrations.pins.keep(pin(1))
    began = CLOCK.monotonic()
    await first.migrations.rollback("payments", **BY)

    assert CLOCK.monotonic() - began < 0.5
    assert (first.weight, second.weight) == (0, 50)
    if how == "stopped":
        redis.resume()
    else:
        await redis.start()
    await soon(lambda: second.weight == 0, within=5)
    await soon(lambda: first.message["readable"] and second.message["readable"])
    assert first.migrations.states() == second.migrations.states()
    assert first.migrations.states()[0].version == 2
    assert second.migrations.pins.pins.keys() == pin(1).keys()
    assert not first.migrations.problem
    assert await second.migrations.pins.keep(pin(2))


async def test_a_rollback_made_alone_wins_over_what_others_raised(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """It is published later with a version above theirs."""
    first, second = two
    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: second.weight == 50)
    async with begun(tmp_path / "c", redis) as third:
        await third.migrations.rollback("payments", **BY)
        await second.migrations.set("payments", 80, **BY)
        assert third.weight == 0

        async with going(third):
            await soon(lambda: first.weight == second.weight == 0)
            assert {one.migrations.states()[0].version for one in (first, second, third)} == {3}


async def test_a_redis_that_lost_everything_learns_it_again(
    redis: RedisServer, two: tuple[Migrating, Migrating], tmp_path: Path
) -> None:
    """Weights and pins, without anybody noticing but a new replica that needs them."""
    first, _ = two
    await first.migrations.set("payments", 50, **BY)
    await first.migrations.pins.keep(pin(1))

    await redis.command("FLUSHALL")

    async def known() -> bool:
        async with begun(tmp_path / "c", redis) as third:
            return third.weight == 50 and third.migrations.pins.pins.keys() == pin(1).keys()

    async with asyncio.timeout(10):
        while not await known():  # noqa: ASYNC110 - another process's state, not an event
            await asyncio.sleep(0.1)
    assert first.weight == 50


async def test_a_replica_that_stood_still_knows_that_it_missed_something(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """When it goes on it reads everything again before it says that pins can be relied on."""
    first, _ = two
    async with begun(tmp_path / "c", redis) as still:
        async with asyncio.timeout(10):
            while not await first.migrations.pins.keep(pin(1)):  # noqa: ASYNC110 - another process's state, no event
                await asyncio.sleep(0.1)

        async with going(still):
            await soon(lambda: still.migrations.pins.pins.keys() >= pin(1).keys())


async def test_nothing_there_can_be_read(redis: RedisServer, two: tuple[Migrating, Migrating]) -> None:
    """Neither names nor weights nor pins: all values are sealed, and names there tell nothing."""
    first, _ = two
    await first.migrations.set("payments", 50, **BY)
    await first.migrations.pins.keep(pin(1))

    names = await redis.command("KEYS", "*")
    values = [
        await redis.command("GET", "payproxy:production:migrations"),
        await redis.command("XRANGE", "payproxy:production:pins", "-", "+"),
        await redis.command("SMEMBERS", "payproxy:production:replicas"),
    ]

    assert names.count(b"payproxy:production:") >= 5
    for text in [names, *values]:
        assert len(text) > 20
        for word in (b"payments", b"weight", b"week two", b"modern", b"bank", f"{1:032x}".encode()):
            assert word not in text


async def test_another_key_takes_nothing_over(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """It says so, stays on what it knows, and disturbs nobody."""
    first, second = two
    await first.migrations.set("payments", 50, **BY)

    async with running(tmp_path / "c", redis, key=b"x" * 32) as stranger:
        await soon(lambda: "encryption_key_files" in stranger.migrations.problem)
        assert (stranger.weight, stranger.message["readable"]) == (0, False)
        with pytest.raises(MigrationRefused):
            await stranger.migrations.set("payments", 10, **BY)
        await first.migrations.set("payments", 60, **BY)
        await soon(lambda: second.weight == 60)
        assert first.message["readable"]


async def test_what_somebody_else_wrote_there_is_not_believed(redis: RedisServer, tmp_path: Path) -> None:
    """The last known holds."""
    async with running(tmp_path / "a", redis) as keeper:
        await keeper.migrations.set("payments", 50, **BY)
        await redis.command("SET", "payproxy:production:migrations", "nonsense")
        await soon(lambda: not keeper.message["readable"])
        assert keeper.weight == 50
        await redis.command("DEL", "payproxy:production:migrations")
        await soon(lambda: keeper.message["readable"])
        assert keeper.weight == 50
