import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.migration.pin import PIN_SECONDS, RetryPin
from proxy.migration.pin_rows import Pins, pin_row, pins_of
from proxy.migration.side import Side
from proxy.migration.state import MigrationState
from proxy.migration.stores import redis as redis_store
from proxy.migration.stores.redis import START, Beat, NewEntries, RedisStore, ReplicaClaim
from proxy.secret import Secret
from proxy.stores.encryption import Seal
from proxy.stores.redis_client import StoreAway, ValueBroken, connect
from tests.support.redis import RedisServer, redis_server
from tests.upstream.certificates import Authority

CLOCK = SystemClock()
UNTIL = CLOCK.now() + PIN_SECONDS


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an operation as long as a busy machine needs, not half a second."""
    monkeypatch.setattr(redis_store, "connect", partial(connect, seconds=3.0))


def store(url: str, *, ca_file: str = "", environment: str = "production") -> RedisStore:
    """Return a store at *url*."""
    seal = Seal([b"k" * 32], environment=environment, entropy=SystemEntropy())
    return RedisStore(Secret(url), ca_file=ca_file, environment=environment, seal=seal, clock=CLOCK)


def pins(*numbers: int) -> Pins:
    """Return pins by number."""
    return {f"{number:016x}": RetryPin(Side.MODERN, "bank", UNTIL) for number in numbers}


def alike(found: Pins, expected: Pins) -> bool:
    """Return whether pins are the same, but for the delay of answers, which lengthens them."""
    return found.keys() == expected.keys() and all(
        0 <= pin.until - expected[digest].until + 1e-3 < 60 and replace(pin, until=UNTIL) == expected[digest]
        for digest, pin in found.items()
    )


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Run a Redis."""
    async with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def one(redis: RedisServer) -> AsyncIterator[RedisStore]:
    """Return a store at it."""
    made = store(redis.url)
    yield made
    await made.close()


async def test_a_value_is_put_in_place_of_the_one_that_was_read(one: RedisStore) -> None:
    """Of two that read the same, the second is told so."""
    before, states = await one.states()
    assert (before, states) == (b"", {})

    assert await one.swap(before, {"payments": MigrationState(weight=10, version=1)})
    assert not await one.swap(before, {"payments": MigrationState(weight=20, version=1)})

    now, states = await one.states()
    assert states == {"payments": MigrationState(weight=10, version=1)}
    assert await one.swap(now, {"payments": MigrationState(weight=20, version=2)})


async def test_pins_are_read_from_where_one_was(one: RedisStore) -> None:
    """In order and once, however many came together."""
    first = (await one.add_pins(pins(*range(1200))))[-1]
    found: Pins = {}
    place = START
    while place != first:
        new_entries = await one.new_entries(place, wait=False)
        found |= new_entries.pins
        place = new_entries.place
    assert alike(found, pins(*range(1200)))

    assert await one.new_entries(place, wait=True) == NewEntries(place)
    [second] = await one.add_pins(pins(7000))
    assert second > first
    new_entries = await one.new_entries(place, wait=True)
    assert alike(new_entries.pins, pins(7000))
    assert (new_entries.place, len(new_entries.places)) == (second, 1)
    assert (await one.entries())[0] == 4


async def test_pins_of_an_earlier_payproxy_count_as_long_as_its_clock_may_be_behind(one: RedisStore) -> None:
    """They end by its wall clock: the short ones count for a minute more, and the others as they are."""
    started = CLOCK.now()
    ended, lasts = RetryPin(Side.MODERN, "bank", started - 40), RetryPin(Side.MODERN, "bank", UNTIL)
    rows = [pin_row(f"{1:016x}", ended), pin_row(f"{2:016x}", lasts)]
    await one._add("p", rows, await one.time())

    found = (await one.new_entries(START, wait=False)).pins

    assert started + 60 <= found[f"{1:016x}"].until <= CLOCK.now() + 70
    assert found[f"{2:016x}"] == lasts


async def test_an_earlier_payproxy_reads_the_pins(one: RedisStore) -> None:
    """It takes the rows from the same field, and asks for no other."""
    [(milliseconds, number)] = await one.add_pins(pins(1))

    [(place, fields)] = await one._redis.xrange("payproxy:production:pins")

    assert place.decode() == f"{milliseconds}-{number}"
    [read] = pins_of(json.loads(one._seal.open("pins", fields[b"p"]))).values()
    assert abs(read.until - UNTIL) < 60  # by the clock of Redis, which here is ours


async def test_a_claim_and_its_answer_travel_with_the_pins(one: RedisStore) -> None:
    """In the order in which they were added."""
    [(digest, pin)] = pins(1).items()
    asked = ReplicaClaim(number="n1", sender="a", digest=digest, pin=pin)
    answered = ReplicaClaim(number="n1", sender="b", agreed=True)

    await one.add_claim(asked)
    await one.add_claim(answered)

    new_entries = await one.new_entries(START, wait=False)
    assert (new_entries.claims, new_entries.pins) == ([asked, answered], {})


