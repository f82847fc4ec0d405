"""Three replicas behind a real HAProxy, with a real Redis and a real PostgreSQL, between both sides of a migration.

The simulator is the bank and keeps the books: legacy and modern are two hosts and two clients of it. Each replica has a
data directory, a name and a configuration of its own; they share keys, callers, the Redis and the database.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.clients import ADFS_CLIENT_ID, AUDIENCES, JWT_CLIENT_ID, RESOURCES
from proxy.simulator.server import Bank
from tests.cli.serving import make_pair
from tests.journeys.caller import get
from tests.journeys.conftest import Start
from tests.journeys.counting import Callers
from tests.journeys.fleet import ADFS, MODERN, NUMBER, SYSTEMS
from tests.journeys.process import Instance
from tests.journeys.support import private
from tests.journeys.two_banks import QUIET_GUARD
from tests.journeys.waiting import until
from tests.journeys.weights import roll_back, set_weight
from tests.records.postgres import Postgres, binaries, running_postgres
from tests.support.haproxy import HAProxy
from tests.support.ports import lasting_port
from tests.support.redis import redis_server

NAMES = ("a", "b", "c")
# So many systems work at once: steady load, and not more than two cores take.
BUSY = SYSTEMS[:8]
_NO_ENVIRONMENT: Mapping[str, str] = {}

_CONFIGURATION = """\
environment = "client-testing"
instance = "{name}"
data_directory = "data"

[server]
listen = "{listen}:{port}"

[admin]
listen = "127.0.0.1:{admin}"

# Intents for GET too, so that every request that the bank has seen is on record, also of a replica that was killed.
[request_log]
stdout = false
database_file = "database.url"
intent_methods = ["GET", "POST"]
index_headers = ["{number}", "Idempotency-Key"]

[state]
url = "{redis}"
encryption_key_files = ["state.key"]

[upstreams.before]
url = "{before}"

[upstreams.after]
url = "{after}"

[credentials.adfs]
flavor = "adfs"
client_id = "{adfs_client}"
private_key_file = "{keys}/adfs.key"
certificate_file = "{keys}/adfs.crt"
token_url = "{before}{adfs}"

[credentials.login]
flavor = "jwt"
client_id = "{jwt_client}"
private_key_file = "{keys}/login.key"
certificate_file = "{keys}/login.crt"
token_url = "{before}{modern}"

[[routes]]
name = "payments"
path = "/payment"
upstream = "before"
credential = "adfs"
audience = "{resource}"

[migrations.payments]
routes = ["payments"]
legacy = {{ credential = "adfs", audience = "{resource}" }}
modern = {{ credential = "login", audience = "{audience}", upstream = "after" }}
{guard}
"""


@dataclass(kw_only=True)
class Replica:
    """One replica: where it is, and the process that it is now."""

    name: str
    directory: Path
    port: int
    admin: int
    start: Start
    python: str = sys.executable
    _instances: list[Instance] = field(default_factory=list)

    @property
    def instance(self) -> Instance:
        """Return its process."""
        return self._instances[-1]

    @property
    def said(self) -> str:
        """Return what it has written to stderr, with the processes that it was before."""
        return "".join(one.stderr.read_text() for one in self._instances)

    @property
    def configuration(self) -> Path:
        """Return the path of its configuration."""
        return self.directory / "payproxy.toml"

    async def begin(self) -> None:
        """Start it, and return once it is ready."""
        self._instances.append(await self.start(self.configuration, python=self.python))

    async def state(self) -> dict[str, Any]:
        """Return how its migration stands."""
        [found] = (await self.instance.status())["migrations"]
        return dict(found)

    async def is_at(self, weight: int) -> bool:
        """Return whether it has the weight, and it is certain there."""
        state = await self.state()
        return bool(state["weight"] == weight and not state["unsettled"])

    async def is_degraded(self) -> None:
        """Return once `/readyz?verbose` says that its migrations are."""
        await self._shows("[!]migrations degraded")

    async def is_well(self) -> None:
        """Return once `/readyz?verbose` has nothing to say against its migrations."""
        await self._shows("[+]migrations ok")

    async def _shows(self, words: str) -> None:
        async def shown() -> bool:
            return words in (await get(self.instance.admin, "/readyz?verbose")).body.decode()

        await until(shown, otherwise=f"replica {self.name} does not show {words}")

    async def says(self, words: str) -> None:
        """Return once it has written *words* to stderr."""
        await until(
            lambda: words in self.instance.stderr.read_text(), otherwise=f"replica {self.name} does not say {words}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """When it *began* by the loop's clock, after how many *seconds* each replica was at 0, when load had gone on."""

    began: float
    seconds: dict[str, float]
    over: float


