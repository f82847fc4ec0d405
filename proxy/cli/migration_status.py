"""`payproxy migration status`, and what all its siblings need: ask the running instance, find tables and callers."""

from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.instance import STATUS, ask
from proxy.cli.names import names_of
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, facts, json_option, note
from proxy.clock import timestamp
from proxy.settings.findings import did_you_mean
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of
from proxy.settings.worker_values import MigrationValues, callers_of

# Copies of names in keeper/migration_actions.py: importing the keeper would take longer than the call.
SET = "/api/migrations/set"
ROLLBACK = "/api/migrations/rollback"
FINISH = "/api/migrations/finish"

reason_option = click.option(
    "--reason", required=True, help="Why; it is shown in the record and in `migration status`."
)


@click.command()
@click.argument("name", required=False, shell_complete=names_of("migrations"))
@config_option
@json_option
def status(name: str | None, config_path: Path | None, *, as_json: bool) -> None:
    """Show the migrations of the running instance, or the one called NAME.

    The modern token is minted and watched at every weight: at 0 it is the dry run.
    """
    found = ask_instance(load_configuration(config_path).settings)
    migrations = [migration_in(found, name)] if name else found["migrations"]
    emit(
        {"migrations": migrations, "problem": found["migration_problem"]},
        as_json=as_json,
        human="\n\n".join(map(_text, migrations)) or "there is no migration",
    )
    if found["migration_problem"]:
        note(f"warning: {found['migration_problem']}")


def _text(one: dict[str, Any]) -> str:
    available = "available" if one["legacy_token_at_hand"] else "NOT available: a rollback would find none"
    rows = [
        ("state", in_words(one)),
        ("a rollback goes to", str(one["last_good"])),
        ("legacy token", available),
        *(("modern token", _token(token)) for token in one["modern_tokens"]),
        ("held on legacy", ", ".join(one["guard_pinned"])),
        ("retry pins", one["retry_pins_in_words"] if one["retry_pins"] else ""),
        ("not certain yet", one["unsettled"]),
        ("silent replicas", "" if one["unsettled"] else one["silent_replicas"]),
        ("gone on without", ", ".join(one["gone_without"])),
        ("finished", "its table may be removed" if one["finished"] else ""),
    ]
    return f"{one['name']}\n{facts([row for row in rows if row[1]], indent='  ')}"


def _token(token: dict[str, Any]) -> str:
    known = f"{token['state']}, {token['seconds_left']:.0f} s left" if token["seconds_left"] else token["state"]
    failed = f"; {token['error_code']}: {token['meaning'] or token['error']}" if token["error_code"] else ""
    return f"{token['audience'] or 'no audience'}: {known}{failed}"


def ask_instance(settings: Settings, path: str = STATUS, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the running instance's answer, by default its status; raises Failure if none runs or it refuses."""
    return ask(Path(settings.data_directory), path, values)


def migration_in(status: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the migration *name* in the *status* of an instance; raises Failure if it has none of that name."""
    found: dict[str, Any] | None = next((one for one in status["migrations"] if one["name"] == name), None)
    if found is None:
        raise Failure(f"the running instance has no [migrations.{name}]: send it SIGHUP once it is in the file")
    return found


def running_migration(settings: Settings, name: str) -> dict[str, Any]:
    """Return the migration *name* of the running instance, even if its table is no longer in the file.

    Raises Failure if it has none of that name, a usage error with the known names if the file has none either.
    """
    try:
        return migration_in(ask_instance(settings), name)
    except Failure:
        configured(settings, name)
        raise


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


def _warning_of(replicas: list[str], *, before: dict[str, Any]) -> str:
    """Return what follows from going on without *replicas*."""
    return (
        f"warning: this change went on without {', '.join(replicas)}. If its process still runs, stop it now: until it "
        f"has reached Redis it may send by weight {before['weight']}, and a payment that is tried again there can be "
        "executed on both sides. So can one that it had in flight: of those no retry pin is known until it is back "
        "with its data directory"
    )


def warn_of_unsettled(after: dict[str, Any], *, before: dict[str, Any]) -> None:
    """Warn about what is not certain yet after a change; raises Failure if it is not on disk."""
    if after["unsettled"]:
        note(
            f"warning: not certain yet: {after['unsettled']}. Until then a request with a retry key that moves is "
            "refused with side_unknown"
        )
    if after["gone_without"]:
        note(_warning_of(after["gone_without"], before=before))
    if after["unshared"]:
        note(f"warning: other replicas are not informed yet: {after['unshared']}")
    if after["unsaved"]:
        raise Failure(
            f"weight {after['weight']} holds now, but is not on disk: {after['unsaved']}. It holds until this instance "
            f"stops; a restart goes back to weight {before['weight']}. payproxy tries again every second, and "
            "`/readyz?verbose` says when it is on disk"
        )
