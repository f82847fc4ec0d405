"""The guard's task: receives the outcomes of exchanges and mints, and rolls back when the modern side fails."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.errors import LogUnavailable
from proxy.events import CallerHeld, GuardHindered, MigrationRolledBack, Observer
from proxy.keeper.legacy_baseline import LegacyBaseline
from proxy.keeper.log_sinks import archive_of
from proxy.keeper.migration_status import by_key, tokens_of
from proxy.keeper.migrations import GUARD, Migrations
from proxy.keeper.recorded_changes import MigrationRefused
from proxy.migration.guard import Decision, Guard, HoldCaller, Limits
from proxy.migration.outcome import ExchangeOutcome
from proxy.settings.model import Settings
from proxy.settings.worker_values import MigrationValues, Snapshot, callers_of
from proxy.telemetry.status import MigrationStatus, TokenStatus

LOOK_SECONDS = 1.0


class MigrationGuard:
    """Watches all *migrations*; *tokens* returns the mint status. It only lowers weights or holds callers."""

    def __init__(
        self,
        migrations: Migrations,
        *,
        tokens: Callable[[], Iterable[TokenStatus]],
        clock: Clock,
        observe: Observer,
    ) -> None:
        self._migrations = migrations
        self._tokens = tokens
        self._clock = clock
        self._observe = observe
        self.past = LegacyBaseline(clock=clock, observe=observe)
        self._watched: dict[str, _Watched] = {}
        self._news = asyncio.Event()

    def follow(self, settings: Settings, snapshot: Snapshot) -> None:
        """Watch the migrations of this configuration from now on."""
        limits = _limits(settings)
        now = self._clock.monotonic()
        self.past.follow(snapshot.migrations, archive=lambda: archive_of(settings))
        states = {status.name: status for status in self._migrations.states()}
        before, self._watched = self._watched, {}
        for values in snapshot.migrations:
            status, old = states.get(values.name), before.get(values.name)
            if status is None:
                continue
            one = _Watched(values, Guard(limits[values.name], now=now), status.version, status.weight)
            if old is not None and (old.values, old.guard.limits) == (values, limits[values.name]):
                # Keep the collected evidence if a reload does not change this migration.
                one = _Watched(values, old.guard, old.version, old.weight, old.callers)
            one.callers |= callers_of(snapshot, values)
            self._watched[values.name] = one

    def migrated(self, rows: Iterable[ExchangeOutcome]) -> None:
        """Process outcomes of exchanges from a worker; never blocks."""
        self._restart_changed()
        for row in rows:
            one = self._watched.get(row.migration)
            if one is not None:
                one.callers.add(row.caller)
                self.past.see(row)
                if one.guard.see(row):
                    self._news.set()

    async def run(self) -> None:
        """Act whenever there is a reason, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.past.run(), name="legacy past")
            tasks.create_task(self._look_at_mints(), name="mints under guard")
            while True:
                await self._news.wait()
                self._news.clear()
                await self._look()

    async def _look_at_mints(self) -> None:
        while True:
            self._restart_changed()
            now, tokens = self._clock.monotonic(), by_key(self._tokens())
            for one in self._watched.values():
                modern = next(iter(tokens_of(one.values.modern, tokens)), None)
                one.guard.see_mints(
                    modern_failing=modern.error_code if modern is not None else "",
                    legacy_works=_works(next(iter(tokens_of(one.values.legacy, tokens)), None)),
                    now=now,
                )
            self._news.set()
            await self._clock.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        for status in self._restart_changed():
            one = self._watched.get(status.name)
            if one is None:
                continue
            try:
                decision = one.guard.decide(
                    weight=status.weight,
                    callers=frozenset(one.callers.difference(status.guard_pinned, one.values.pinned_legacy)),
                    pasts=self.past.of(status.name),
                    now=self._clock.monotonic(),
                )
                if decision is not None:
                    await self._act(status, decision)
            except (MigrationRefused, LogUnavailable) as error:
                self._hindered(one, str(error), f"it can't act, though {decision.reason if decision else ''}: {error}")
            except Exception as error:  # noqa: BLE001 - a defect in the guard must not end a serving keeper
                self._hindered(one, type(error).__name__, f"a defect of the proxy: {type(error).__name__}")
            else:
                one.hindered = ""

    async def _act(self, status: MigrationStatus, decision: Decision) -> None:
        if isinstance(decision, HoldCaller):
            after = await self._migrations.hold_caller(status.name, decision.caller, decision.reason)
            self._observe(
                CallerHeld(
                    migration=status.name,
                    caller=decision.caller,
                    reason=decision.reason,
                    legacy_token_at_hand=after.legacy_token_at_hand,
                )
            )
        else:
            after = await self._migrations.rollback(status.name, who=GUARD, proof=GUARD, reason=decision.reason)
            self._observe(
                MigrationRolledBack(
                    migration=status.name,
                    weight_before=status.weight,
                    weight=after.weight,
                    reason=decision.reason,
                    legacy_token_at_hand=after.legacy_token_at_hand,
                )
            )
        self._restart_changed()

    def _restart_changed(self) -> tuple[MigrationStatus, ...]:
        """Restart the evaluation of every migration whose state was changed by anyone; return all statuses."""
        states = self._migrations.states()
        for status in states:
            one = self._watched.get(status.name)
            if one is not None and status.version != one.version:
                one.guard.begin(now=self._clock.monotonic(), weight_changed=status.weight != one.weight)
                one.version, one.weight = status.version, status.weight
        return states

    def _hindered(self, one: "_Watched", by: str, cause: str) -> None:
        if by != one.hindered:
            one.hindered = by
            self._observe(GuardHindered(migration=one.values.name, cause=cause))

    def __repr__(self) -> str:
        return f"<MigrationGuard of {len(self._watched)} migrations>"


@dataclass(slots=True)
class _Watched:
    """A watched migration. *callers* are all known ones; *hindered* keeps a problem from being reported twice."""

    values: MigrationValues
    guard: Guard
    version: int
    weight: int
    callers: set[str] = field(default_factory=set)
    hindered: str = ""


def _limits(settings: Settings) -> dict[str, Limits]:
    return {
        name: Limits(failures=one.max_failure_ratio, client_errors=one.max_client_error_ratio)
        for name, one in settings.migrations.items()
    }


def _works(token: TokenStatus | None) -> bool:
    return token is not None and token.usable and not token.error_code