async def test_replicas_are_known_while_they_live(one: RedisStore) -> None:
    """A first beat says that it was not known; who leaves is gone, and nobody misses it."""
    late, early = Beat(taken=(2, 5), entries=3, prepared={"payments": "4a"}), Beat(taken=START)
    assert not await one.beat("a", Beat(taken=(1, 0)))
    assert await one.beat("a", late)
    assert not await one.beat("b", early)
    assert await one.replicas() == ({"a": late, "b": early}, {})

    await one.leave("a")

    assert await one.replicas() == ({"b": early}, {})
    assert not await one.beat("a", late)


async def test_a_replica_that_says_nothing_more_is_lost_until_it_is_back(redis: RedisServer, one: RedisStore) -> None:
    """It did not leave: what it had in flight is not known. One that an operator gives up is forgotten."""
    for name in ("a", "b"):
        await one.beat(name, Beat(taken=START))
        await redis.command("DEL", f"payproxy:production:replica:{name}")

    alive, lost = await one.replicas()
    assert (alive, set(lost)) == ({}, {"a", "b"})
    assert (await one.replicas())[1] == lost
    assert await one.beat("a", Beat(taken=START))
    await one.leave("b")
    assert await one.replicas() == ({"a": Beat(taken=START)}, {})


async def test_what_an_earlier_payproxy_says_of_itself_is_understood(redis: RedisServer, one: RedisStore) -> None:
    """How far it has read, and nothing else: no change of side counts as certain while it lives."""
    del redis
    with contextlib.suppress(StoreAway):
        await one.beat("a", Beat(taken=(3, 1)))
    sealed = one._seal.close("replica:a", b"[3, 1]")
    await one._redis.set("payproxy:production:replica:a", sealed)

    assert (await one.replicas())[0] == {"a": Beat(taken=(3, 1))}


async def test_environments_do_not_see_each_other(redis: RedisServer, one: RedisStore) -> None:
    """One Redis may serve both, by mistake or not."""
    await one.swap(b"", {"payments": MigrationState(weight=10, version=1)})
    other = store(redis.url, environment="client-testing")
    try:
        assert await other.states() == (b"", {})
    finally:
        await other.close()


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("SET", "payproxy:production:migrations", "x" * 50), "was overwritten"),
        (("SADD", "payproxy:production:migrations", "x"), "another type"),
    ],
    ids=str,
)
async def test_what_is_no_value_of_ours(
    redis: RedisServer, one: RedisStore, command: tuple[str, ...], why: str
) -> None:
    """It is said, and quotes nothing."""
    await redis.command(*command)

    with pytest.raises(StoreAway, match=why) as caught:
        await one.states()
    assert "xxx" not in str(caught.value)


async def test_a_value_under_a_key_that_another_replica_has_is_left_alone(redis: RedisServer, one: RedisStore) -> None:
    """The keys are being replaced in the wrong order: that is said, and nothing is overwritten. Garbage may be."""
    newer = Seal([b"n" * 32], environment="production", entropy=SystemEntropy())
    other = RedisStore(Secret(redis.url), ca_file="", environment="production", seal=newer, clock=CLOCK)
    try:
        await other.swap(b"", {"payments": MigrationState(weight=10, version=1)})
        with pytest.raises(ValueBroken):
            await one.states()
        await other.beat("b", Beat(taken=START))
        with pytest.raises(StoreAway, match="give all replicas the new key as the second one first") as caught:
            await one.states()
        assert not isinstance(caught.value, ValueBroken)
    finally:
        await other.close()


async def test_one_that_stands_still_is_not_waited_for(redis: RedisServer, one: RedisStore) -> None:
    """Then it is served again by the same store."""
    await one.states()
    redis.stop()
    with pytest.raises(StoreAway, match="did not answer in time"):
        await one.states()
    redis.resume()
    assert await one.states() == (b"", {})


async def test_one_that_is_not_there() -> None:
    """Nobody listens on that port."""
    nowhere = store("redis://127.0.0.1:1/0")
    with pytest.raises(StoreAway, match="can't be reached"):
        await nowhere.states()
    await nowhere.close()


@pytest.mark.parametrize(("password", "works"), [("open-sesame", True), ("guess", False)])
async def test_a_password(tmp_path: Path, password: str, *, works: bool) -> None:
    """The wrong one is said, and not shown."""
    async with redis_server(tmp_path, "--requirepass", "open-sesame") as server:
        made = store(f"redis://:{password}@127.0.0.1:{server.port}/0")
        try:
            if works:
                assert await made.states() == (b"", {})
            else:
                with pytest.raises(StoreAway, match="password") as caught:
                    await made.states()
                assert password not in str(caught.value)
                assert password not in repr(made)
        finally:
            await made.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls(tmp_path: Path, *, trusted: bool) -> None:
    """A private authority is believed if ca_file names it, and only then."""
    authority = Authority(tmp_path)
    own = authority.identity("redis")
    files = ("--tls-cert-file", str(own.file), "--tls-key-file", str(own.file), "--tls-ca-cert-file", str(own.file))
    async with redis_server(tmp_path, "--tls-auth-clients", "no", *files, tls=True) as server:
        ca_file = str(authority.own.file) if trusted else ""
        made = store(f"rediss://127.0.0.1:{server.port}/0", ca_file=ca_file)
        try:
            if trusted:
                assert await made.states() == (b"", {})
            else:
                with pytest.raises(StoreAway, match="can't be reached"):
                    await made.states()
        finally:
            await made.close()
