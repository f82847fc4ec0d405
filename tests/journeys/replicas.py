"""Replicas between the two banks that share a real Redis, each with a directory of its own."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from tests.journeys.conftest import Start
from tests.journeys.moved import Moved
from tests.journeys.support import private
from tests.journeys.two_banks import QUIET_GUARD, TwoBanks, configured, table
from tests.journeys.waiting import until
from tests.support.redis import RedisServer

ENVIRONMENT = "client-testing"
MIGRATIONS, PINS, MEMBERS = (f"payproxy:{ENVIRONMENT}:{name}" for name in ("migrations", "pins", "replicas"))
KEYS = {"old": "5a" * 32, "new": "c3" * 32}
SERVED, REFUSED = "served", "side_unknown"


def written(directory: Path, redis: RedisServer, banks: TwoBanks, *, keys: Iterable[str] = ("old",)) -> Path:
    """Write a configuration that shares *redis*, sealed by the keys of these names, and return its path."""
    directory.mkdir(exist_ok=True)
    names = [private(directory / f"{name}.state", KEYS[name]).name for name in keys]
    state = f'[state]\nurl = "{redis.url}"\nencryption_key_files = {names}\n'
    return configured(directory, banks, migration=table(more=QUIET_GUARD), more=state)


async def replica(
    directory: Path, redis: RedisServer, banks: TwoBanks, start: Start, *, keys: Iterable[str] = ("old",)
) -> Moved:
    """Start a replica in *directory*."""
    path = written(directory, redis, banks, keys=keys)
    return Moved(banks=banks, directory=directory, configuration=path, start=start, instance=await start(path))


async def replicas(
    directory: Path, names: str, redis: RedisServer, banks: TwoBanks, start: Start, *, weight: int = 100
) -> list[Moved]:
    """Start a replica for each letter of *names*, in a directory of that name, and move them to *weight*."""
    found = await asyncio.gather(*(replica(directory / name, redis, banks, start) for name in names))
    await move(found[0], weight, *found[1:])
    return found


async def is_at(one: Moved, weight: int) -> bool:
    """Return whether the replica has the weight, and it is certain there."""
    [state] = (await one.instance.status())["migrations"]
    return bool(state["weight"] == weight and not state["unsettled"])


async def move(first: Moved, weight: int, *others: Moved) -> None:
    """Set the weight at *first* and return once all have it."""
    await first.set(weight)
    for one in (first, *others):
        await reaches(one, weight)


async def reaches(one: Moved, weight: int) -> None:
    """Return once the replica has the weight."""
    await until(lambda: is_at(one, weight), otherwise=f"{one.directory.name} did not get to {weight}")


async def became(one: Moved, key: str) -> str:
    """Return what becomes of a payment: `SERVED`, `REFUSED`; anything else is a failure."""
    answer = await one.pay(key)
    if answer.status in {200, 201}:
        return SERVED
    assert (answer.status, answer.json["code"], answer.json["sent_upstream"]) == (503, REFUSED, "no")
    return REFUSED


async def is_served(one: Moved, key: str) -> None:
    """Return once the payment *key* is served; whatever else comes of it before must be a refusal, unsent."""

    async def served() -> bool:
        return await became(one, key) == SERVED

    await until(served, otherwise=f"{one.directory.name} does not serve {key}")


async def says(one: Moved, words: str) -> None:
    """Return once the replica has written *words* to stderr."""
    await until(
        lambda: words in one.instance.stderr.read_text(), otherwise=f"{one.directory.name} does not say {words}"
    )


async def is_well(one: Moved) -> None:
    """Return once `/readyz?verbose` has nothing to say against the migrations."""

    async def well() -> bool:
        return "[+]migrations ok" in await one.verbose()

    await until(well, otherwise=f"{one.directory.name} stays degraded")
