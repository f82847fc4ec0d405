"""A console on a real admin listener, of a keeper whose status and log are pretended, and browsers without a screen."""

import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from proxy.checks.offline import checked
from proxy.clock import Clock
from proxy.console.answers import Refused
from proxy.console.app import Console
from proxy.console.live_records import LiveRecords
from proxy.console.live_tail import rendered
from proxy.console.log_reader import LogReader
from proxy.console.sessions import Visitor
from proxy.console.sign_in import SignIn
from proxy.entropy import SystemEntropy
from proxy.errors import LogUnavailable
from proxy.keeper.admin import AdminApp
from proxy.keeper.admin_connections import hold_open
from proxy.keeper.admin_server import AdminServer
from proxy.keeper.console import MigrationForms
from proxy.keeper.console_configuration import ConsoleConfiguration
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.audit_records import Operation
from proxy.records.query import Archive, Enough, all_of_it
from proxy.routing.compile import route_table
from proxy.secret import Secret
from proxy.settings.addresses import TcpAddress
from proxy.settings.load import load
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings
from proxy.settings.scrypt import make
from proxy.settings.values import snapshot_of
from proxy.telemetry.history import History
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status
from tests.keeper.migrating import Migrating
from tests.keeper.support import LOOPBACK
from tests.records.kept import inquiry
from tests.records.support import NOW
from tests.support.clock import ManualClock
from tests.support.two_rules import two_rules
from tests.telemetry.support import status

PASSWORD = "correct horse battery staple"
OPERATORS = {"alice": make(PASSWORD, b"salt" * 4)}
SCRIPT = '<script src="/console/console.js" defer></script>'
CSRF = re.compile(r'name="csrf" value="([A-Za-z0-9_-]+)"')


# Two rules of which one is migrated, as tests.keeper.migrating has it; DATA is the stage's directory.
CONFIGURATION = two_rules(
    migration="payments",
    path="/closed/*",
    closed='replay_body_bytes = 1000\nremint_on = [{ status = 403, body = "GCA-001" }]\n',
    top='data_directory = "DATA"\n',
)


async def nothing_more() -> None:
    """Do nothing."""


