"""Replicas that share tokens: real token managers, as the keeper makes them, on a real Redis and the simulator."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from proxy.clock import Clock, SystemClock
from proxy.credentials.credential import Credential
from proxy.entropy import SystemEntropy
from proxy.events import Event
from proxy.keeper.shared_state import token_sharing_of
from proxy.keeper.token_manager import TokenManager
from proxy.link.messages import TokenUpdate, TokenValue
from proxy.routing.compile import route_table
from proxy.settings.values import snapshot_of
from proxy.simulator.clients import MOCK_CLIENT_SECRET
from proxy.simulator.server import Bank
from proxy.telemetry.status import TokenStatus
from tests.journeys.support import configured, private
from tests.settings.support import load_text
from tests.support.redis import RedisServer
from tests.upstream.support import eventually

NAMES = ("a", "b", "c")
SYSTEM = SystemClock()
KEYS = {"old": "5a" * 32, "new": "c3" * 32}
ROUTE = "payments"


@dataclass(kw_only=True)
class SkewedClock:
    """The system's clock, its wall clock *skew* seconds ahead."""

    skew: float = 0.0

    def now(self) -> float:
        """Return the wrong time."""
        return SYSTEM.now() + self.skew

    monotonic = staticmethod(SYSTEM.monotonic)
    sleep = staticmethod(SYSTEM.sleep)


@dataclass(kw_only=True)
class Replica:
    """A keeper's tokens, what it said, and what its workers were told."""

    manager: TokenManager
    events: list[Event] = field(default_factory=list)
    updates: list[TokenUpdate] = field(default_factory=list)

    @property
    def status(self) -> TokenStatus:
        """Return how its one token is."""
        [status] = self.manager.statuses()
        return status

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the token in use, "" if there is none that can be sent."""
        return self.status.fingerprint if self.status.usable else ""

    @property
    def token(self) -> TokenValue:
        """Return the token as its workers have it."""
        [update] = self.manager.messages()
        assert update.token is not None
        return update.token

    @property
    def problem(self) -> str:
        """Return why it does not share."""
        return self.manager.sharing.problem

    async def refuse(self, token: TokenValue, *, worked: bool = True) -> str:
        """Report a refusal of *token*, as a worker does; each token is refused to another source."""
        [update] = self.manager.messages()
        if worked:
            self.manager.accepted(update.key, token.mint, sent=0.0)
        return await self.manager.replace(update.key, token.mint, route=ROUTE, source=f"{ROUTE} {token.mint}")

    def replayed(self, mint: int | None = None, *, refused_again: bool = False) -> None:
        """Report what came of the second send, with the token with serial *mint* (None: the one in use)."""
        [update] = self.manager.messages()
        mint = self.token.mint if mint is None else mint
        self.manager.replayed(update.key, mint, route=ROUTE, source=ROUTE, refused_again=refused_again)

    def said(self, kind: type[Event]) -> list[Event]:
        """Return the events of *kind*."""
        return [event for event in self.events if isinstance(event, kind)]


def made(
    directory: Path,
    bank: Bank,
    url: str,
    *,
    clock: Clock = SYSTEM,
    keys: tuple[str, ...] = ("old",),
    credential: str = "",
    environment: str = "mock",
    secret: str = MOCK_CLIENT_SECRET,
    serial: Iterator[int] | None = None,
) -> Replica:
    """Return a replica in *directory* that shares the Redis at *url*, not begun yet."""
    directory.mkdir(exist_ok=True)
    files = [private(directory / f"{key}.state", KEYS[key]).name for key in keys]
    text = (
        configured(directory, bank.url, secret=secret)
        .read_text()
        .replace('environment = "mock"', f'environment = "{environment}"')
    )
    text = text.replace("[[routes]]", f"{credential}\n[[routes]]", 1)
    where = f'url_file = "{private(directory / "url", url).name}"' if "@" in url else f'url = "{url}"'
    state = f"[state]\n{where}\nencryption_key_files = {files}\n" if url else ""
    loaded = load_text(directory, text + state)
    assert loaded.settings is not None, loaded.findings
    settings, events, updates = loaded.settings, list[Event](), list[TokenUpdate]()
    sharing = token_sharing_of(
        settings, host=directory.name, clock=clock, entropy=SystemEntropy(), observe=events.append
    )
    manager = TokenManager(
        route_table(snapshot_of(settings, instance=directory.name)),
        {name: Credential.load(section, name=name) for name, section in settings.credentials.items()},
        clock=clock,
        entropy=SystemEntropy(),
        observe=events.append,
        broadcast=lambda message: updates.append(message) if isinstance(message, TokenUpdate) else None,
        serial=serial or count(1),
        sharing=sharing(),
    )
    return Replica(manager=manager, events=events, updates=updates)


async def refuse_all(*replicas: Replica) -> None:
    """Report a refusal of the token that each has now, one after the other; a later one may have the next by then."""
    for one, token in [(one, one.token) for one in replicas]:
        await one.refuse(token)


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    """Run *replicas* for the block."""
    tasks = [asyncio.create_task(one.manager.run()) for one in replicas]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def all_have_one(*replicas: Replica) -> str:
    """Return the fingerprint once all use the same token."""

    def same() -> bool:
        found = {one.fingerprint for one in replicas}
        return len(found) == 1 and "" not in found

    await eventually(same)
    return replicas[0].fingerprint


async def each_has_one(*replicas: Replica) -> None:
    """Return once each has a token."""
    await eventually(lambda: all(one.fingerprint for one in replicas))


def three(directory: Path, bank: Bank, redis: RedisServer) -> list[Replica]:
    """Return three replicas."""
    return [made(directory / name, bank, redis.url) for name in NAMES]


async def names(redis: RedisServer) -> list[str]:
    """Return the names of the shared tokens."""
    lines = (await redis.command("KEYS", "payproxy:*:token:*")).decode().split("\r\n")
    return [line for line in lines if ":token:" in line]
