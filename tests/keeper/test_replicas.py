"""Replicas that share a real Redis: what one decides or pins, the others have; without it the last known holds."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.keeper.recorded_changes import MigrationRefused
from proxy.keeper.replicas import Replicas
from proxy.link.messages import MigrationStates, NewPins
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.pin_rows import Pins
from proxy.migration.side import Side
from proxy.migration.stores import redis as redis_store
from proxy.migration.stores.redis import CONTACT_SECONDS, RedisStore
from proxy.secret import Secret
from proxy.stores.encryption import Seal
from proxy.stores.redis_client import connect
from tests.keeper.migrating import BY, PAYMENTS, Migrating
from tests.support.redis import RedisServer, redis_server, sentinel
from tests.upstream.support import eventually

CLOCK, ENTROPY = SystemClock(), SystemEntropy()
KEY = b"k" * 32
HANGS = 60.0
# The product's time-out is 0.5 s, which a test on a busy machine may stand still for.
OPERATION_SECONDS = 3.0


def pin(number: int) -> Pins:
    """Return a pin that holds for a day."""
    return {f"{number:016x}": RetryPin(Side.MODERN, "bank", CLOCK.now() + PIN_SECONDS)}


class Ahead(SystemClock):
    """A wall clock that is *seconds* ahead, and a monotonic one that is *passed* ahead."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = 0.0
        self.monotonic = lambda: CLOCK.monotonic() + self.passed

    def now(self) -> float:
        """Return the time as this machine has it."""
        return CLOCK.now() + self.seconds


def made(
    directory: Path,
    redis: RedisServer,
    *,
    key: bytes | tuple[bytes, ...] = KEY,
    url: str = "",
    clock: SystemClock = CLOCK,
) -> Migrating:
    """Return the migrations of a keeper that shares *redis*, not begun yet."""
    directory.mkdir(exist_ok=True)
    keeper = Migrating(directory=directory, clock=clock)

    async def opened() -> RedisStore:
        keys = (key,) if isinstance(key, bytes) else key
        seal = Seal(keys, environment="production", entropy=ENTROPY)
        return RedisStore(Secret(url or redis.url), ca_file="", environment="production", seal=seal, clock=clock)

    migrations = keeper.migrations
    migrations.replication = Replicas(
        opened, host="host", weights=migrations.weights, pins=migrations.pins, clock=clock, entropy=ENTROPY
    )
    return keeper


def known(keeper: Migrating, *numbers: int) -> bool:
    """Return whether *keeper* has the pins *numbers*, and no others."""
    pins = keeper.migrations.pins
    return len(pins) == len(numbers) and all(pins.get(digest) for number in numbers for digest in pin(number))


@asynccontextmanager
async def begun(directory: Path, redis: RedisServer) -> AsyncIterator[Migrating]:
    """Begin as a keeper does, and stand still: it says nothing more and hears nothing."""
    keeper = made(directory, redis)
    await keeper.open()
    await keeper.migrations.replication.begin()
    try:
        yield keeper
    finally:
        assert isinstance(keeper.migrations.replication, Replicas)
        await keeper.migrations.replication.close()
        await keeper.migrations.close()