@dataclass(kw_only=True)
class Stage:
    """The parts of a keeper that a console needs; tests change *status*, and look at *operations*."""

    directory: Path
    operators: Mapping[str, str] = field(default_factory=dict)
    secure: bool = False
    hosts: tuple[str, ...] = ()
    listen: TcpAddress = LOOPBACK
    tls: ssl.SSLContext | None = None
    status: Status = field(default_factory=status)
    clock: Clock = field(default_factory=ManualClock)
    archive: Callable[[], Archive | None] | None = None
    configuration: str = CONFIGURATION
    environ: Mapping[str, str] = field(default_factory=dict)
    enough: Enough = all_of_it
    with_recent: Callable[[Status], Status] = replace
    operations: list[Operation] = field(default_factory=list)
    log_works: bool = True
    inquiries: "Bank" = field(default_factory=lambda: Bank())  # noqa: PLW0108 - defined below
    recorded: Callable[[], Awaitable[None]] = nothing_more
    sign_in: SignIn = field(init=False)
    history: History = field(init=False)
    migrating: Migrating = field(init=False)
    settings: Settings = field(init=False)
    in_force: ConsoleConfiguration = field(init=False)
    live: LiveRecords = field(init=False)
    metrics: Metrics = field(init=False)
    app: AdminApp = field(init=False)

    def __post_init__(self) -> None:
        secrets = {name: Secret(text) for name, text in self.operators.items()}
        self.sign_in = SignIn(
            secrets,
            secure=self.secure,
            record=self._operated,
            clock=self.clock,
            entropy=SystemEntropy(),
        )
        self.history = History(clock=self.clock)
        self.migrating = Migrating(directory=self.directory)
        self.config_file.write_text(self.configuration.replace("DATA", str(self.directory)))
        loaded = self.read()
        assert loaded.settings is not None, loaded.findings
        self.settings = loaded.settings
        self.in_force = ConsoleConfiguration(
            settings=lambda: self.settings,
            snapshot=lambda: snapshot_of(self.settings, instance="host-1"),
            table=lambda: route_table(snapshot_of(self.settings, instance="host-1")),
            read=lambda checks: checked(self.read(), checks),
            migrations=self.migrating.migrations,
            container=False,
            users=lambda: (),
            clock=self.clock,
        )
        self.live = LiveRecords(run="0a1b2c3d", render=rendered)
        console = Console(
            status=lambda: self.status,
            with_recent=self.with_recent,
            sign_in=self.sign_in,
            log=LogReader(self.archive or self._database, data_directory=self.directory, enough=lambda: self.enough),
            history=self.history,
            migrations=MigrationForms(self.migrating.migrations),
            in_force=self.in_force,
            inquiries=self.inquiries,
            live=self.live,
            hold_open=hold_open,
            clock=self.clock,
        )
        self.metrics = Metrics(status=lambda: self.status)
        self.app = AdminApp(
            status=lambda: self.status,
            with_recent=self.with_recent,
            metrics=self.metrics,
            hosts=self.hosts,
            open_status=lambda: not self.sign_in.needed,
            console=console.routes(),
            end_live=lambda: self.live.end("stop"),
        )

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx.AsyncClient]:
        """Open the listener; yield a client that keeps cookies and follows nothing by itself."""
        async with self.server() as server:
            host, port = server.addresses[0]
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60, trust_env=False) as client:
                yield client

    def server(self) -> AdminServer:
        """Return the admin server, not open yet."""
        return AdminServer(self.app.application(), directory=self.directory, listen=self.listen, tls=self.tls)

    @property
    def config_file(self) -> Path:
        """Return the path of the configuration file."""
        return self.directory / "payproxy.toml"

    def read(self) -> Loaded:
        """Read the configuration file."""
        return load(
            self.config_file,
            environ=self.environ,
            cwd=self.directory,
            secrets_directory=self.directory / "no-secrets",
        )

    def _database(self) -> Archive:
        return SqliteArchive(self.directory / "requests.db")

    async def _operated(self, operation: Operation) -> None:
        if not self.log_works:
            raise LogUnavailable("full")
        self.operations.append(operation)
        await self.recorded()


@dataclass(kw_only=True)
class Bank:
    """A bank that is asked: *why_not*, or it says *verdict*; *wait* is what it awaits before."""

    why_not: str = ""
    verdict: str = "found"
    wait: Callable[[], Awaitable[object]] | None = None
    asked: list[tuple[str, Visitor]] = field(default_factory=list)

    def objection(self, _record: Mapping[str, Any]) -> str:
        """Return why it can't be asked."""
        return self.why_not

    async def ask(self, record: Mapping[str, Any], *, by: Visitor) -> dict[str, Any]:
        """Note who asks, and return the record of what it says."""
        if self.why_not:
            raise Refused(409, f"The bank can't be asked about this request: {self.why_not}.")
        self.asked.append((record["id"], by))
        if self.wait is not None:
            await self.wait()
        found: dict[str, Any] = json.loads(inquiry(record["id"], NOW + 600, verdict=self.verdict))
        return found


async def sign_in(client: httpx.AsyncClient, **fields: str) -> httpx.Response:
    """Send the sign-in form, by default alice's."""
    return await client.post("/console/sign-in", data={"name": "alice", "password": PASSWORD} | fields)


async def csrf_of(client: httpx.AsyncClient, path: str = "/console/migrations") -> str:
    """Return the CSRF token in the page at *path*."""
    found = CSRF.search((await client.get(path)).text)
    assert found
    return found[1]


def plain(values: Any) -> Any:
    """Return what JSON makes of *values*: tuples are lists."""
    return [plain(one) for one in values] if isinstance(values, list | tuple) else values


def own(page: str) -> str:
    """Return *page* without the tag of the console's own script, which each page has once."""
    assert page.count(SCRIPT) == 1
    return page.replace(SCRIPT, "")
