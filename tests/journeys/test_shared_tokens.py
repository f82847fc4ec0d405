"""Three replicas as processes, two workers each, share one token through a Redis: one mint whatever happens."""

import asyncio
import functools
from itertools import pairwise
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.process import Instance
from tests.journeys.support import TOKEN_PATH, configured, private
from tests.journeys.waiting import until
from tests.support.redis import RedisServer, redis_server

NAMES = ("a", "b", "c")
HELLO = "/payment/helloworld"
IN_FLIGHT = 200
# Renewed after three of five seconds; where mints are slow, as on a busy machine, after half of the life.
LIFETIME, SECONDS_PER_MINT, SLOW_MINT = 5.0, 1.5, 1.0


def replica(directory: Path, bank: Bank, redis: RedisServer) -> Path:
    """Write the configuration of a replica into *directory* and return its path; it has no [migrations]."""
    directory.mkdir(exist_ok=True)
    private(directory / "state.key", "5a" * 32)
    path = configured(directory, bank.url, server="workers = 2")
    path.write_text(f'{path.read_text()}[state]\nurl = "{redis.url}"\nencryption_key_files = ["state.key"]\n')
    return path


async def three(directory: Path, bank: Bank, redis: RedisServer, start: Start) -> list[Instance]:
    """Start three replicas at the same time."""
    return await asyncio.gather(*(start(replica(directory / name, bank, redis)) for name in NAMES))


async def token(instance: Instance) -> str:
    """Return the fingerprint of the token in use."""
    [status] = (await instance.status())["tokens"]
    return str(status["fingerprint"])


def minted(bank: Bank, instances: list[Instance], number: int) -> bool:
    """Return whether there were *number* mints; more only if a replica says that a busy machine kept it from Redis."""
    return bank.world.mint_count() == number or (was_late(instances) and bank.world.mint_count() > number)


def was_late(instances: list[Instance]) -> bool:
    """Return whether Redis was too slow for one of *instances*."""
    return any("did not answer in time" in one.stderr.read_text() for one in instances)


async def have_one(instances: list[Instance]) -> None:
    """Return once all use the same token."""

    async def same() -> bool:
        return len({await token(one) for one in instances}) == 1

    await until(same, otherwise="they do not have one token")


async def storm(instances: list[Instance], number: int) -> list[int]:
    """Send *number* requests to each instance, all at once; return their statuses."""
    answers = await asyncio.gather(*(get(one.address, HELLO) for one in instances for _ in range(number)))
    return [answer.status for answer in answers]


async def test_one_mint_at_start_after_a_revocation_and_for_one_that_joins(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """200 requests are in flight at the three when the token is revoked, and all are served."""
    async with redis_server(tmp_path) as redis:
        instances = await three(tmp_path, bank, redis, start)
        await have_one(instances)
        assert minted(bank, instances, 1)

        bank.world.tokens.revoke()
        bank.world.faults.set("slow", path=TOKEN_PATH, seconds=0.3)
        assert set(await storm(instances, IN_FLIGHT // 3)) == {200}
        assert minted(bank, instances, 2)
        await have_one(instances)
        before = bank.world.mint_count()

        assert await instances[0].stop() == 0
        instances[0] = await start(tmp_path / "a" / "payproxy.toml")
        instances.append(await start(replica(tmp_path / "d", bank, redis)))
        assert set(await storm(instances, 5)) == {200}
        assert minted(bank, instances, before)
        records = tmp_path / "d" / "requests.jsonl"

        async def recorded() -> bool:
            return '"event":"adopted"' in records.read_text()

        await until(recorded, otherwise="the adoption is not recorded")  # the journal is shipped behind the requests
        assert '"event":"minted"' not in records.read_text()
        assert "[+]token_sharing ok" in (await get(instances[0].admin, "/readyz?verbose")).body.decode()
        metrics = (await instances[-1].metrics()).body.decode()
        assert 'payproxy_token_adoptions_total{credential="mock"} 1.0' in metrics


async def test_one_mint_after_the_minter_is_killed_in_the_middle(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Its lease ends, and one of the others takes over: the killed one's call is the only other one."""
    async with redis_server(tmp_path) as redis:
        instances = await three(tmp_path, bank, redis, start)
        await have_one(instances)
        holding, before = await token(instances[0]), bank.world.mint_count()
        bank.world.faults.set("slow", path=TOKEN_PATH, seconds=20.0, times=1)
        bank.world.tokens.revoke()
        asking = [asyncio.create_task(get(instances[0].address, HELLO))]
        await until(lambda: bank.world.mint_count() == before + 1, otherwise="nobody minted")
        asking += [asyncio.create_task(get(one.address, HELLO)) for one in instances[1:]]
        await until(lambda: _refused(bank) >= 3, otherwise="the others were not refused")

        await instances[0].kill_all()

        _, *served = await asyncio.gather(*asking, return_exceptions=True)  # the first may have been lost
        assert [one.status for one in served if not isinstance(one, BaseException)] == [200, 200]
        assert minted(bank, instances, before + 2)
        assert await token(instances[1]) == await token(instances[2]) != holding


def _refused(bank: Bank) -> int:
    return sum(one.status == 401 for one in bank.world.seen(HELLO))


async def test_without_redis_each_serves_and_says_so(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Ready from the start; the finding is in /readyz?verbose, the status and the log, and goes by itself."""
    async with redis_server(tmp_path) as redis:
        await redis.end()
        instances = await three(tmp_path, bank, redis, start)
        assert bank.world.mint_count() == 3
        assert set(await storm(instances, 3)) == {200}
        for one in instances:
            ready = await get(one.admin, "/readyz?verbose")
            assert ready.status == 200
            assert "[!]token_sharing degraded: the Redis of [state]: it can't be reached" in ready.body.decode()
            assert "it can't be reached" in (await one.status())["sharing_problem"]
            assert one.stderr.read_text().count("tokens are not shared") == 1

        await redis.start()
        for one in instances:
            await until(functools.partial(_is_well, one), otherwise="it stays degraded")
        await have_one(instances)
        bank.world.tokens.revoke()
        assert set(await storm(instances, 5)) == {200}
        assert minted(bank, instances, 4)


async def _is_well(one: Instance) -> bool:
    return "[+]token_sharing ok" in (await get(one.admin, "/readyz?verbose")).body.decode()


async def test_no_request_waits_while_three_share_short_tokens(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The token endpoint takes a second: who waited for it would be seen."""
    bank.world.faults.set("lifetime", path=TOKEN_PATH, seconds=LIFETIME)
    bank.world.faults.set("slow", path=TOKEN_PATH, seconds=SLOW_MINT)
    async with redis_server(tmp_path) as redis:
        instances = await three(tmp_path, bank, redis, start)
        loop = asyncio.get_running_loop()
        took: list[float] = []
        mints = bank.world.mint_count() + 4

        async def call(one: Instance) -> None:
            while bank.world.mint_count() < mints:
                at = loop.time()
                assert (await get(one.address, HELLO)).status == 200
                took.append(loop.time() - at)
                await asyncio.sleep(0.02)

        await asyncio.gather(*(call(one) for one in instances))

        # Renewed by one of three.
        when = [one.when for one in bank.world.seen(TOKEN_PATH)]
        gap = min(later - earlier for earlier, later in pairwise(when))
        assert gap >= SECONDS_PER_MINT or was_late(instances)
        assert max(took) < SLOW_MINT * 0.8
