"""The keys that seal what replicas share are replaced in three rounds, one replica after the other."""

from pathlib import Path

from tests.journeys.conftest import Start
from tests.journeys.replicas import is_served, is_well, move, replica, replicas, written
from tests.journeys.two_banks import two_banks
from tests.support.redis import redis_server

ROUNDS = (("old", "new"), ("new", "old"), ("new",))


async def test_keys_are_replaced_in_three_rounds(tmp_path: Path, start: Start) -> None:
    """After every restart both serve keyed payments; who has the new key alone knows what the old one had sealed."""
    async with redis_server(tmp_path) as redis, two_banks() as banks:
        both = await replicas(tmp_path, "ab", redis, banks, start)
        await both[0].fail("lost")
        await move(both[0], 0, both[1])

        for number, keys in enumerate(ROUNDS):
            for one in both:
                assert await one.instance.stop() == 0
                written(one.directory, redis, banks, keys=keys)
                one.instance = await start(one.configuration)
                for each in both:
                    key = f"{number}-{one.directory.name}-{each.directory.name}"
                    await is_served(each, key)
                    assert banks.at(key) == "legacy"
                    await is_well(each)
            # What is pinned in between is sealed with whatever key is the first now.
            await both[0].fail(f"round-{number}")
        await move(both[1], 100, both[0])

        third = await replica(tmp_path / "c", redis, banks, start, keys=ROUNDS[-1])
        for number in range(len(ROUNDS)):
            await is_served(third, f"round-{number}")
            assert banks.at(f"round-{number}") == "legacy"
        await move(both[0], 0, both[1], third)
        await is_served(third, "lost")
        assert banks.at("lost") == "modern"
        banks.check()
