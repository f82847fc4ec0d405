"""`payproxy migration status`: the state of each migration."""

from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.migration_running import in_words, migration_in, running
from proxy.cli.options import config_option
from proxy.cli.output import emit, facts, json_option, note


@click.command()
@click.argument("name", required=False)
@config_option
@json_option
def status(name: str | None, config_path: Path | None, *, as_json: bool) -> None:
    """Show the migrations of the running instance, or the one called NAME.

    The modern token is minted and watched at every weight: at 0 it is the dry run.
    """
    settings = load_configuration(config_path).settings
    found = running(settings)
    migrations = [migration_in(found, name)] if name else found["migrations"]
    emit(
        {"migrations": migrations, "problem": found["migration_problem"]},
        as_json=as_json,
        human="\n\n".join(map(_shown, migrations)) or "there is no migration",
    )
    if found["migration_problem"]:
        note(f"warning: {found['migration_problem']}")


def _shown(one: dict[str, Any]) -> str:
    rows = [
        ("state", in_words(one)),
        ("a rollback goes to", str(one["last_good"])),
        ("legacy token", "available" if one["legacy_token_at_hand"] else "NOT available: a rollback would find none"),
        *(("modern token", _token(token)) for token in one["modern_tokens"]),
    ]
    if one["guard_pinned"]:
        rows.append(("held on legacy", ", ".join(one["guard_pinned"])))
    if one["retry_pins"]:
        rows.append(("retry pins", one["retry_pins_in_words"]))
    if one["unsettled"]:
        rows.append(("not certain yet", one["unsettled"]))
    if one["finished"]:
        rows.append(("finished", "its table may be removed"))
    return f"{one['name']}\n{facts(rows, indent='  ')}"


def _token(token: dict[str, Any]) -> str:
    known = f"{token['state']}, {token['seconds_left']:.0f} s left" if token["seconds_left"] else token["state"]
    failed = f"; {token['error_code']}: {token['meaning'] or token['error']}" if token["error_code"] else ""
    return f"{token['audience'] or 'no audience'}: {known}{failed}"
