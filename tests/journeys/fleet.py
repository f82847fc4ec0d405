"""Twenty systems with keys of their own, moved from the ADFS token endpoint to the modern one, each side at its host.

The bank's first port is the legacy host, its second the modern one. Every request carries a number of its own, by which
the bank's list of what it received tells how often it was sent.
"""

import asyncio
import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.entropy import SystemEntropy, uuid4
from proxy.migration.side import point
from proxy.simulator.clients import ADFS_CLIENT_ID, AUDIENCES, JWT_CLIENT_ID, RESOURCES
from proxy.simulator.received import Received
from proxy.simulator.server import Bank
from tests.cli.serving import make_pair
from tests.journeys.caller import Address, Answer, Connection, Request, connected, payment
from tests.journeys.process import Instance

SYSTEMS = tuple(f"erp-{number:02}" for number in range(1, 21))
ADFS, MODERN = "/adfs/oauth2/token", "/oauth2/token"
PAYMENTS = "/payment/v2/payments"
# Sent by the callers, and handed on as any header of theirs.
NUMBER, SYSTEM = "X-Number", "X-System"
_PAUSE_SECONDS = 0.1

_CONFIGURATION = """\
environment = "client-testing"
data_directory = "data"

[server]
listen = "127.0.0.1:0"
workers = 2

[admin]
listen = "127.0.0.1:0"

[request_log]
stdout = false
file = "requests.jsonl"

[upstreams.before]
url = "{before}"
{upstream}

[upstreams.after]
url = "{after}"
{upstream}

[credentials.adfs]
flavor = "adfs"
client_id = "{adfs_client}"
private_key_file = "adfs.key"
certificate_file = "adfs.crt"
token_url = "{before}{adfs}"
{credential}

[credentials.login]
flavor = "jwt"
client_id = "{jwt_client}"
private_key_file = "login.key"
certificate_file = "login.crt"
token_url = "{before}{modern}"
{credential}

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
{migration}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A request, who sent it when (the loop's seconds), and what came back."""

    system: str
    started: float
    request: Request
    answer: Answer

    @property
    def number(self) -> str:
        """Return the request's number."""
        return self.request.headers[NUMBER]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The systems *names*, as callers of the instance at *address*."""

    address: Address
    names: tuple[str, ...] = SYSTEMS

    def request(self, system: str, request: Request) -> Request:
        """Return *request* as *system* sends it."""
        headers = {**request.headers, "X-Payproxy-Key": system, SYSTEM: system, NUMBER: _new()}
        return replace(request, headers=headers)

    async def asks(self, system: str, request: Request) -> Told:
        """Send *request* as *system*, on a connection of its own."""
        [told] = await self.ask_in_turn(system, [request])
        return told

    async def ask_in_turn(self, system: str, requests: Iterable[Request]) -> list[Told]:
        """Send *requests* as *system*, one after the other on one connection."""
        async with connected(self.address) as connection:
            return [await self._ask(connection, system, each) for each in requests]

    async def _ask(self, connection: Connection, system: str, request: Request) -> Told:
        started = asyncio.get_running_loop().time()
        made = self.request(system, request)
        return Told(system=system, started=started, request=made, answer=await connection.ask(made))

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[list[Told]]:
        """Have every system read and pay without end for the block, and yield the growing list of what came of it."""
        told: list[Told] = []
        over = asyncio.Event()

        async def works(system: str) -> None:
            async with connected(self.address) as connection:
                while not over.is_set():
                    told.append(await self._ask(connection, system, Request()))
                    told.append(await self._ask(connection, system, payment(_new())))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), _PAUSE_SECONDS)

        async with asyncio.TaskGroup() as tasks:
            for system in self.names:
                tasks.create_task(works(system), name=system)
            try:
                yield told
            finally:
                over.set()

    async def round(self, *, times: int = 1) -> list[Told]:
        """Have every system read once and pay once, *times* over; all systems at once."""
        told = await asyncio.gather(
            *(
                self.ask_in_turn(system, [each for _ in range(times) for each in (Request(), payment(_new()))])
                for system in self.names
            )
        )
        return list(itertools.chain.from_iterable(told))


def configured(
    directory: Path,
    bank: Bank,
    *,
    systems: Iterable[str] = SYSTEMS,
    migration: str = "",
    upstream: str = "",
    credential: str = "",
) -> Path:
    """Write a configuration with the given lines in its tables, and return its path; the bank knows both clients."""
    bank.world.register_adfs_client(ADFS_CLIENT_ID, make_pair(directory, "adfs"))
    bank.world.register_jwt_client(JWT_CLIENT_ID, make_pair(directory, "login"))
    text = _CONFIGURATION.format(
        before=bank.url, after=bank.files_url, adfs=ADFS, modern=MODERN, adfs_client=ADFS_CLIENT_ID,
        jwt_client=JWT_CLIENT_ID, resource=RESOURCES["payments"], audience=AUDIENCES["payments"],
        migration=migration, upstream=upstream, credential=credential,
    )  # fmt: skip
    for system in systems:
        text += f'[callers.{system}]\napi_key_sha256 = ["{hashlib.sha256(system.encode()).hexdigest()}"]\n'
    path = directory / "payproxy.toml"
    path.write_text(text)
    return path


def on_modern(weight: int) -> set[str]:
    """Return the systems that belong on the modern side at *weight*."""
    return {system for system in SYSTEMS if point("payments", system) < weight / 100}


def received(bank: Bank) -> dict[str, list[Received]]:
    """Return what the bank received of the systems, by number, in order."""
    found: dict[str, list[Received]] = {}
    for one in bank.world.seen("/payment"):
        found.setdefault(one.header(NUMBER) or "", []).append(one)
    return found


def side_of(one: Received, bank: Bank) -> str:
    """Return the side by which the bank received *one*, which credential and host must agree on."""
    ports = {int(url.rpartition(":")[2]): side for url, side in ((bank.url, "legacy"), (bank.files_url, "modern"))}
    sides = {ADFS_CLIENT_ID: "legacy", JWT_CLIENT_ID: "modern"}
    assert ports[one.port] == sides[one.client_id], "a token went to the other side's host"
    return ports[one.port]


def check_never_twice(bank: Bank) -> None:
    """Check that the bank executed nothing twice, and got nothing more than twice, nor twice but after a refusal."""
    assert all(count == 1 for key, count in bank.world.accepted.items() if key)
    for number, sends in received(bank).items():
        assert len(sends) <= 2, f"request {number} was sent {len(sends)} times"
        assert len(sends) == 1 or sends[0].status == 401, f"request {number} was sent again after {sends[0].status}"


def statuses(told: Iterable[Told]) -> Counter[int]:
    """Return how many answers had which status."""
    return Counter(one.answer.status for one in told)


async def state(instance: Instance) -> Any:
    """Return how the migration stands."""
    [one] = (await instance.status())["migrations"]
    return one


def _new() -> str:
    return uuid4(SystemEntropy())