@asynccontextmanager
async def going(keeper: Migrating) -> AsyncIterator[None]:
    """Let one that stood still go on while the block lasts."""
    task = asyncio.create_task(keeper.migrations.replication.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def running(
    directory: Path,
    redis: RedisServer,
    *,
    key: bytes | tuple[bytes, ...] = KEY,
    url: str = "",
    clock: SystemClock = CLOCK,
) -> AsyncIterator[Migrating]:
    """Run the migrations of a keeper as keeper/main.py does."""
    keeper = made(directory, redis, key=key, url=url, clock=clock)
    await keeper.open()
    await keeper.migrations.replication.begin()
    tasks = [
        asyncio.create_task(keeper.migrations.replication.run()),
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
        await keeper.migrations.close()


@pytest.fixture(autouse=True)
async def _patient(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Wait longer for each operation, and close what a change that was under way has opened again after the stop."""
    clients: list[Any] = []

    def patiently(url: str, *, ca_file: str) -> tuple[Any, list[Any]]:
        client, sentinels = connect(url, ca_file=ca_file, seconds=OPERATION_SECONDS)
        clients.extend((client, *sentinels))
        return client, sentinels

    monkeypatch.setattr(redis_store, "connect", patiently)
    yield
    for client in clients:
        await client.aclose()


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


def is_certain(keeper: Migrating) -> bool:
    """Return whether its last change is: on a busy machine that takes longer than a command waits for it."""
    return not keeper.migrations.states()[0].unsettled


async def soon(what: object, *, within: float = HANGS) -> None:
    """Return once *what* holds."""
    async with asyncio.timeout(within):
        await eventually(what)  # type: ignore[arg-type]


async def test_a_change_reaches_the_other_replica(two: tuple[Migrating, Migrating]) -> None:
    """Within two seconds, with who and why; each change is made on what all know."""
    first, second = two

    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: second.weight == 50)
    await second.migrations.rollback("payments", **BY)
    await soon(lambda: first.weight == 0)

    await soon(lambda: first.migrations.states() == second.migrations.states())
    assert first.migrations.states()[0].version == 2
    assert first.message.readable


async def test_each_knows_who_else_is_alive(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """For display: one that comes is there, one that leaves in order is not, and without Redis nobody knows."""
    first, second = (keeper.migrations.replication for keeper in two)

    await soon(lambda: len(first.others) == len(second.others) == 1)
    assert first.others != second.others
    async with running(tmp_path / "c", redis):
        await soon(lambda: len(first.others) == 2)
    await soon(lambda: len(first.others) == 1)
    await redis.end()
    await soon(lambda: first.others == ())


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

    await soon(lambda: all(one.payments.guard_pinned == ("crm", "erp") for one in (first, second)))


async def test_a_pin_is_kept_once_the_other_replica_has_it(two: tuple[Migrating, Migrating]) -> None:
    """Before the caller has its answer: on the other's disk and in its workers; it is not sent back."""
    first, second = two

    assert await first.migrations.pins.keep(pin(1))

    assert known(second, 1)
    assert isinstance(second.sent[-1], NewPins)
    assert (second.directory / "retry-pins.jsonl").read_text().count("\n") == 2
    assert await second.migrations.pins.keep(pin(2))
    assert known(first, 1, 2)


@pytest.mark.parametrize("ahead", [3600.0, 12.0, -12.0, -3600.0])
async def test_a_pin_lasts_as_long_at_a_replica_whose_clock_is_apart(
    tmp_path: Path, redis: RedisServer, ahead: float
) -> None:
    """Ends are compared by Redis' clock, also by a replica that starts later."""
    digest, lasts = f"{1:016x}", 600.0
    async with (
        running(tmp_path / "a", redis) as first,
        running(tmp_path / "b", redis, clock=Ahead(ahead)) as second,
    ):
        sent = RetryPin(Side.MODERN, "bank", CLOCK.now() + lasts, "payments", Reason.IN_FLIGHT)
        assert await first.migrations.pins.keep({digest: sent})
        async with running(tmp_path / "c", redis, clock=Ahead(-ahead)) as third:
            for keeper, skew in ((first, 0.0), (second, ahead), (third, -ahead)):
                kept = keeper.migrations.pins.get(digest)
                assert kept is not None, skew
                # Rounded up to a second, and longer by the delay of the answers.
                assert sent.until + skew <= kept.until <= sent.until + skew + 120, skew
                assert (kept.side, kept.reason) == (sent.side, sent.reason)


async def test_many_pins_at_once(two: tuple[Migrating, Migrating]) -> None:
    """An outage of the bank pins a lot in a moment; each that counts as kept is at the other replica, soon all are."""
    first, second = two

    async def holds(number: int) -> bool:
        kept = await first.migrations.pins.keep(pin(number))
        return not kept or second.migrations.pins.get(next(iter(pin(number)))) is not None

    assert all(await asyncio.gather(*(holds(number) for number in range(600))))
    await eventually(lambda: len(second.migrations.pins) == 600, within=60)


async def test_a_new_replica_begins_with_what_is_known(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """Weights and pins, before it serves anyone."""
    first, _ = two
    await first.migrations.set("payments", 50, **BY)
    await first.migrations.pins.keep(pin(1))

    async with begun(tmp_path / "c", redis) as third:
        assert (third.weight, third.message.readable) == (50, True)
        assert [*next(third.migrations.pins.messages()).pins] == [*pin(1)]


async def test_a_replica_that_died_is_not_waited_for_long(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """One that went without a word counts for two seconds; one that left in order not at all."""
    first, _ = two
    numbers = count(1)

    async def kept_at_last() -> None:
        async with asyncio.timeout(60):
            while not await first.migrations.pins.keep(pin(next(numbers))):
                pass

    async with running(tmp_path / "c", redis):
        await kept_at_last()
    assert await first.migrations.pins.keep(pin(next(numbers)))
    async with begun(tmp_path / "d", redis):
        assert not await first.migrations.pins.keep(pin(next(numbers)))
        await kept_at_last()
        assert first.message.readable


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
    await soon(lambda: not first.message.readable and not second.message.readable)
    assert "the Redis of [state]" in first.migrations.problem
    assert (first.weight, second.weight) == (50, 50)

    with pytest.raises(MigrationRefused, match="stays at 50"):
        await first.migrations.set("payments", 60, **BY)
    assert [one.what for one in first.operations[-2:]] == ["migration set", "migration set failed"]
    assert not await first.migrations.pins.keep(pin(1))
    status = await first.migrations.rollback("payments", **BY)

    assert "the Redis of [state]" in status.unsettled
    assert (first.weight, second.weight) == (0, 50)
    if how == "stopped":
        redis.resume()
    else:
        await redis.start()
    await soon(lambda: second.weight == 0)
    await soon(lambda: first.message.readable and second.message.readable)
    await soon(lambda: first.migrations.states() == second.migrations.states())
    assert first.migrations.states()[0].version == 2
    assert known(second, 1)
    assert not first.migrations.problem
    assert await second.migrations.pins.keep(pin(2))


async def test_after_a_day_without_contact_nothing_known_is_certain(tmp_path: Path, redis: RedisServer) -> None:
    """The others wait no longer than that; at a weight that stood still, payments were sent by it until then."""
    clock = Ahead(0.0)
    async with running(tmp_path / "a", redis, clock=clock) as keeper:
        assert keeper.payments.former == ()
        await redis.end()
        await soon(lambda: not keeper.message.readable)
        assert keeper.payments.former == ()
        assert "without this one" not in keeper.migrations.problem

        clock.passed = PIN_SECONDS

        await soon(lambda: keeper.payments.former)
        assert "without this one" in keeper.migrations.problem
        await redis.start()
        await soon(lambda: keeper.message.readable and not keeper.payments.former)


async def test_who_has_been_silent_sends_nothing_until_it_knows_all(tmp_path: Path, redis: RedisServer) -> None:
    """It was frozen: what others sent and pinned meanwhile, without waiting for it, has to be read first."""
    async with running(tmp_path / "a", redis) as first, begun(tmp_path / "b", redis) as frozen:
        await soon(lambda: first.contact_until > CLOCK.monotonic())
        assert first.contact_until <= CLOCK.monotonic() + CONTACT_SECONDS
        await soon(lambda: first.migrations.replication.silent)
        await first.migrations.pins.keep(pin(1))
        assert not frozen.contact_until

        async with going(frozen):
            await soon(lambda: frozen.contact_until)
            assert known(frozen, 1)
            await redis.end()
            await soon(lambda: not frozen.message.readable)
            await soon(lambda: not frozen.contact_until)


@pytest.mark.thorough
async def test_a_silent_replica_is_named_and_so_is_what_force_does(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """Also before a change; nobody goes on without one that may still send."""
    first, _ = two
    async with begun(tmp_path / "c", redis) as third:
        name = third.migrations.weights.document.replica
        await soon(lambda: first.migrations.states()[0].silent_replicas)
        status = await first.migrations.set("payments", 50, **BY, force=True)
        assert status.gone_without or status.unsettled
        assert not status.unsettled or ("is silent" in status.unsettled and "(instance host)" in status.unsettled)
        await soon(lambda: is_certain(first))
        assert first.migrations.states()[0].gone_without == (name,)
        async with going(third):
            await soon(lambda: third.weight == 50)
            await soon(lambda: not first.migrations.states()[0].gone_without)


async def test_a_start_without_redis_knows_nothing_for_certain(tmp_path: Path, redis: RedisServer) -> None:
    """However the earlier one ended: the others may have gone on without it, by `--force`."""
    async with running(tmp_path / "a", redis) as keeper:
        assert keeper.payments.former == ()
    await redis.end()
    async with running(tmp_path / "a", redis) as keeper:
        assert keeper.payments.former
        await redis.start()
        await soon(lambda: keeper.message.readable and not keeper.payments.former)


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

    async def learnt() -> bool:
        async with begun(tmp_path / "c", redis) as third:
            return third.weight == 50 and known(third, 1)

    async with asyncio.timeout(60):
        while not await learnt():  # noqa: ASYNC110 - another process's state, not an event
            await asyncio.sleep(0.1)
    assert first.weight == 50


async def test_a_replica_that_stood_still_knows_that_it_missed_something(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """When it goes on it reads everything again before it says that pins can be relied on."""
    first, _ = two
    async with begun(tmp_path / "c", redis) as still:
        async with asyncio.timeout(60):
            while not await first.migrations.pins.keep(pin(1)):  # noqa: ASYNC110 - another process's state, no event
                await asyncio.sleep(0.1)

        async with going(still):
            await soon(lambda: known(still, 1))


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
        for word in (b"payments", b"weight", b"week two", b"modern", b"bank", f"{1:016x}".encode()):
            assert word not in text


async def test_another_key_takes_nothing_over(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """It says so, stays on what it knows, and disturbs nobody."""
    first, second = two
    await first.migrations.set("payments", 50, **BY)

    async with running(tmp_path / "c", redis, key=b"x" * 32) as stranger:
        await soon(lambda: "encryption_key_files" in stranger.migrations.problem)
        assert (stranger.weight, stranger.message.readable) == (0, False)
        with pytest.raises(MigrationRefused):
            await stranger.migrations.set("payments", 10, **BY)
        await first.migrations.set("payments", 60, **BY)
        await soon(lambda: second.weight == 60)
        assert first.message.readable


async def test_what_somebody_else_wrote_there_is_not_believed(redis: RedisServer, tmp_path: Path) -> None:
    """The last known holds, and is written there again; it is said."""
    async with running(tmp_path / "a", redis) as keeper, running(tmp_path / "b", redis) as other:
        await keeper.migrations.set("payments", 50, **BY)
        await soon(lambda: other.weight == 50)
        await redis.command("SET", "payproxy:production:migrations", "nonsense")
        await soon(lambda: any("was overwritten" in one for one in (*keeper.said, *other.said)))
        async with begun(tmp_path / "c", redis) as third:
            assert third.weight == 50
        await soon(lambda: keeper.message.readable and other.message.readable)
        assert (keeper.weight, other.weight) == (50, 50)


@pytest.mark.parametrize("what", ["all", "one", "the oldest"])
async def test_pins_that_are_lost_there_are_brought_again(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating], what: str
) -> None:
    """Evicted or deleted: the replicas that know them say that they are missing, and no new one serves without them."""
    first, second = two
    for number in range(3):
        await (first, second)[number % 2].migrations.pins.keep(pin(number))
    stream = "payproxy:production:pins"
    if what == "all":
        await redis.command("DEL", stream)
    elif what == "one":
        found = await redis.command("XRANGE", stream, "-", "+", "COUNT", "1")
        await redis.command("XDEL", stream, found.split(b"\r\n")[3].decode())
    else:
        await redis.command("XTRIM", stream, "MAXLEN", "1")

    async with running(tmp_path / "c", redis) as third:
        await soon(lambda: third.message.readable and known(third, 0, 1, 2))
    assert known(first, 0, 1, 2)
    assert known(second, 0, 1, 2)


async def test_a_change_is_certain_once_every_replica_has_told_what_it_has_in_flight(
    redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """Until then workers hear that it is not; a replica that went without leaving is named, and given up by force."""
    first, second = two
    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: is_certain(first))
    await soon(lambda: second.weight == 50 and not second.migrations.weights.unsettled)

    await redis.command("SADD", "payproxy:production:replicas", "gone-1")
    await first.migrations.rollback("payments", **BY)
    # Soon: on a busy machine the Redis may just have been too late, which is said first.
    await soon(lambda: "gone-1" in first.migrations.states()[0].unsettled)
    assert any(not one.settled for one in first.payments.former)
    await first.migrations.set("payments", 50, **BY, force=True)
    await soon(lambda: is_certain(first))
    assert any("without replica gone-1" in one.what for one in first.operations)


async def test_a_change_that_is_waited_for_ends_with_the_keeper_whatever_the_client_swallows(
    tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py writes commands by `asyncio.wait_for`, which swallows cancellations in Python 3.11: the stop hung."""
    cancelled = asyncio.Event()
    asks = RedisStore.replicas

    async def swallows(store: RedisStore) -> Any:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "change of side" and not cancelled.is_set():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
        return await asks(store)

    await redis.command("SADD", "payproxy:production:replicas", "gone-1")
    async with running(tmp_path / "a", redis) as keeper:
        monkeypatch.setattr(RedisStore, "replicas", swallows)
        await keeper.migrations.set("payments", 50, **BY)

        async with asyncio.timeout(HANGS):
            await keeper.migrations.close()

        assert cancelled.is_set()


async def test_force_is_for_its_own_change_only(redis: RedisServer, two: tuple[Migrating, Migrating]) -> None:
    """A replica that is lost right after it blocks the next change: nobody has asked to go on without that one."""
    first, _ = two
    await first.migrations.set("payments", 50, **BY, force=True)
    await soon(lambda: is_certain(first))
    await redis.command("SADD", "payproxy:production:replicas", "gone-1")
    await first.migrations.rollback("payments", **BY)
    await soon(lambda: "gone-1" in first.migrations.states()[0].unsettled)


async def test_a_change_that_another_one_replaces_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, two: tuple[Migrating, Migrating]
) -> None:
    """The guards of two replicas see the same refusals, and go back at once: both are certain in a moment."""
    monkeypatch.setattr("proxy.keeper.replica_preparation._TOLD_SECONDS", 60.0)
    first, second = two
    await first.migrations.set("payments", 50, **BY)
    await soon(lambda: second.weight == 50 and not second.migrations.weights.unsettled)
    await asyncio.gather(*(one.migrations.rollback("payments", **BY) for one in two))
    await soon(lambda: not any(one.migrations.weights.unsettled for one in two))


async def test_a_fallback_is_agreed_on_by_other_replicas(two: tuple[Migrating, Migrating]) -> None:
    """One whose worker has the key in flight says no; one that is gone is not asked."""
    first, second = two
    [(digest, legacy)] = {f"{1:016x}": RetryPin(Side.LEGACY, "bank", CLOCK.now() + PIN_SECONDS)}.items()
    assert await first.migrations.pins.claim("w", digest, legacy)
    assert second.migrations.pins.get(digest) is not None

    modern = RetryPin(Side.MODERN, "bank", CLOCK.now() + PIN_SECONDS)
    await second.migrations.pins.keep({f"{2:016x}": modern}, replicate=False)
    assert not await first.migrations.pins.claim("w", f"{2:016x}", legacy)
    assert first.migrations.pins.get(f"{2:016x}") is None


async def test_without_a_replica_that_was_lost_nobody_falls_back(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """It may have sent this very request, and nobody knows until it is back or given up."""
    first, _ = two
    legacy = RetryPin(Side.LEGACY, "bank", CLOCK.now() + PIN_SECONDS, "payments", Reason.FALLBACK)
    async with begun(tmp_path / "c", redis):
        assert not await first.migrations.pins.claim("w", f"{1:016x}", legacy)
        assert isinstance(first.migrations.replication, Replicas)
        store = first.migrations.replication._store
        assert store is not None
        async with asyncio.timeout(60):
            while not (await store.replicas())[1]:  # noqa: ASYNC110 - what another process writes
                await asyncio.sleep(0.02)
        assert not await first.migrations.pins.claim("w", f"{1:016x}", legacy)
        await first.migrations.set("payments", 50, **BY, force=True)
        async with asyncio.timeout(HANGS):
            while not await first.migrations.pins.claim("w", f"{1:016x}", legacy):
                pass  # it has to be silent for some seconds


async def test_replicas_with_other_tables_tell_each_other(two: tuple[Migrating, Migrating]) -> None:
    """Workers of both refuse what the tables send to different sides, until they are the same again."""
    first, second = two
    pinned = replace(PAYMENTS, pinned_legacy=("erp",))
    await first.migrations.follow((PAYMENTS,))
    await second.migrations.follow((pinned,))

    def policies(keeper: Migrating) -> list[Any]:
        return [one.pinned for one in keeper.payments.policies]

    await soon(lambda: policies(first) == [{}, {"erp": Side.LEGACY}] and policies(second) == [{"erp": Side.LEGACY}, {}])
    await first.migrations.follow((pinned,))
    await soon(lambda: all(one == {"erp": Side.LEGACY} for keeper in two for one in policies(keeper)))


async def test_keys_are_replaced_in_three_rounds(tmp_path: Path, redis: RedisServer) -> None:
    """[old, new], [new, old], [new], each on all replicas before the next: nobody loses touch in between."""
    old, new = KEY, b"n" * 32
    rounds = [(old,), (old, new), (new, old), (new,)]
    for before, after in itertools.pairwise(rounds):
        async with running(tmp_path / "a", redis, key=before) as first:
            if before == (old,):
                await first.migrations.set("payments", 50, **BY)
                await first.migrations.pins.keep(pin(1))
            async with running(tmp_path / "b", redis, key=after) as second:
                await soon(lambda: first.message.readable and second.message.readable)
                await soon(lambda: (second.weight, known(second, 1)) == (50, True))
                await second.migrations.set("payments", 60 if second.weight == 50 else 50, **BY)
                await soon(lambda: first.weight == second.weight)
                await second.migrations.set("payments", 50, **BY, force=True)
                await soon(lambda: first.weight == 50 and first.message.readable)


async def test_a_failover_loses_nothing(tmp_path: Path) -> None:
    """A real sentinel makes the replica the master: what had not been copied there, these replicas bring again."""
    for name in ("m", "r", "s", "a", "b"):
        (tmp_path / name).mkdir()
    async with (
        redis_server(tmp_path / "m") as master,
        redis_server(tmp_path / "r", "--replicaof", f"127.0.0.1 {master.port}") as spare,
        sentinel(tmp_path / "s", master) as port,
    ):
        url = f"redis+sentinel://127.0.0.1:{port}/main/0"
        async with (
            running(tmp_path / "a", master, url=url) as first,
            running(tmp_path / "b", master, url=url) as second,
        ):
            await first.migrations.set("payments", 50, **BY)
            await soon(lambda: second.weight == 50)
            await first.migrations.pins.keep(pin(1))
            await master.end()
            await soon(lambda: not first.message.readable)

            await soon(lambda: first.message.readable and second.message.readable)

            assert (first.weight, second.weight) == (50, 50)
            assert known(first, 1)
            assert known(second, 1)
            assert b"master" in await spare.command("ROLE")
            await second.migrations.set("payments", 60, **BY)
            await soon(lambda: first.weight == 60 and is_certain(second))


async def test_two_changes_at_once_are_not_taken_for_one(two: tuple[Migrating, Migrating]) -> None:
    """Each makes the next version; neither is certain before both replicas have the same state."""
    first, second = two
    await first.migrations.set("payments", 80, **BY)
    await soon(lambda: second.weight == 80)

    await asyncio.gather(
        first.migrations.rollback("payments", **BY, to=40), second.migrations.rollback("payments", **BY, to=20)
    )

    def settled(keeper: Migrating) -> bool:
        return all(one.settled for one in keeper.payments.former)

    messages = [one for keeper in two for one in keeper.sent if isinstance(one, MigrationStates)]
    settings = [one.states["payments"] for one in messages if "payments" in one.states]
    certain = {
        (one.weight, one.version) for one in settings if one.former and all(former.settled for former in one.former)
    }
    assert not certain & {(40, 2), (20, 2)} or len(certain & {(40, 2), (20, 2)}) == 1
    await soon(lambda: first.weight == second.weight and settled(first) and settled(second))


@pytest.mark.parametrize("name", ["migrations", "pins", "replicas", "lost"])
async def test_a_name_of_another_kind_is_taken_back(
    redis: RedisServer, two: tuple[Migrating, Migrating], name: str
) -> None:
    """Somebody wrote something else there: it goes, and what belongs there is brought again."""
    first, second = two
    await first.migrations.set("payments", 50, **BY)
    await first.migrations.pins.keep(pin(1))
    await redis.command("DEL", f"payproxy:production:{name}")
    await redis.command("LPUSH", f"payproxy:production:{name}", "x")
    if name == "lost":
        await redis.command("SADD", "payproxy:production:replicas", "gone-1")

    await soon(lambda: not (first.message.readable and second.message.readable))
    await soon(lambda: first.message.readable and second.message.readable)
    assert (first.weight, second.weight, known(first, 1), known(second, 1)) == (50, 50, True, True)


@pytest.mark.thorough
async def test_force_waits_for_a_replica_that_was_killed_a_moment_ago(
    tmp_path: Path, redis: RedisServer, two: tuple[Migrating, Migrating]
) -> None:
    """It counts as living for two seconds, and is given up then."""
    first, _ = two
    await first.migrations.set("payments", 50, **BY)
    async with begun(tmp_path / "c", redis):
        await first.migrations.rollback("payments", **BY, force=True)
        await soon(lambda: is_certain(first))
        assert any("goes on without replica" in one for one in first.said)
