"""Read and change the running instance's migrations, for `payproxy migration`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from proxy.cli.instance import Denied, NotRunning, ask
from proxy.cli.output import ExitCode, Failure, note
from proxy.clock import timestamp
from proxy.settings.findings import did_you_mean
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of
from proxy.settings.worker_values import MigrationValues, callers_of

# Copies of names in keeper/migration_actions.py: importing the keeper would take longer than the call.
SET = "/api/migrations/set"
ROLLBACK = "/api/migrations/rollback"
FINISH = "/api/migrations/finish"
_STATUS = "/api/status"

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

reason_option = click.option(
    "--reason", required=True, help="Why; it is shown in the record and in `migration status`."
)


def running(settings: Settings) -> dict[str, Any]:
    """Return the status of the running instance; raises Failure if none runs."""
    return _asked(settings, _STATUS, None)


def migration_in(status: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the migration *name* in the *status* of an instance; raises Failure if it has none of that name."""
    for one in status["migrations"]:
        if one["name"] == name:
            found: dict[str, Any] = one
            return found
    raise Failure(f"the running instance has no [migrations.{name}]: send it SIGHUP once it is in the file")


def running_migration(settings: Settings, name: str) -> dict[str, Any]:
    """Return the migration *name* of the running instance, even if its table is no longer in the file.

    Raises Failure if it has none of that name, a usage error with the known names if the file has none either.
    """
    try:
        return migration_in(running(settings), name)
    except Failure:
        configured(settings, name)
        raise


def change(settings: Settings, path: str, values: dict[str, Any]) -> dict[str, Any]:
    """Let the running instance change a migration and return its state; raises Failure if it refuses."""
    return _asked(settings, path, values)


def configured(settings: Settings, name: str) -> MigrationValues:
    """Return the table of that *name* in the file; raises a usage error if there is none."""
    tables = {one.name: one for one in snapshot_of(settings, instance="migration").migrations}
    if name not in tables:
        raise click.BadParameter(
            f"there is no [migrations.{name}] in the configuration; {did_you_mean(name, list(tables))}",
            param_hint="NAME",
        )
    return tables[name]


def callers_in(settings: Settings, values: MigrationValues) -> set[str]:
    """Return the callers of the migration's routes by the file: the anonymous caller "" if it names none."""
    return callers_of(snapshot_of(settings, instance="migration"), values)


def in_words(state: dict[str, Any]) -> str:
    """Return a migration's state as one line."""
    when = timestamp(state["when"])[:19] + "Z"
    by = f", by {state['who']} at {when}: {state['reason']}" if state["who"] else ", never changed"
    return f"weight {state['weight']} ({state['phase']}), version {state['version']}{by}"


def say_what_is_open(after: dict[str, Any], *, before: dict[str, Any]) -> None:
    """Warn about what is not certain yet after a change; raises Failure if it is not on disk."""
    if after["unsettled"]:
        note(
            f"warning: not certain yet: {after['unsettled']}. Until then a request with a retry key that moves is "
            "refused with side_unknown"
        )
    if after["unshared"]:
        note(f"warning: other replicas are not informed yet: {after['unshared']}")
    if after["unsaved"]:
        raise Failure(
            f"weight {after['weight']} holds now, but is not on disk: {after['unsaved']}. It holds until this instance "
            f"stops; a restart goes back to weight {before['weight']}. payproxy tries again every second, and "
            "`/readyz?verbose` says when it is on disk"
        )


def _asked(settings: Settings, path: str, values: dict[str, Any] | None) -> dict[str, Any]:
    try:
        return ask(Path(settings.data_directory), path, values)
    except NotRunning as error:
        raise Failure(str(error), code=ExitCode.UNAVAILABLE) from None
    except Denied as error:
        raise Failure(str(error)) from None
