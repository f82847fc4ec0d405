"""A Redis that is away, slow or full is an outage only for payments whose side may have changed within a day."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.journeys.conftest import Start
from tests.journeys.moved import Moved
from tests.journeys.process import children
from tests.journeys.replicas import REFUSED, became, is_served, move, reaches, replica
from tests.journeys.support import private
from tests.journeys.two_banks import QUIET_GUARD, TwoBanks, configured, table, two_banks
from tests.journeys.waiting import until
from tests.support.redis import RedisServer, redis_server

_PAYMENTS = 20


async def _sharing(directory: Path, redis: RedisServer, banks: TwoBanks, start: Start) -> Moved:
    private(directory / "state.key", "5a" * 32)
    state = f'[state]\nurl = "{redis.url}"\nencryption_key_files = ["state.key"]\n'
    path = configured(directory, banks, workers=2, migration=table(more=QUIET_GUARD), more=state)
    return Moved(banks=banks, directory=directory, configuration=path, start=start, instance=await start(path))


async def _codes(site: Moved) -> set[str]:
    """Return what becomes of payments."""
    answers = [await site.pay(f"key-{number}-{len(site.banks.legacy.events)}") for number in range(_PAYMENTS)]
    return {str(one.json.get("code", one.status)) for one in answers}


async def _is_away(site: Moved) -> None:
    async def said() -> bool:
        return "the Redis of [state]" in await site.verbose()

    await until(said, otherwise="nobody says that the Redis is away")


@pytest.mark.parametrize("how", ["stopped", "ended", "full"])
async def test_who_never_moved_goes_on(tmp_path: Path, start: Start, how: str) -> None:
    """At weight 0 there is one side."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        site = await _sharing(tmp_path, redis, banks, start)
        if how == "stopped":
            redis.stop()
        elif how == "ended":
            await redis.end()
        else:
            await redis.command("CONFIG", "SET", "maxmemory", "1")
        await _is_away(site)

        assert await _codes(site) == {"201"}
        if how == "stopped":
            redis.resume()


async def test_who_moved_today_waits_and_who_moved_yesterday_goes_on(tmp_path: Path, start: Start) -> None:
    """Without pins a retry can't be told from a first try; a day later no retry comes any more."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        site = await _sharing(tmp_path, redis, banks, start)
        await site.set(100)
        redis.stop()
        await _is_away(site)
        assert await _codes(site) == {"side_unknown"}
        redis.resume()
        assert await site.instance.stop() == 0

        path = tmp_path / "data" / "migrations.json"
        written = json.loads(path.read_text())
        for row in written["former"]["payments"]:
            row[2] -= 25 * 3600
        path.write_text(json.dumps(written))
        site.instance = await start(site.configuration)
        await is_served(site, "again")
        redis.stop()
        await _is_away(site)

        assert await _codes(site) == {"201"}
        assert banks.at("key-0-0") in {"", "modern"}
        redis.resume()


async def test_a_new_replica_that_never_reached_the_redis_waits(tmp_path: Path, start: Start) -> None:
    """Its data directory is empty: what others have sent, and where, it can't know, also after a restart."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first = await replica(tmp_path / "a", redis, banks, start)
        await move(first, 100)
        await first.fail("lost")
        await redis.end()

        new = await replica(tmp_path / "b", redis, banks, start)
        assert await became(new, "lost") == REFUSED
        await new.restart()
        assert await became(new, "lost") == REFUSED
        assert banks.at("lost") == "modern"

        await redis.start()
        await is_served(new, "lost")
        assert banks.at("lost") == "modern"


@pytest.mark.thorough
async def test_a_replica_that_had_left_does_not_trust_what_it_knew(tmp_path: Path, start: Start) -> None:
    """It stopped in order, so that nobody waited for it: others may have moved everybody since."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first = await replica(tmp_path / "a", redis, banks, start)
        second = await replica(tmp_path / "b", redis, banks, start)
        assert await second.instance.stop() == 0
        await move(first, 100)
        await first.fail("lost")
        await redis.end()

        second.instance = await start(second.configuration)

        assert await became(second, "lost") == REFUSED
        await redis.start()
        await is_served(second, "lost")
        assert banks.at("lost") == "modern"


@pytest.mark.thorough
async def test_a_replica_that_was_killed_does_not_trust_what_it_knew(tmp_path: Path, start: Start) -> None:
    """An operator went on without it (`--force`), and it comes back while nobody can tell it so."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first = await replica(tmp_path / "a", redis, banks, start)
        second = await replica(tmp_path / "b", redis, banks, start)
        await is_served(second, "before")
        await second.instance.kill_all()
        assert (await first.migration("set", "payments", "100", "--force", "--reason", "it is dead"))[0] == 0
        await reaches(first, 100)
        await first.fail("lost")
        await redis.end()

        second.instance = await start(second.configuration)

        assert await became(second, "lost") == REFUSED
        assert "may have gone on without this one" in await second.verbose()
        await redis.start()
        await is_served(second, "lost")
        assert banks.at("lost") == "modern"


@pytest.mark.thorough
async def test_a_replica_that_was_frozen_does_not_send_by_what_it_knew(tmp_path: Path, start: Start) -> None:
    """An operator went on without it; what waited in its sockets meanwhile is answered before it has heard of that."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        first = await replica(tmp_path / "a", redis, banks, start)
        second = await replica(tmp_path / "b", redis, banks, start)
        await is_served(second, "before")
        frozen = [second.instance.pid, *children(second.instance.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: _is_silent(first), otherwise="nobody says that the replica is silent")
            code, said = await first.migration("set", "payments", "100", "--force", "--reason", "it is dead")
            assert (code, "If its process still runs, stop it now" in said or "is silent" in said) == (0, True), said
            await reaches(first, 100)
            await first.fail("lost")
            retry = asyncio.create_task(second.pay("lost"))
            await asyncio.sleep(0)
        finally:
            for pid in reversed(frozen):  # the workers before the keeper
                os.kill(pid, signal.SIGCONT)

        answer = await retry
        assert (answer.status, banks.at("lost")) in {(503, "modern"), (201, "modern")}
        await is_served(second, "lost")
        assert banks.at("lost") == "modern"


async def _is_silent(one: Moved) -> bool:
    [state] = (await one.instance.status())["migrations"]
    return bool(state["silent_replicas"])
