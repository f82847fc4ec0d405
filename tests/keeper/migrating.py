"""Migrations of a pretended keeper: files are real, operations and messages are noted."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.clock import Clock, SystemClock
from proxy.errors import LogUnavailable
from proxy.keeper.migrations import Migrations
from proxy.link.messages import MigrationStates, ReplicaContact, ToWorker
from proxy.migration.side_settings import SideSettings
from proxy.records.audit_records import Operation
from proxy.records.mask import Mask
from proxy.settings.worker_values import MigrationValues, RouteValues, SideValues, Snapshot
from proxy.telemetry.status import TokenStatus
from tests.worker.values import snapshot

BY: dict[str, Any] = {"who": "op", "proof": "unix socket", "reason": "week two"}
PAYMENTS = MigrationValues(
    name="payments",
    routes=("payments",),
    legacy=SideValues(credential="adfs", audience="JPMC:URI:RS-1", scope="", upstream=""),
    modern=SideValues(credential="login", audience="jpm:uri:prod:payments", scope="", upstream=""),
    sticky="caller",
    methods=(),
    pinned_legacy=(),
    pinned_modern=(),
    fallback=True,
)
ROUTE = RouteValues(
    name="payments",
    path="/pay",
    methods=(),
    callers=(),
    upstream="bank",
    credential="adfs",
    audience="",
    scope="",
    strip_prefix="",
    replay_body_bytes=0,
    remint_on=(),
)
OTHER_SIDES = replace(PAYMENTS, modern=replace(PAYMENTS.modern, credential="login2"))


def configured(*tables: MigrationValues, credential: str = "adfs") -> Snapshot:
    """Return a configuration with these tables, whose one route has *credential*."""
    return replace(snapshot(Path(), 1), routes=(replace(ROUTE, credential=credential),), migrations=tables)


MASK = Mask(b"key")


@dataclass(kw_only=True)
class Migrating:
    """A keeper's migrations in *directory*, and what they told whom."""

    directory: Path
    clock: Clock = field(default_factory=SystemClock)
    tokens: tuple[TokenStatus, ...] = ()
    log_works: bool = True
    recovered: bool = True
    operations: list[Operation] = field(default_factory=list)
    sent: list[ToWorker] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    contact_until: float = 0.0
    migrations: Migrations = field(init=False)

    def __post_init__(self) -> None:
        self.migrations = Migrations(
            self.directory,
            clock=self.clock,
            operated=self._operate,
            broadcast=self._send,
            tokens=lambda: self.tokens,
            recovered=lambda: self.recovered,
            write_line=self.said.append,
            mask=MASK.text,
        )

    async def open(self, values: Iterable[MigrationValues] = (PAYMENTS,)) -> Migrations:
        """Read the files and know the tables."""
        await self.migrations.open()
        await self.migrations.follow(values)
        return self.migrations

    def told(self, name: str = "payments") -> tuple[int, int, list[str]]:
        """Return weight, version and held callers that workers have heard last."""
        state = self.message.states[name]
        return state.weight, state.version, list(state.guard_pinned)

    @property
    def weight(self) -> int:
        """Return what workers have heard last of payments."""
        return self.payments.weight

    @property
    def payments(self) -> SideSettings:
        """Return the settings of payments that were sent to workers last."""
        return self.message.states["payments"]

    @property
    def message(self) -> MigrationStates:
        """Return the last message about the migrations' states."""
        return [message for message in self.sent if isinstance(message, MigrationStates)][-1]

    async def _operate(self, operation: Operation) -> None:
        if not self.log_works:
            raise LogUnavailable("The request log can't be written.")
        self.operations.append(operation)

    def _send(self, message: ToWorker) -> list[str]:
        if isinstance(message, ReplicaContact):
            self.contact_until = message.until
        else:
            self.sent.append(message)
        return []
