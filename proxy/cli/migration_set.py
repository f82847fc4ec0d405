"""`payproxy migration set` and `rollback`: change a weight, and report which callers move."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database
from proxy.cli.migration_log import (
    earlier_payments_or_doubt,
    in_flight_before,
    requests_of,
    warn_of_separate_logs,
)
from proxy.cli.migration_moves import Moves, moves
from proxy.cli.migration_status import (
    ROLLBACK,
    SET,
    ask_instance,
    configured,
    in_words,
    migration_in,
    reason_option,
    running_migration,
    warn_of_unsettled,
)
from proxy.cli.names import names_of
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, json_option, note
from proxy.clock import SystemClock
from proxy.records.sides import LEGACY_DAYS
from proxy.settings.model import Settings
from proxy.settings.worker_values import MigrationValues

_ANONYMOUS = "anonymous callers"


@click.command("set")
@click.argument("name", shell_complete=names_of("migrations"))
@click.argument("weight", type=click.IntRange(0, 100))
@reason_option
@click.option(
    "--release",
    multiple=True,
    metavar="CALLER",
    shell_complete=names_of("callers"),
    help="Also release this caller, which the guard keeps on legacy.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Even if nobody moves, replicas are silent (stop their processes first), or requests have no retry pin.",
)
@config_option
@json_option
def set_weight(
    name: str,
    weight: int,
    config_path: Path | None,
    reason: str,
    *,
    release: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Let WEIGHT of 100 callers of the migration NAME go to the modern side, in all processes within 2 s.

    The log of the last 35 days and the configured callers show who moves. A growing weight never moves anyone back.
    """
    settings = load_configuration(config_path).settings
    values = configured(settings, name)
    status = ask_instance(settings)
    before = migration_in(status, name)
    held = before["guard_pinned"]
    if unknown := sorted(set(release) - set(held)):
        raise Failure(f"the guard does not keep on legacy: {', '.join(unknown)}")
    what, moved = _effect(settings, values, old=before["weight"], new=weight, held=held, released=release)
    if what.nobody and not force:
        raise Failure(
            f"{name} stays at {before['weight']}: with {weight} nobody moves; `payproxy migration plan {name}` shows "
            "at which weights somebody does, --force sets it anyway"
        )
    if weight > before["weight"] and not force:
        warn_of_separate_logs(settings, values, state=before)
        unpinned = in_flight_before(before, status["workers"]) or _earlier(settings, values, state=before)
        if unpinned:
            raise Failure(f"{name} stays at {before['weight']}: {unpinned}. Wait, or --force it")
    asked = {"name": name, "weight": weight, "reason": reason, "version": before["version"], "force": force}
    after = ask_instance(settings, SET, asked | ({"release": list(release)} if release else {}))
    emit(after | what.as_dict(), as_json=as_json, human=f"{name}: {in_words(after)}\n{moved}")
    if weight and not after["modern_token_at_hand"]:
        note("warning: no modern token is available; `payproxy migration status` says why")
    if weight < 100 and not after["legacy_token_at_hand"]:
        note("warning: no legacy token is available")
    warn_of_unsettled(after, before=before)


@click.command()
@click.argument("name", shell_complete=names_of("migrations"))
@reason_option
@click.option("--to", type=click.IntRange(0, 99), help="A weight; default: the last one without a breach.")
@click.option(
    "--force",
    is_flag=True,
    help="Do not wait for silent replicas. Stop their processes first: one that runs goes on with its weight.",
)
@config_option
@json_option
def rollback(name: str, config_path: Path | None, reason: str, to: int | None, *, force: bool, as_json: bool) -> None:
    """Go back to a lower weight, at once: by default the last one without a breach.

    Retries of requests whose outcome is not certain still go where the first try went.
    """
    settings = load_configuration(config_path).settings
    before = running_migration(settings, name)
    asked = {"name": name, "reason": reason, "force": force} | ({"to": to} if to is not None else {})
    after = ask_instance(settings, ROLLBACK, asked)
    data, words = after, [f"{name}: {in_words(after)}"]
    if name in settings.migrations:  # a rollback needs no table in the file
        weights = {"old": before["weight"], "new": after["weight"]}
        what, moved = _effect(settings, configured(settings, name), **weights, held=after["guard_pinned"])
        data, words = after | what.as_dict(), [*words, moved]
    words.append(f"{'a' if after['legacy_token_at_hand'] else 'NO'} legacy token is available")
    emit(data, as_json=as_json, human="\n".join(words))
    warn_of_unsettled(after, before=before)


def _effect(
    settings: Settings, values: MigrationValues, *, old: int, new: int, held: list[str], released: tuple[str, ...] = ()
) -> tuple[Moves, str]:
    """Return who moves, also in words; without a log the callers of the file count alike: a rollback must not fail."""
    requests = _requests(settings, values)
    callers = settings.callers or [""]
    what = moves(values, old=old, new=new, held=held, released=released, requests=requests, callers=callers)
    return what, _in_words(what, requests)


def _earlier(settings: Settings, values: MigrationValues, *, state: Mapping[str, Any]) -> str:
    database = configured_database(settings, None)
    return asyncio.run(earlier_payments_or_doubt(database, values, state=state, now=SystemClock().now()))


def _requests(settings: Settings, values: MigrationValues) -> dict[str, int]:
    """Return the requests of each caller, {} with a message if the log can't be read."""
    try:
        return asyncio.run(requests_of(configured_database(settings, None), values))
    except Failure as error:
        note(f"the log can't tell how much moves: {error.message}")
        return {}


def _in_words(what: Moves, requests: dict[str, int]) -> str:
    total = sum(requests.values())
    lines = [
        f"to {side}: {', '.join(_caller(one, requests) for one in callers)}"
        for side, callers in (("modern", what.to_modern), ("legacy", what.to_legacy))
        if callers
    ]
    if not lines:
        lines = [f"{what.spread} are distributed again" if what.spread else "nobody moves"]
    of = f"of {total} requests in {LEGACY_DAYS} days" if total else "of the known callers: the log has no request"
    return "\n".join([*lines, f"on modern: {what.before:.0%} before, {what.after:.0%} now, {of}"])


def _caller(name: str, requests: dict[str, int]) -> str:
    count = requests.get(name, 0)
    return f"{name or _ANONYMOUS} ({count or 'no'} request{'' if count == 1 else 's'})"
