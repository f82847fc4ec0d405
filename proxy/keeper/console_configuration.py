"""The configuration in force, as the console reads it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from proxy.checks.reading import Checks, Read
from proxy.clock import Clock
from proxy.console.in_force import ConfigurationView
from proxy.keeper.migrations import Migrations
from proxy.migration.known_sides import known_sides
from proxy.routing.explanation import Question, explain, retry_digests
from proxy.routing.table import RouteTable
from proxy.settings.model import Settings
from proxy.settings.tree import leaves
from proxy.settings.values import body_keys, defaults, masked
from proxy.settings.worker_values import Snapshot

KEPT_SECONDS: Final = 5.0


class ConsoleConfiguration:
    """What is in force by *settings*, *snapshot* and *table*, and what *read* finds in the file.

    A ConfigurationInForce. Pages can be opened without end, so no PKCS#11 token is opened for the findings: that tries
    its PIN. *container*: this is a container, for which there are findings of its own; *users* returns the other people
    on this machine.
    """

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        snapshot: Callable[[], Snapshot],
        table: Callable[[], RouteTable],
        read: Read,
        migrations: Migrations,
        container: bool,
        users: Callable[[], Sequence[str]],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._read = read
        self._migrations = migrations
        self._container = container
        self._users = users
        self._clock = clock
        self._known: tuple[float, tuple[int, str], ConfigurationView] | None = None
        self.snapshot = snapshot
        self.table = table

    def settings(self) -> dict[str, Any]:
        """Return the values in force by key, secrets masked."""
        return masked(self._settings())

    def explain(self, question: Question) -> dict[str, Any]:
        """Return what `payproxy explain` prints, by this instance's weights and retry pins."""
        snapshot, weights, now = self.snapshot(), self._migrations.weights, self._clock.now()
        found = ((digest, self._migrations.pins.get(digest)) for digest in retry_digests(question, snapshot))
        sides = known_sides(
            None if weights.unread else weights.document,
            [one.name for one in snapshot.migrations],
            pins={digest: pin for digest, pin in found if pin is not None},
            pins_readable=not self._migrations.pins.problem,
            now=now,
        )
        return explain(question, snapshot, self.table(), sides=sides, body_keys=body_keys(self._settings()), now=now)

    def view(self) -> ConfigurationView:
        """Read the file again, and the files that it names; return all that the page shows.

        With thousands of callers that takes a second of this process: it is not done anew within KEPT_SECONDS, unless
        the file or what is in force has changed.
        """
        known, now = self._known, self._clock.monotonic()
        if known is not None and now - known[0] < KEPT_SECONDS and known[1] == self._state(known[2]):
            return known[2]
        view = self._view()
        self._known = (now, self._state(view), view)
        return view

    def _state(self, view: ConfigurationView) -> tuple[int, str]:
        """Return what tells whether the file of *view* was changed, and which configuration is in force."""
        try:
            changed = Path(view.file).stat().st_mtime_ns
        except OSError:
            changed = 0
        return changed, self.snapshot().digest

    def _view(self) -> ConfigurationView:
        checks = Checks(now=self._clock.now(), container=self._container, users=tuple(self._users()), devices=False)
        checked, settings = self._read(checks), self.settings()
        loaded = checked.loaded
        mine = _by_key(settings)
        theirs = _by_key(masked(loaded.settings)) if loaded.settings is not None else mine
        every = dict.fromkeys([*mine, *theirs])
        return ConfigurationView(
            file=str(loaded.path),
            settings=settings,
            defaults=dict(defaults(self._settings())),
            sources={key: loaded.sources.get(key, "no source any more") for key in every},
            waiting={key: theirs.get(key) for key in every if mine.get(key) != theirs.get(key)},
            findings=checked.findings,
        )


def _by_key(values: dict[str, Any]) -> dict[str, Any]:
    return {".".join(map(str, key)): value for key, value in leaves(values)}
