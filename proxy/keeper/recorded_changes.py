"""Changes of a migration's state: on record before they take effect, in all replicas before a weight grows."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from proxy.errors import LogUnavailable
from proxy.keeper.migration_tables import MigrationTables, sides_of
from proxy.keeper.replication import ReplicasUnreachable, Replication
from proxy.keeper.weights import Weights, in_words
from proxy.migration.state import MigrationState
from proxy.records.audit_records import Operation


class MigrationRefused(Exception):
    """A change is refused; the message says why and what to do."""


class RecordedChanges:
    """Records each change, then applies it: a decrease here first, an increase in all replicas first.

    *operated* returns once an operation is on record, or raises LogUnavailable. Hold `weights.lock` for each call.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        tables: MigrationTables,
        replication: Callable[[], Replication],
        operated: Callable[[Operation], Awaitable[None]],
        write_line: Callable[[str], None],
    ) -> None:
        self._weights = weights
        self._tables = tables
        self._replication = replication
        self._operated = operated
        self._write_line = write_line

    async def give_up_lost(self, name: str, before: MigrationState, after: MigrationState, *, proof: str) -> None:
        """Let the change to *after* skip replicas that vanished without leaving, and record their names."""
        identity = self._of_its_table(name, after).identity
        with contextlib.suppress(ReplicasUnreachable):
            for replica in await self._replication().give_up_lost(identity):
                gone = f"goes on without replica {replica}, whatever it had in flight"
                self._write_line(f"migrations: {after.who} {gone}: {after.reason}")
                unchanged = replace(before, who=after.who, reason=after.reason)
                await self.record(name, before, unchanged, what=f"without replica {replica}", proof=proof)

    def _of_its_table(self, name: str, state: MigrationState) -> MigrationState:
        return replace(state, sides=sides_of(self._tables.values[name]))

    async def change(self, name: str, before: MigrationState, after: MigrationState, *, what: str, proof: str) -> None:
        """Record the change, then apply it; raise MigrationRefused with nothing changed, or LogUnavailable."""
        after = self._of_its_table(name, after)
        await self.record(name, before, after, what=what, proof=proof)
        if after.weight > before.weight:
            try:
                await self._raise(name, before, after)
            except MigrationRefused:
                # The earlier record announced the change; without a log nothing is sent either.
                with contextlib.suppress(LogUnavailable):
                    unchanged = replace(before, who=after.who, reason=after.reason)
                    await self.record(name, before, unchanged, what=f"{what} failed", proof=proof)
                raise
        else:
            await self.lower(name, after)
        self._write_line(f"migration {name}: {in_words(after)}")

    async def record(self, name: str, before: MigrationState, after: MigrationState, *, what: str, proof: str) -> None:
        """Return once the change is on record; raise LogUnavailable."""
        await self._operated(
            Operation(
                who=after.who,
                proof=proof,
                what=f"migration {what}",
                reason=after.reason,
                values=(
                    ("migration", name),
                    ("old_weight", str(before.weight)),
                    ("old_version", str(before.version)),
                    ("weight", str(after.weight)),
                    ("version", str(after.version)),
                ),
            )
        )

    async def _raise(self, name: str, before: MigrationState, after: MigrationState) -> None:
        try:
            placed = await self._replication().put(name, after, before=before)
        except ReplicasUnreachable as away:
            raise MigrationRefused(
                f"{name} stays at {before.weight}: it can't grow while other replicas can't be informed ({away})."
            ) from None
        if not placed:
            raise MigrationRefused(f"{name} was changed by another replica meanwhile. Look again, then decide.")
        if not await self._weights.raise_(name, after, shared=not self._replication().alone):
            raise MigrationRefused(f"{name} stays at {before.weight}: {self._weights.unsaved}.")

    async def lower(self, name: str, after: MigrationState) -> None:
        """Apply a change that can't be refused, here first."""
        await self._weights.lower(name, after, share=not self._replication().alone)
        self._replication().publish_now()

    def __repr__(self) -> str:
        return f"<RecordedChanges of {self._weights!r}>"