@dataclass(kw_only=True)
class ReplicaFleet:
    """All that runs, and the *callers* in front of it."""

    bank: Bank
    replicas: tuple[Replica, ...]
    haproxy: HAProxy
    postgres: Postgres
    callers: Callers = field(init=False)

    def __post_init__(self) -> None:
        self.callers = Callers(address=("127.0.0.1", self.haproxy.port), systems=BUSY)

    async def all_up(self, *names: str) -> None:
        """Return once HAProxy gives requests to the replicas *names*, all if none is named, and to no others."""
        wanted = set(names or NAMES)

        async def are() -> bool:
            return await self.haproxy.up() == wanted

        await until(are, otherwise=f"HAProxy does not use {wanted}")

    async def moves_to(self, weight: int) -> None:
        """Set the weight and return once all replicas have it."""
        await set_weight(self.replicas[0].directory, weight)
        await self.all_at(weight)

    async def rolls_back(self, *, by: str = "a") -> Rollback:
        """Roll back to 0 at the replica *by*, and return once the load has gone on with that."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def arrives(one: Replica) -> float:
            async def arrived() -> bool:
                return bool((await one.state())["weight"] == 0)

            await until(arrived, otherwise=f"the rollback did not come to replica {one.name}")
            return loop.time() - began

        [place] = [one.directory for one in self.replicas if one.name == by]
        arrivals = asyncio.gather(*map(arrives, self.replicas))
        await roll_back(place)
        seconds = await arrivals
        await self.all_at(0)
        await self.callers.goes_on()
        return Rollback(began=began, seconds=dict(zip(NAMES, seconds, strict=True)), over=loop.time())

    async def all_at(self, weight: int) -> None:
        """Return once all replicas have the weight, and it is certain there."""
        for one in self.replicas:
            await until(partial(one.is_at, weight), otherwise=f"replica {one.name} did not get to {weight}")


@asynccontextmanager
async def running_fleet(
    directory: Path,
    bank: Bank,
    start: Start,
    *,
    redis: str,
    listen: str = "127.0.0.1",
    python: Mapping[str, str] = _NO_ENVIRONMENT,
) -> AsyncIterator[ReplicaFleet]:
    """Run everything but the Redis, whose URL is *redis*, for the block; *python*: the interpreter of a replica."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    bank.world.register_adfs_client(ADFS_CLIENT_ID, make_pair(directory, "adfs"))
    bank.world.register_jwt_client(JWT_CLIENT_ID, make_pair(directory, "login"))
    with running_postgres(found) as postgres:
        replicas = tuple(
            _replica(directory, name, bank, start, redis=redis, listen=listen, postgres=postgres, python=python)
            for name in NAMES
        )
        await asyncio.gather(*(one.begin() for one in replicas))
        haproxy = HAProxy(directory, {one.name: (one.port, one.admin) for one in replicas})
        async with haproxy.running():
            fleet = ReplicaFleet(bank=bank, replicas=replicas, haproxy=haproxy, postgres=postgres)
            await fleet.all_up()
            yield fleet


@asynccontextmanager
async def fleet_with_redis(
    directory: Path, bank: Bank, start: Start, *, listen: str = "127.0.0.1", python: Mapping[str, str] = _NO_ENVIRONMENT
) -> AsyncIterator[ReplicaFleet]:
    """Run everything for the block."""
    async with (
        redis_server(directory) as redis,
        running_fleet(directory, bank, start, redis=redis.url, listen=listen, python=python) as fleet,
    ):
        yield fleet


def _replica(
    directory: Path,
    name: str,
    bank: Bank,
    start: Start,
    *,
    redis: str,
    listen: str,
    postgres: Postgres,
    python: Mapping[str, str],
) -> Replica:
    own = directory / name
    own.mkdir()
    private(own / "state.key", "5a" * 32)
    private(own / "database.url", postgres.url().reveal())
    one = Replica(
        name=name,
        directory=own,
        port=lasting_port(),
        admin=lasting_port(),
        start=start,
        python=python.get(name, sys.executable),
    )
    text = _CONFIGURATION.format(
        name=name, listen=listen, port=one.port, admin=one.admin, number=NUMBER, redis=redis, keys=directory,
        before=bank.url, after=bank.files_url, adfs=ADFS, modern=MODERN, adfs_client=ADFS_CLIENT_ID,
        jwt_client=JWT_CLIENT_ID, resource=RESOURCES["payments"], audience=AUDIENCES["payments"],
        guard=QUIET_GUARD,
    )  # fmt: skip
    one.configuration.write_text(text + "".join(map(caller_lines, BUSY)))
    return one


def caller_lines(system: str) -> str:
    """Return the configuration of *system* as a caller."""
    return f'[callers.{system}]\napi_key_sha256 = ["{hashlib.sha256(system.encode()).hexdigest()}"]\n'
