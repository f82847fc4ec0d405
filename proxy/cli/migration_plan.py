"""`payproxy migration plan`: which caller moves at which weight, and its share of the traffic, by the log."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database, database_option
from proxy.cli.migration_log import requests_of
from proxy.cli.migration_moves import side_at
from proxy.cli.migration_status import ask_instance, callers_in, configured, migration_in
from proxy.cli.names import names_of
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, json_option, note, printable
from proxy.migration.side import Policy, Side, point
from proxy.records.sides import LEGACY_DAYS
from proxy.routing.compile import policy_of
from proxy.settings.worker_values import MigrationValues

_FULL = 100


@dataclass(frozen=True, slots=True)
class CallerMove:
    """A caller: *moves_at* is the first weight at which it is on modern, None for never; *why* is the reason.

    *share* is its part of all *requests*, *modern_share* that of all callers on modern at this weight; 0 to 1.
    """

    caller: str
    moves_at: int | None
    why: str
    requests: int
    share: float
    modern_share: float


@click.command()
@click.argument("name", shell_complete=names_of("migrations"))
@database_option
@config_option
@json_option
def plan(name: str, config_path: Path | None, database_file: Path | None, *, as_json: bool) -> None:
    """Show at which weight each caller of the migration NAME moves, and what it sent in the last 35 days.

    Nothing is changed. Callers that the guard holds are known only if an instance runs.
    """
    settings = load_configuration(config_path).settings
    values = configured(settings, name)
    try:
        state = migration_in(ask_instance(settings), name)
    except Failure as error:
        note(f"the weight in force is not known: {error.message}")
        state = None
    requests = asyncio.run(requests_of(configured_database(settings, database_file), values))
    held = state["guard_pinned"] if state else ()
    moves = caller_moves(values, callers=callers_in(settings, values), requests=requests, held=held)
    data: dict[str, Any] = {
        "migration": name,
        "weight": state["weight"] if state else None,
        "sticky": values.sticky,
        "methods": list(values.methods),
        "days": LEGACY_DAYS,
        "requests": sum(requests.values()),
        "callers": [asdict(move) for move in moves],
    }
    emit(data, as_json=as_json, human=_shown(values, moves, data))


def caller_moves(
    values: MigrationValues, *, callers: Iterable[str], requests: Mapping[str, int], held: Collection[str]
) -> list[CallerMove]:
    """Return one for each caller in the order of moving: *callers* and those that have sent *requests*."""
    policy, total = policy_of(values), sum(requests.values())
    found = [(_moves_at(policy, caller, held=caller in held), caller) for caller in {*callers, *requests}]
    moves: list[CallerMove] = []
    moved = 0
    for at, caller in sorted(found, key=lambda one: (one[0] is None, one[0] or 0, one[1])):
        sent = requests.get(caller, 0)
        moved += sent if at is not None else 0
        share, modern_share = (round(number / (total or 1), 4) for number in (sent, moved))
        why = _why(policy, caller, held=caller in held)
        moves.append(CallerMove(caller, at, why, requests=sent, share=share, modern_share=modern_share))
    return moves


def _moves_at(policy: Policy, caller: str, *, held: bool) -> int | None:
    weights = range(_FULL + 1)
    return next((at for at in weights if side_at(policy, caller, weight=at, held=held) is Side.MODERN), None)


def _why(policy: Policy, caller: str, *, held: bool) -> str:
    if held:
        return "the guard keeps it on legacy"
    if caller in policy.pinned:
        return f"pinned to {policy.pinned[caller]}"
    if policy.sticky_header:
        return f"without {policy.sticky_header}; with it, by its value"
    return f"cohort {point(policy.name, caller):.3f}"


def _shown(values: MigrationValues, moves: list[CallerMove], data: Mapping[str, Any]) -> str:
    now = f", weight {data['weight']} now" if data["weight"] is not None else ""
    lines = [f"{values.name}: routes {', '.join(values.routes)}; sticky = {values.sticky}{now}"]
    if values.sticky == "request":
        lines.append(
            f"{', '.join(values.methods)} requests are spread one by one, at every weight; the others as follows"
        )
    width = max([6, *(len(move.caller or "anonymous") for move in moves)])
    lines.append(f"{'weight':>6}  {'caller':<{width}}  {'requests':>9}  {'share':>6}  {'on modern':>9}  why")
    lines += [
        f"{'never' if move.moves_at is None else move.moves_at:>6}  {move.caller or 'anonymous':<{width}}  "
        f"{move.requests:>9}  {move.share:>6.1%}  {move.modern_share:>9.1%}  {move.why}"
        for move in moves
    ]
    lines.append(f"requests are those of the last {LEGACY_DAYS} days by the log: {data['requests']}")
    return printable("\n".join(lines))
