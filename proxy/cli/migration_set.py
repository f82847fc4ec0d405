"""`payproxy migration set` and `rollback`: change a weight, and report which callers move."""

import asyncio
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database
from proxy.cli.migration_earlier import earlier_payments, in_flight_before
from proxy.cli.migration_moves import Moves, moves
from proxy.cli.migration_running import (
    ROLLBACK,
    SET,
    change,
    configured,
    in_words,
    migration_in,
    reason_option,
    running,
    running_migration,
    say_what_is_open,
)
from proxy.cli.migration_traffic import requests_of
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, json_option, note
from proxy.clock import SystemClock
from proxy.records.sides import LEGACY_DAYS
from proxy.settings.model import Settings
from proxy.settings.worker_values import MigrationValues

_ANONYMOUS = "anonymous callers"


@click.command("set")
@click.argument("name")
@click.argument("weight", type=click.IntRange(0, 100))
@reason_option
@click.option(
    "--release", multiple=True, metavar="CALLER", help="Also release this caller, which the guard keeps on legacy."
)
@click.option("--force", is_flag=True, help="Even if nobody moves, replicas are lost, or requests have no retry pin.")
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
    status = running(settings)
    before = migration_in(status, name)
    strangers = sorted(set(release) - set(before["guard_pinned"]))
    if strangers:
        raise Failure(f"the guard does not keep on legacy: {', '.join(strangers)}")
    requests = asyncio.run(_requests(settings, values))
    what = moves(
        values,
        old=before["weight"],
        new=weight,
        held=before["guard_pinned"],
        released=release,
        requests=requests,
        callers=settings.callers or [""],
    )
    if what.nobody and not force:
        raise Failure(
            f"{name} stays at {before['weight']}: with {weight} nobody moves; `payproxy migration plan {name}` shows "
            "at which weights somebody does, --force sets it anyway"
        )
    if weight > before["weight"] and not force:
        unpinned = in_flight_before(before, status["workers"]) or asyncio.run(_earlier(settings, values))
        if unpinned:
            raise Failure(f"{name} stays at {before['weight']}: {unpinned}. Wait, or --force it")
    asked = {"name": name, "weight": weight, "reason": reason, "version": before["version"], "force": force}
    after = change(settings, SET, asked | ({"release": list(release)} if release else {}))
    emit(_data(after, what), as_json=as_json, human=f"{name}: {in_words(after)}\n{_told(what, requests)}")
    _warn(after, weight=weight)
    say_what_is_open(after, before=before)


@click.command()
@click.argument("name")
@reason_option
@click.option("--to", type=click.IntRange(0, 99), help="A weight; default: the last one without a breach.")
@click.option("--force", is_flag=True, help="Do not wait for lost replicas, whose requests may be in flight.")
@config_option
@json_option
def rollback(name: str, config_path: Path | None, reason: str, to: int | None, *, force: bool, as_json: bool) -> None:
    """Go back to a lower weight, at once: by default the last one without a breach.

    Retries of requests whose outcome is not certain still go where the first try went.
    """
    settings = load_configuration(config_path).settings
    before = running_migration(settings, name)
    asked = {"name": name, "reason": reason, "force": force} | ({"to": to} if to is not None else {})
    after = change(settings, ROLLBACK, asked)
    at_hand = "a legacy token is available" if after["legacy_token_at_hand"] else "NO legacy token is available"
    if name not in settings.migrations:  # a rollback needs no table in the file
        emit(after, as_json=as_json, human=f"{name}: {in_words(after)}\n{at_hand}")
        say_what_is_open(after, before=before)
        return
    values = configured(settings, name)
    requests = asyncio.run(_requests(settings, values))
    what = moves(
        values,
        old=before["weight"],
        new=after["weight"],
        held=after["guard_pinned"],
        released=(),
        requests=requests,
        callers=settings.callers or [""],
    )
    human = f"{name}: {in_words(after)}\n{_told(what, requests)}\n{at_hand}"
    emit(_data(after, what), as_json=as_json, human=human)
    say_what_is_open(after, before=before)


async def _earlier(settings: Settings, values: MigrationValues) -> str:
    database = configured_database(settings, None)
    try:
        return await earlier_payments(database, values, now=SystemClock().now())
    except Failure as error:
        note(f"warning: the log can't tell whether retries of earlier requests have no pin: {error.message}")
        return ""


async def _requests(settings: Settings, values: MigrationValues) -> dict[str, int]:
    """Return the recent number of requests per caller on the migration's routes; {} if the log can't be read."""
    database = configured_database(settings, None)
    try:
        return await requests_of(database, values)
    except Failure as error:
        # An unreadable log must not prevent a rollback.
        note(f"the log can't tell how much moves: {error.message}")
        return {}


def _data(after: dict[str, Any], what: Moves) -> dict[str, Any]:
    return after | {
        "to_modern": list(what.to_modern),
        "to_legacy": list(what.to_legacy),
        "modern_share_before": round(what.before, 4),
        "modern_share_after": round(what.after, 4),
        "spread": what.spread,
    }


def _told(what: Moves, requests: dict[str, int]) -> str:
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


def _warn(after: dict[str, Any], *, weight: int) -> None:
    if weight and not after["modern_token_at_hand"]:
        note("warning: no modern token is available; `payproxy migration status` says why")
    if weight < 100 and not after["legacy_token_at_hand"]:
        note("warning: no legacy token is available")
