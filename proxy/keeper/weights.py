"""The states of all migrations in this keeper: loaded, saved, and merged with other replicas."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from proxy.clock import Clock
from proxy.migration.former import ANY_WEIGHT, FormerSetting, left
from proxy.migration.reconcile import reconciled
from proxy.migration.side_settings import SideSettings
from proxy.migration.state import NEW, Document, MigrationState, Rule, StateUnusable
from proxy.migration.stores.file import FileStore

# For an unreadable file: any weight may have been in force, without end.
_UNREAD = (FormerSetting(ANY_WEIGHT, "", 1e11, settled=False),)


class Weights:
    """The active states. *changed* is called after each change of a state or problem.

    *write_line* logs for the operator. Hold `lock` for every change. `unread` and `unsaved` say why the file can't be
    read or written, "" if it can.
    """

    def __init__(
        self, store: FileStore, *, clock: Clock, changed: Callable[[], None], write_line: Callable[[str], None]
    ) -> None:
        self.lock = asyncio.Lock()
        self.unread = f"{store.path} is not read yet"
        self.unsaved = ""
        # True if states are shared but not received from other replicas since the start, or for too long: any weight
        # may have been in force.
        self.unsynced = False
        # Until when, in monotonic seconds, no other replica goes on without this one; 0.0 if that is not known.
        self.contact_until = 0.0
        self._store = store
        self._clock = clock
        self._changed = changed
        self.write_line = write_line
        self._document = Document()

    @property
    def document(self) -> Document:
        """Return the whole document."""
        return self._document

    @property
    def unsettled(self) -> dict[str, tuple[FormerSetting, ...]]:
        """Return, by migration, the former settings by which some process may still send a retry."""
        found = {
            name: tuple(one for one in former if not one.settled) for name, former in self._document.former.items()
        }
        return {name: former for name, former in found.items() if former}

    def state(self, name: str) -> MigrationState:
        """Return the state of the migration *name*; the initial state (legacy) if there is none."""
        state = self._document.states.get(name)
        if state is None:
            # An unreadable state may have moved already: then retry pins matter, and they count as unreadable.
            return replace(NEW, version=1) if self.unread else NEW
        return state

    def report_change(self) -> None:
        """Report a change outside the document: whether the shared state is reliable."""
        self._changed()

    async def read(self) -> None:
        """Read the file; `unread` is set if that fails."""
        try:
            found = await asyncio.to_thread(self._store.load)
        except StateUnusable as error:
            self.unread = str(error)
        else:
            self.unread = ""
            # States received from other replicas meanwhile are not older.
            self._document = replace(
                found,
                states={**found.states, **self._document.states},
                unshared=found.unshared | self._document.unshared,
                former={
                    name: left(found.former.get(name, ()), self._document.former.get(name, ()), now=self._clock.now())
                    for name in found.former.keys() | self._document.former.keys()
                },
            )
        self._changed()

    async def look_after(self) -> None:
        """Retry a failed read or write."""
        if self.unread or self.unsaved:
            async with self.lock:
                if self.unread:
                    await self.read()
                else:
                    await self._save(self._document)

    async def lower(self, name: str, state: MigrationState, *, share: bool) -> None:
        """Apply *state* at once; a failed write is retried later. *replicate*: it is to be sent to other replicas."""
        self._document = self._with(name, state, unshared=share)
        self._changed()
        await self._save(self._document)

    async def raise_(self, name: str, state: MigrationState, *, shared: bool) -> bool:
        """Write *state* to disk, then apply it; return False, with nothing changed, if the write fails.

        *shared*: all replicas have it already, so it is applied in any case.
        """
        document = self._with(name, state, unshared=False)
        await self._save(document)
        if self.unsaved and not shared:
            return False
        self._document = document
        self._changed()
        return True

    async def merge(self, theirs: Mapping[str, MigrationState]) -> dict[str, MigrationState]:
        """Merge the states shared by all replicas into ours; return those that are newer here."""
        async with self.lock:
            # The content of an unreadable file is not known to be older.
            agreed, newer = (
                (dict(theirs), dict[str, MigrationState]()) if self.unread else reconciled(self._document, theirs)
            )
            unshared = frozenset(newer)
            if agreed != self._document.states or unshared != self._document.unshared:
                former = dict(self._document.former)
                for name, state in agreed.items():
                    if state != self.state(name):
                        self.write_line(f"migration {name}: {in_words(state)}")
                        former[name] = self._left(name, state)
                self._document = replace(self._document, states=agreed, unshared=unshared, former=former)
                self._changed()
                await self._save(self._document)
            return newer

    async def shared(self, states: Mapping[str, MigrationState]) -> None:
        """Mark *states* as known to the other replicas."""
        async with self.lock:
            known = {name for name, state in states.items() if self._document.states.get(name) == state}
            self._document = replace(self._document, unshared=self._document.unshared - known)
            await self._save(self._document)

    def force(self, name: str, *, forced: bool) -> None:
        """Set, with the next save, whether the table *name* may be removed despite open retry pins."""
        others = self._document.forced - {name}
        self._document = replace(self._document, forced=others | {name} if forced else others)

    async def know_tables(
        self, routes: Mapping[str, tuple[str, ...]], rules: tuple[Rule, ...], *, sides: Mapping[str, str]
    ) -> None:
        """Save each migration's routes and *sides* in the active configuration, and all its rules."""
        document = replace(self._document, routes=routes, sides=sides, rules=rules if routes else ())
        if document != self._document:
            self._document = document
            await self._save(document)

    async def save_replica(self, replica: str) -> None:
        """Save this instance's replica name."""
        document = replace(self._document, replica=replica)
        if document != self._document:
            self._document = document
            await self._save(document)

    def reshape(self, names: Iterable[str], *, settled: bool) -> None:
        """Record that the tables *names* are replaced by others, which may change any request's side."""
        now = self._clock.now()
        former = {
            name: left(
                self._document.former.get(name, ()), [FormerSetting(ANY_WEIGHT, "", now, settled=settled)], now=now
            )
            for name in names
        }
        self._document = replace(self._document, former={**self._document.former, **former})

    def settle(self, former: Mapping[str, tuple[FormerSetting, ...]]) -> None:
        """Mark *former*, from `unsettled`, as settled: no process sends a retry by them any more."""
        now = self._clock.now()
        settled = {
            name: left(
                (replace(one, settled=True) if one in former.get(name, ()) else one for one in all_), (), now=now
            )
            for name, all_ in self._document.former.items()
        }
        if settled != self._document.former:
            self._document = replace(self._document, former=settled)
            self._changed()

    def for_workers(self, names: Iterable[str]) -> dict[str, SideSettings]:
        """Return what workers need to know of the migrations *names* and of all other stored ones."""
        return {
            name: SideSettings(
                state.weight,
                state.version,
                state.held,
                _UNREAD if self.unread or self.unsynced else self._document.former.get(name, ()),
            )
            for name, state in ((name, self.state(name)) for name in {*self._document.states, *names})
        }

    def _with(self, name: str, state: MigrationState, *, unshared: bool) -> Document:
        others = self._document.unshared - {name}
        return replace(
            self._document,
            states={**self._document.states, name: state},
            unshared=others | {name} if unshared else others,
            former={**self._document.former, name: self._left(name, state)},
        )

    def _left(self, name: str, state: MigrationState) -> tuple[FormerSetting, ...]:
        """Return the former settings of the migration *name* once *state* is in force."""
        before, now = self.state(name), self._clock.now()
        new = [FormerSetting(0, caller, now, settled=False) for caller in {*before.held} ^ {*state.held}]
        if before.weight != state.weight:
            new.append(FormerSetting(before.weight, "", now, settled=False))
        return left(self._document.former.get(name, ()), new, now=now)

    async def _save(self, document: Document) -> None:
        if self.unread:
            return  # keep the unreadable file for a person to examine
        try:
            await asyncio.to_thread(self._store.save, document)
        except OSError as error:
            self.unsaved = f"{self._store.path} can't be written: {error.strerror}"
        else:
            self.unsaved = ""
        self._changed()

    def __repr__(self) -> str:
        weights = ", ".join(f"{name} {state.weight}" for name, state in self._document.states.items())
        return f"<Weights {weights or 'none'}>"


def in_words(state: MigrationState) -> str:
    """Return *state* in words."""
    return f"weight {state.weight}, version {state.version}, by {state.who or 'nobody'}: {state.reason or 'no reason'}"
