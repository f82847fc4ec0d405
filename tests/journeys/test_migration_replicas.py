"""Two replicas with a Redis between them, as processes: one weight, one rollback, one memory of what was sent where."""

import asyncio
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import ask, payment
from tests.journeys.conftest import Start
from tests.journeys.migrated import all_on, migrated, migration, set_weight, side_of
from tests.journeys.process import Instance, Process, kill
from tests.journeys.support import private
from tests.journeys.waiting import until
from tests.support.redis import RedisServer, redis_server


def replica(directory: Path, bank: Bank, redis: RedisServer) -> Path:
    """Write the configuration of a replica into *directory* and return its path."""
    directory.mkdir()
    private(directory / "state.key", "5a" * 32)
    state = f'[state]\nurl = "{redis.url}"\nencryption_key_files = ["state.key"]\n'
    return migrated(directory, bank, server="workers = 2", more=state)


async def test_two_replicas_are_one(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A weight comes to every worker of both; so does a rollback made while the Redis stands still."""
    async with redis_server(tmp_path) as redis:
        configurations = [replica(tmp_path / name, bank, redis) for name in ("a", "b")]
        first, second = [await start(one) for one in configurations]
        places = [(first, tmp_path / "a"), (second, tmp_path / "b")]

        await set_weight(tmp_path, configurations[0], 100)
        await until(lambda: _all(places, "modern"), otherwise="not every worker had the weight")

        redis.stop()
        await until(lambda: _degraded(second), otherwise="nobody noticed")
        code, said = await migration(tmp_path, configurations[1], "set", "payments", "90", "--force", "--reason", "x")
        assert code == 0, said  # downwards needs nobody's leave
        code, said = await migration(tmp_path, configurations[1], "set", "payments", "95", "--force", "--reason", "x")
        assert code == 1
        assert "can't grow" in said
        code, state = await migration(tmp_path, configurations[1], "rollback", "payments", "--to", "0", "--reason", "x")
        assert (code, state["weight"]) == (0, 0)
        assert await all_on(second, tmp_path / "b", "legacy")
        refused = await ask(second.address, payment("while-away"))
        assert (refused.status, refused.json["code"]) == (503, "side_unknown")

        redis.resume()
        await until(lambda: _all(places, "legacy"), otherwise="not every worker went back")
        states = [(await one.status())["migrations"][0] for one in (first, second)]
        assert [(one["weight"], one["version"], one["reason"]) for one in states] == [(0, 3, "x")] * 2


async def test_a_retry_at_another_replica_goes_where_the_first_try_went(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """Its worker died with the payment in flight and the weight went back since: the other replica knows."""
    async with redis_server(tmp_path) as redis:
        configurations = [replica(tmp_path / name, bank, redis) for name in ("a", "b")]
        first, second = [await start(one) for one in configurations]
        await set_weight(tmp_path, configurations[0], 100)
        bank.world.faults.set("slow", path="/payment/v2/payments", method="POST", seconds=5.0, times=1)
        cut = asyncio.create_task(ask(first.address, payment("cut")))
        await until(lambda: bank.world.accepted["cut"], otherwise="the bank did not get it")

        for pid in await first.serving():
            kill(pid)
        [outcome] = await asyncio.gather(cut, return_exceptions=True)
        assert isinstance(outcome, OSError | EOFError)
        await until((tmp_path / "b" / "data" / "retry-pins.jsonl").exists, otherwise="it was not shared")
        await migration(tmp_path, configurations[0], "rollback", "payments", "--reason", "x")
        await until(lambda: _is_at(second, 0), otherwise="the rollback did not come")

        assert await side_of(second, tmp_path / "b", payment("other")) == "legacy"
        assert await side_of(second, tmp_path / "b", payment("cut")) == "modern"
        assert bank.world.accepted["cut"] == 1


@pytest.mark.parametrize("fault", ["key", "url"])
async def test_a_state_that_cannot_be_shared_stops_the_start(tmp_path: Path, bank: Bank, fault: str) -> None:
    """A key that others may read and a URL file that is not there are named, with exit code 78 or 1."""
    private(tmp_path / "state.key", "5a" * 32)
    url = 'url = "redis://127.0.0.1:1/0"' if fault == "key" else 'url_file = "none"'
    configuration = migrated(tmp_path, bank, more=f'[state]\n{url}\nencryption_key_files = ["state.key"]\n')
    if fault == "key":
        (tmp_path / "state.key").chmod(0o644)

    process = await Process.run(tmp_path, "-m", "proxy", "serve", "--config", str(configuration))

    assert await process.exit_code() in {1, 78}
    assert "state.key" in process.output if fault == "key" else "url_file" in process.output
    assert "5a5a" not in process.output


async def _all(places: list[tuple[Instance, Path]], side: str) -> bool:
    return all(await asyncio.gather(*(all_on(instance, directory, side) for instance, directory in places)))


async def _degraded(instance: Instance) -> bool:
    return "the Redis of [state]" in (await instance.status())["migration_problem"]


async def _is_at(instance: Instance, weight: int) -> bool:
    return bool((await instance.status())["migrations"][0]["weight"] == weight)
