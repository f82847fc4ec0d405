"""A guard over migrations of a pretended keeper: the clock is turned by hand, the log and the files are real."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.events import Event
from proxy.keeper.guard_task import MigrationGuard
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.side import Side
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of
from proxy.telemetry.status import TokenState, TokenStatus
from tests.keeper.migrating import BY, PAYMENTS, Migrating
from tests.settings.support import load_text, plain
from tests.support.clock import ManualClock
from tests.telemetry.support import token
from tests.upstream.support import eventually

CALLERS = ("erp", "crm", "shop")
DATABASE = "requests.db"


def config(*, callers: Iterable[str] = CALLERS, migration: str = "", log: str = "") -> str:
    """Return a configuration with *callers*, and more lines of [migrations.payments] and [request_log]."""
    sections = [f'[callers.{name}]\nnetworks = ["10.20.{at}.0/24"]\n' for at, name in enumerate(callers)]
    return plain(
        ('credential = "login"\n', 'credential = "adfs"\naudience = "JPMC:URI:RS-1"\n'),
        more=f"""
[credentials.adfs]
flavor = "basic"
client_id = "my-old-client"
client_secret_file = "secret"
token_url = "https://idag2.jpmorganchase.com/adfs/oauth2/token"
{"".join(sections)}
[migrations.payments]
routes = ["payments"]
legacy = {{ credential = "adfs", audience = "JPMC:URI:RS-1" }}
modern = {{ credential = "login", audience = "jpm:uri:prod:payments" }}
{migration}
[request_log]
{log}
""",
    )


def settings_in(folder: Path, text: str) -> Settings:
    """Return the settings in *text*."""
    (folder / "secret").write_text("s")
    (folder / "secret").chmod(0o600)
    loaded = load_text(folder, text)
    assert loaded.settings is not None, loaded.findings
    Path(loaded.settings.data_directory).mkdir(exist_ok=True)
    return loaded.settings


@dataclass(kw_only=True)
class Guarding:
    """A guard that runs, what it watches and what it said."""

    keeper: Migrating
    clock: ManualClock
    guard: MigrationGuard
    events: list[Event] = field(default_factory=list)

    def end(self, caller: str, outcome: str, times: int = 1, *, side: Side = Side.MODERN, status: int = 200) -> None:
        """Let exchanges of *caller* end now."""
        row = ExchangeOutcome(
            migration="payments",
            side=side,
            caller=caller,
            safe=True,
            outcome=outcome,
            status=status,
            refused=outcome == "refused",
            finished=self.clock.monotonic(),
            route="payments",
        )
        self.guard.migrated([row] * times)

    async def acts(self) -> Event:
        """Return what the guard does next."""
        await eventually(lambda: bool(self.events))
        return self.events.pop(0)

    async def does_nothing(self) -> None:
        """Let it look once more, and at the files, and find nothing."""
        await self.clock.advance(1)
        await asyncio.sleep(0.02)
        await self.clock.advance(1)
        assert self.events == []

    def mints(self, *, modern: str = "", legacy: str = "") -> None:
        """Let the last mints have failed with these codes, "" for those that went well."""
        self.keeper.tokens = (_token("legacy", legacy), _token("modern", modern))


def _token(side: str, code: str) -> TokenStatus:
    values, settings = getattr(PAYMENTS, side), {"login": "jpm:payments:sandbox", "adfs": "jpm:payments:sandbox"}
    return token(
        credential=values.credential,
        audience=values.audience,
        scope=settings[values.credential],
        state=TokenState.FRESH,
        error_code=code,
    )


@asynccontextmanager
async def guarding(folder: Path, *, weights: Iterable[int] = (10, 50), text: str = "") -> AsyncIterator[Guarding]:
    """Yield a guard over [migrations.payments] at the last of *weights*."""
    settings = settings_in(folder, text or config())
    snapshot = snapshot_of(settings, instance="host-1")
    clock = ManualClock()
    keeper = Migrating(directory=Path(snapshot.data_directory), clock=clock)
    migrations = await keeper.open(snapshot.migrations)
    for weight in weights:
        await migrations.set("payments", weight, **BY)
    events: list[Event] = []
    guard = MigrationGuard(migrations, tokens=lambda: keeper.tokens, clock=clock, observe=events.append)
    made = Guarding(keeper=keeper, clock=clock, guard=guard, events=events)
    made.mints()
    guard.follow(settings, snapshot)
    running = asyncio.create_task(guard.run())
    await clock.advance(1)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        await migrations.close()
