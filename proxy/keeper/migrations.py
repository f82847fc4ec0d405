"""The migrations' weights: changes are checked, recorded before they take effect, saved, and sent to every worker."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from proxy.clock import Clock
from proxy.errors import LogUnavailable
from proxy.keeper.migration_status import Tokens, by_key, status_of
from proxy.keeper.migration_tables import MigrationTables, policies_of, sides_of
from proxy.keeper.new_pins import before_tables
from proxy.keeper.recorded_changes import MigrationRefused, RecordedChanges
from proxy.keeper.replication import Replication
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.side_changes import SETTLE_SECONDS, SideChanges
from proxy.keeper.weights import Weights, in_words
from proxy.keeper.worker_answers import Broadcast, WorkerAnswers
from proxy.link.messages import MigrationStates, ReplicaContact, ToWorker
from proxy.migration.removal import pins_in_words
from proxy.migration.state import FULL, MigrationState, Phase, Rule
from proxy.migration.stores.file import FileStore
from proxy.migration.stores.pins import PinFile
from proxy.records.audit_records import Operation
from proxy.records.query import Archive
from proxy.settings.worker_values import MigrationValues, RouteValues, Snapshot
from proxy.telemetry.status import MigrationStatus, TokenStatus

_LOOK_SECONDS = 1.0
GUARD = "guard"


class ConfigurationObjected(Exception):
    """The configuration must not be served; the message says why and what to do."""


class Migrations:
    """The state of every migration. *operated* returns once an operation is on record, or raises LogUnavailable.

    *tokens* returns the token status, *write_line* logs a line for the operator, *mask* masks texts as records do,
    *kill* ends a worker by its name.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        clock: Clock,
        operated: Callable[[Operation], Awaitable[None]],
        broadcast: Broadcast,
        tokens: Callable[[], Iterable[TokenStatus]],
        recovered: Callable[[], bool],
        write_line: Callable[[str], None],
        mask: Callable[[str], str],
        kill: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.answers = WorkerAnswers(broadcast)
        self.pins = RetryPins(
            PinFile(data_directory),
            clock=clock,
            answers=self.answers,
            changed=self._changed,
            migration_of=lambda route: self._tables.migration_of(route),  # noqa: PLW0108 - created later
        )
        self.replication = Replication()
        self.weights = Weights(
            FileStore(data_directory),
            clock=clock,
            changed=self._changed,
            # Other replicas, and an earlier version, may have kept a reason as it was given.
            write_line=lambda text: write_line(mask(text)),
        )
        self._tables = MigrationTables(weights=self.weights, pins=self.pins)
        self.changes = SideChanges(
            weights=self.weights,
            pins=self.pins,
            answers=self.answers,
            message=self._message,
            replication=lambda: self.replication,
            kill=kill,
            write_line=write_line,
            clock=clock,
        )
        self._recorded = RecordedChanges(
            weights=self.weights,
            tables=self._tables,
            replication=lambda: self.replication,
            operated=operated,
            write_line=write_line,
        )
        self._clock = clock
        self._broadcast = broadcast
        self._tokens = tokens
        self._recovered = recovered
        self._write_line = write_line
        self._mask = mask
        self._said = ""
        self._settled = False
        self._sent: MigrationStates | None = None
        self._contact_sent = 0.0

    async def open(self) -> None:
        """Read the state from disk; an unreadable weight counts as legacy, unreadable pins as a problem."""
        await self.pins.open()
        await self.weights.read()
        if self.replication.alone:
            # No worker serves yet, and those of an earlier keeper send nothing with a retry key any more.
            self.weights.settle(self.weights.unsettled)

    async def follow(self, values: Iterable[MigrationValues], routes: Iterable[RouteValues] = ()) -> None:
        """Use these tables and all *routes* from now on.

        A table with other credentials than before starts at weight 0, and so does one that reappears after its
        migration was finished. If this breaks off, calling it again completes it.
        """
        async with self.weights.lock:
            self._tables.follow(values)
            again = self._tables.reappeared
            tables = self._tables.values
            await self.replication.decide_by(policies_of(tables))
            rules = tuple(Rule(one.name, one.path, one.methods) for one in routes)
            await self.weights.know_tables(
                {name: one.routes for name, one in tables.items()},
                rules,
                sides={name: sides_of(one) for name, one in tables.items()},
            )
            for name, one in tables.items():
                if name in again or self._tables.is_another(one):
                    before = self.weights.state(name)
                    after = MigrationState(version=before.version).at(
                        0,
                        who="payproxy",
                        when=self._clock.now(),
                        reason="this table was added again after the migration was finished"
                        if name in again
                        else "this table moves between other credentials than the one before it",
                    )
                    # Without a log nothing is sent either; and the old table's weight must not apply to this one.
                    with contextlib.suppress(LogUnavailable):
                        await self._recorded.record(name, before, after, what="begin", proof="configuration")
                    await self._recorded.lower(name, replace(after, sides=sides_of(one)))
                    again.discard(name)
                    self._write_line(f"migration {name}: {in_words(after)}")
        self._changed()

    async def run(self) -> None:
        """Retry failed reads and writes of the files every second, until cancelled."""
        self._settled = True
        while True:
            self._changed()
            await self._clock.sleep(_LOOK_SECONDS)
            await self.pins.look_after()
            await self.weights.look_after()

    async def close(self) -> None:
        """Stop settling and close the pin file."""
        await self.changes.close()
        self.pins.close()

    @property
    def problem(self) -> str:
        """Return which state can't be read, saved or shared, "" if there is no problem or no migration."""
        if not self._tables.values:
            return ""
        left = "" if self._recovered() else "what an earlier run left in the journal is not read yet"
        weights, late = self.weights, self.changes.overdue
        found = [weights.unread, weights.unsaved, self.pins.problem, left, self.replication.problem, late]
        return "; ".join(filter(None, found))

    @property
    def readable(self) -> bool:
        """Return whether retry pins are reliable: those of this machine, and of all replicas."""
        return self._recovered() and not (self.weights.unread or self.pins.problem or self.replication.problem)

    def objection(self, snapshot: Snapshot) -> str:
        """Return why the configuration *snapshot* must not take over, or be served at start; "" if it may."""
        return self._tables.objection(snapshot)

    async def objection_by_log(self, snapshot: Snapshot, archive: Callable[[], Archive | None]) -> str:
        """Return why *snapshot* must not pin callers to modern, by the log that *archive* opens; "" if it may."""
        return await before_tables(
            snapshot.migrations,
            known=self._tables.values,
            archive=archive,
            now=self._clock.now(),
            write_line=self._write_line,
        )

    async def hand_over(self, snapshot: Snapshot) -> str:
        """Prepare for workers with the tables of *snapshot*; return an objection to their takeover, or "".

        What its tables move is pinned, and today's workers start no more of it; waits SETTLE_SECONDS at most. `follow`
        completes the change; this method with the old tables reverts it.
        """
        tables = self._tables
        changed = tables.expect(snapshot.migrations)
        if not changed and not tables.leaving:
            # Also the way back after an objection: other replicas must not go on with what was to come.
            await self.replication.decide_by(policies_of(tables.coming))
            self._changed()
            return ""
        coming = policies_of(tables.coming)
        await self.replication.decide_by(policies_of(tables.values), coming)
        settled = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.changes.ask_workers()
                settled = True
        await self.replication.decide_by(coming)
        self.weights.reshape(changed, settled=settled)
        self._changed()
        return tables.objection(snapshot, in_flight=True)

    def messages(self, values: Iterable[MigrationValues]) -> Iterator[ToWorker]:
        """Yield the messages for a worker that has just started with the tables *values*."""
        message = self._message()
        states = dict(message.states)
        for one in values:
            if self._tables.is_another(one):
                # Its generation has not taken over yet; `follow` makes this permanent.
                states[one.name] = states[one.name]._replace(weight=0)
        yield message._replace(states=states)
        if self.weights.contact_until:
            yield ReplicaContact(self.weights.contact_until)
        yield from self.pins.messages()

    def states(self) -> tuple[MigrationStatus, ...]:
        """Return the status of every configured migration for display."""
        tables = self._tables.values.values()
        tokens = by_key(self._tokens()) if tables else {}
        return tuple(self._status_of(one, tokens) for one in tables)

    async def set(
        self,
        name: str,
        weight: int,
        *,
        who: str,
        proof: str,
        reason: str,
        version: int | None = None,
        release: frozenset[str] = frozenset(),
        force: bool = False,
    ) -> MigrationStatus:
        """Set *weight*, 0 to 100, if *version* (None for any) is current; *release* ends the hold of these callers.

        Raises MigrationRefused with nothing changed, LogUnavailable if it can't be recorded.
        """
        async with self.weights.lock:
            before, reason = self._checked(name, reason)
            if not 0 <= weight <= FULL:
                raise MigrationRefused(f"A weight is a whole number from 0 to {FULL}.")
            self._refuse_outdated(name, before, version)
            if weight == before.weight and not release & set(before.held) and not force:
                raise MigrationRefused(f"{name} has the weight {weight} already.")
            after = before.at(weight, who=who, when=self._clock.now(), reason=reason)
            after = replace(after, held=tuple(caller for caller in after.held if caller not in release))
            if force:
                await self._recorded.give_up_lost(name, before, after, proof=proof)
            await self._recorded.change(name, before, after, what="set", proof=proof)
        return await self._settled_status(name)

    async def rollback(
        self,
        name: str,
        *,
        who: str,
        proof: str,
        reason: str,
        to: int | None = None,
        version: int | None = None,
        force: bool = False,
    ) -> MigrationStatus:
        """Lower the weight to *to*, by default the last one without a breach, if *version* (None for any) is current.

        Takes effect at once. *force*: do not wait for replicas that vanished without leaving, whatever they had in
        flight. Raises MigrationRefused with nothing changed, LogUnavailable if it can't be recorded.
        """
        async with self.weights.lock:
            before, reason = self._checked(name, reason)
            self._refuse_outdated(name, before, version)
            weight = before.last_good if to is None else to
            if not 0 <= weight < before.weight:
                raise MigrationRefused(f"{name} has the weight {before.weight}: {weight} is not lower.")
            after = before.at(weight, who=who, when=self._clock.now(), reason=reason)
            if force:
                await self._recorded.give_up_lost(name, before, after, proof=proof)
            await self._recorded.change(name, before, after, what="rollback", proof=proof)
        return await self._settled_status(name)

    async def finish(self, name: str, *, who: str, proof: str, reason: str, force: bool = False) -> MigrationStatus:
        """Record that the migration is finished: its table may be removed. Raises as `set`."""
        async with self.weights.lock:
            before, reason = self._checked(name, reason)
            if before.phase is Phase.RAMP and not force:
                raise MigrationRefused(
                    f"{name} has the weight {before.weight}: it can be finished only at 0 or {FULL}."
                )
            pins = pins_in_words(self.pins.open_pins(name))
            if pins and not force:
                raise MigrationRefused(
                    f"{name} has {pins}. Without its table such a retry could be a second payment: finish it later, or "
                    "--force it."
                )
            if self.pins.problem and not force:
                raise MigrationRefused(f"Whether {name} has open retry pins is not known: {self.pins.problem}.")
            after = before.ended(who=who, when=self._clock.now(), reason=reason)
            self.weights.force(name, forced=force)
            await self._recorded.change(name, before, after, what="finish", proof=proof)
            return self._status(name)

    async def hold_caller(self, name: str, caller: str, reason: str) -> MigrationStatus:
        """Keep *caller* on legacy, whatever the weight: its failures are its own. Raises as `set`."""
        async with self.weights.lock:
            before, reason = self._checked(name, reason)
            if caller in before.held:
                return self._status(name)
            after = before.holding(caller, who=GUARD, when=self._clock.now(), reason=reason)
            await self._recorded.change(name, before, after, what=f"hold {caller}", proof=GUARD)
        return await self._settled_status(name)

    def _checked(self, name: str, reason: str) -> tuple[MigrationState, str]:
        """Return the state before a change of *name*, and *reason* as it is kept and shown; raises MigrationRefused."""
        if name not in self._tables.values:
            raise MigrationRefused(f"There is no [migrations.{name}] in the configuration in force.")
        if not reason.strip():
            raise MigrationRefused("Every change needs a reason.")
        if self.weights.unread:
            raise MigrationRefused(f"{self.weights.unread}. Restore it, or move it away to start at weight 0.")
        return self.weights.state(name), self._mask(reason)

    def _refuse_outdated(self, name: str, before: MigrationState, version: int | None) -> None:
        """Raise MigrationRefused unless *version*, which the decision was made by, is that of *before* (None: any)."""
        if version is not None and version != before.version:
            now = f"{self._mask(in_words(before))}; a rollback goes to {before.last_good} now"
            raise MigrationRefused(f"{name} was changed meanwhile: {now}. Look again, then decide.")

    async def _settled_status(self, name: str) -> MigrationStatus:
        """Wait until the change is settled, at most SETTLE_SECONDS, and return the status.

        Do not hold `weights.lock`: telling other replicas needs it.
        """
        await self.changes.settled()
        return self._status(name)

    def _status(self, name: str) -> MigrationStatus:
        return self._status_of(self._tables.values[name], by_key(self._tokens()))

    def _status_of(self, values: MigrationValues, tokens: Tokens) -> MigrationStatus:
        pins = self.pins.open_pins(values.name)
        unsettled = self.changes.waiting_for if values.name in self.weights.unsettled else ""
        state = self.weights.state(values.name)
        return replace(
            status_of(values, state, tokens),
            reason=self._mask(state.reason),
            retry_pins=sum(count for count, _ in pins.values()),
            retry_pins_in_words=pins_in_words(pins),
            unsettled=unsettled,
            unsaved=self.weights.unsaved,
            unshared=self.replication.problem,
            silent_replicas=self.replication.silent,
            gone_without=self.replication.gone_without(state.identity),
        )

    def _message(self) -> MigrationStates:
        return MigrationStates(self._tables.settings(self.replication.policies()), self.readable)

    def _changed(self) -> None:
        message = self._message()
        if message != self._sent:
            self._sent = message
            self._broadcast(message)
        # After the states: workers may go by these from now on.
        if self._tables.values and self.weights.contact_until != self._contact_sent:
            self._contact_sent = self.weights.contact_until
            self._broadcast(ReplicaContact(self._contact_sent))
        self.changes.begin()
        problem = self.problem
        if problem != self._said and self._settled:
            self._said = problem
            self._write_line(f"migrations: {problem or 'state and retry pins can be read and written again'}")

    def __repr__(self) -> str:
        return f"<Migrations {len(self._tables.values)} tables, {self.weights!r}>"
