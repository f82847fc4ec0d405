"""Results of callers' legacy exchanges in the last 35 days, from the request log and from this process's own counts."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from proxy.clock import Clock
from proxy.events import GuardHindered, Observer
from proxy.migration.guard import Past
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.side import Side
from proxy.records.query import Archive, ArchiveUnusable
from proxy.records.sides import LEGACY_DAYS, on_side
from proxy.records.tally import DAY_SECONDS, Tally
from proxy.settings.stores import UrlUnusable
from proxy.settings.worker_values import MigrationValues

READ_SECONDS = 3600.0
RETRY_SECONDS = 60.0
_FAILED = frozenset({"failed", "refused"})
_CLIENT_ERRORS = frozenset({"client_error", "forbidden"})


class LegacyBaseline:
    """Reads the log in the background, every hour; decisions made meanwhile use the data there is.

    *archive* opens the log's database, None if it is turned off.
    """

    def __init__(self, *, clock: Clock, observe: Observer) -> None:
        self._clock = clock
        self._observe = observe
        self._archive: Callable[[], Archive | None] = lambda: None
        self._values: tuple[MigrationValues, ...] = ()
        self._read: dict[str, dict[str, Past]] = {}
        self._seen: dict[str, dict[str, _Seen]] = {}
        self._due = asyncio.Event()
        self._said = ""

    def follow(self, values: Iterable[MigrationValues], *, archive: Callable[[], Archive | None]) -> None:
        """Use these migrations and this archive from now on."""
        self._values = tuple(values)
        self._archive = archive
        self._read = {one.name: self._read[one.name] for one in self._values if one.name in self._read}
        self._seen = {one.name: self._seen.get(one.name, {}) for one in self._values}
        self._due.set()

    def see(self, row: ExchangeOutcome) -> None:
        """Count the outcome of an exchange."""
        if row.side is Side.LEGACY and row.outcome != "none" and row.migration in self._seen:
            self._seen[row.migration].setdefault(row.caller, _Seen()).add(row)

    def of(self, migration: str) -> dict[str, Past]:
        """Return each caller's past; the log also contains this process's counts, except those since the last read."""
        read = self._read.get(migration)
        seen = {caller: one.past() for caller, one in self._seen.get(migration, {}).items()}
        if read is None:
            return seen
        return {caller: _with(read.get(caller, Past()), seen.get(caller)) for caller in read.keys() | seen.keys()}

    async def run(self) -> None:
        """Read the log now, after every change of the configuration and every hour, until cancelled."""
        while True:
            self._due.clear()
            seconds = await self._look() if self._values else READ_SECONDS
            timer = asyncio.ensure_future(self._clock.sleep(seconds))
            changed = asyncio.ensure_future(self._due.wait())
            try:
                await asyncio.wait([timer, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
                changed.cancel()

    async def _look(self) -> float:
        """Read the log; return the seconds until the next read."""
        values = self._values
        try:
            await self._read_log(values)
        except (ArchiveUnusable, UrlUnusable) as error:
            self._write_line(
                values, f"the log can't be read, so it compares with what it has counted on legacy since: {error}"
            )
            return RETRY_SECONDS
        except Exception as error:  # noqa: BLE001 - a defect in the guard must not end a serving keeper
            self._write_line(values, f"the log can't be read: a defect of the proxy: {type(error).__name__}")
            return RETRY_SECONDS
        self._said = ""
        return READ_SECONDS

    async def _read_log(self, values: tuple[MigrationValues, ...]) -> None:
        archive = self._archive()
        if archive is None:
            self._read = {}
            return
        try:
            for one in values:
                since = self._clock.now() - LEGACY_DAYS * DAY_SECONDS
                tallies = await archive.tallies(one.routes, since=since)
                self._read[one.name] = pasts(on_side(tallies, Side.LEGACY, one))
        finally:
            await archive.close()

    def _write_line(self, values: tuple[MigrationValues, ...], cause: str) -> None:
        if cause != self._said:
            self._said = cause
            for one in values:
                self._observe(GuardHindered(migration=one.name, cause=cause))

    def __repr__(self) -> str:
        return f"<LegacyBaseline of {len(self._read)} of {len(self._values)} migrations by the log>"


def pasts(tallies: Iterable[Tally]) -> dict[str, Past]:
    """Return per caller the sum of *tallies*, which are of one migration's rules on legacy."""
    found: dict[str, Past] = {}
    for one in tallies:
        before = found.get(one.caller, Past())
        found[one.caller] = Past(
            exchanges=before.exchanges + one.exchanges,
            failed=before.failed + one.failed,
            client_errors=before.client_errors + one.client_errors,
            fine_on=before.fine_on | {one.route} if one.fine else before.fine_on,
        )
    return found


@dataclass(slots=True)
class _Seen:
    exchanges: int = 0
    failed: int = 0
    client_errors: int = 0
    fine_on: set[str] = field(default_factory=set)

    def add(self, row: ExchangeOutcome) -> None:
        self.exchanges += 1
        self.failed += row.outcome in _FAILED
        self.client_errors += row.outcome in _CLIENT_ERRORS
        if 200 <= row.status < 300:
            self.fine_on.add(row.route)

    def past(self) -> Past:
        return Past(
            exchanges=self.exchanges,
            failed=self.failed,
            client_errors=self.client_errors,
            fine_on=frozenset(self.fine_on),
        )


def _with(read: Past, seen: Past | None) -> Past:
    """Return the larger of both, which overlap: a new proxy reads an empty log in its first hour."""
    if seen is None:
        return read
    more = seen if seen.exchanges > read.exchanges else read
    return replace(more, fine_on=read.fine_on | seen.fine_on)
