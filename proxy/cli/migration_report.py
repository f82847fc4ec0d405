"""`payproxy migration report`: the course of a migration by the log, and which callers still use legacy."""

import asyncio
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database, database_option, opened
from proxy.cli.migration_report_html import report_page, statement_text
from proxy.cli.migration_status import callers_in, configured
from proxy.cli.names import names_of
from proxy.cli.options import config_option
from proxy.cli.output import emit, facts, json_option
from proxy.cli.statements import signing_key, statement_facts
from proxy.clock import Clock, SystemClock
from proxy.records.migration_report import CallerUse, Change, Report, SideTotals, report_of
from proxy.records.paging import all_lines
from proxy.records.query import Query
from proxy.records.sides import LEGACY_DAYS, SEEN_DAYS
from proxy.records.sinks.row import decode
from proxy.records.statement import signed_page
from proxy.records.tally import DAY_SECONDS
from proxy.settings.model import Settings
from proxy.settings.stores import Database
from proxy.settings.worker_values import MigrationValues


@click.command()
@click.argument("name", shell_complete=names_of("migrations"))
@click.option("--html", "as_html", is_flag=True, help="Print a signed page of HTML, for an auditor's file.")
@database_option
@config_option
@json_option
def report(name: str, config_path: Path | None, database_file: Path | None, *, as_html: bool, as_json: bool) -> None:
    """Show who changed the migration NAME, when and why; the results of both sides' requests; who still uses legacy.

    Legacy is no longer used if nobody was on it for 35 days, in which there is a month's end, and every caller of the
    last 400 days has been on modern. All by the request log; the proxy need not run.

    --html is signed with the key of the log's checkpoints: `payproxy why --verify FILE` checks it.
    """
    if as_html and as_json:
        raise click.UsageError("choose --html or --json")
    settings = load_configuration(config_path).settings
    values = configured(settings, name)
    database = configured_database(settings, database_file)
    made = asyncio.run(_report(database, values, callers_in(settings, values), clock=SystemClock()))
    if as_html:
        click.echo(_page(settings, made), nl=False)
        return
    emit(made.as_dict(), as_json=as_json, human=in_words(made))


def _page(settings: Settings, made: Report) -> str:
    facts, values = statement_facts(settings, f"migration report {made.migration}"), made.as_dict()
    return signed_page(report_page(values, facts), statement_text(values), facts=facts, key=signing_key(settings))


async def _report(database: Database, values: MigrationValues, callers: set[str], *, clock: Clock) -> Report:
    now = clock.now()
    async with opened(database) as archive:
        return report_of(
            values,
            lately=await archive.tallies(values.routes, since=now - LEGACY_DAYS * DAY_SECONDS),
            long=await archive.tallies(values.routes, since=now - SEEN_DAYS * DAY_SECONDS),
            operations=[decode(line) async for line in all_lines(archive, Query(kind="operation"))],
            callers=callers,
            oldest=await archive.oldest(),
            now=now,
        )


def in_words(report: Report) -> str:
    """Return *report* as text."""
    sides = facts([("legacy", _side(report.legacy)), ("modern", _side(report.modern))], indent="  ")
    parts = [
        f"{report.migration}: {report.verdict}",
        "\n".join(["changes", *(map(_change, report.changes) if report.changes else ["  none"])]),
        f"the last {LEGACY_DAYS} days\n{sides}",
        "\n".join(["callers", *(map(_caller, report.callers) if report.callers else ["  none"])]),
    ]
    if report.not_seen:
        parts.append(f"configured, and not seen for {SEEN_DAYS} days: {', '.join(map(_name, report.not_seen))}")
    if report.log_begins:
        parts.append(f"the log begins on {report.log_begins[:10]}: who calls less often than that is not known")
    return "\n\n".join(parts)


def _change(change: Change) -> str:
    weights = f" {change.old_weight} to {change.weight}" if change.old_weight != change.weight else ""
    return f"  {change.time[:19]}Z  {change.what}{weights}, by {change.who}: {change.reason}"


def _side(side: SideTotals) -> str:
    failed = f"{side.failed} failed ({side.failure_ratio:.2%})"
    return f"{side.requests} requests, {failed}, {side.client_errors} client errors ({side.client_error_ratio:.2%})"


def _caller(use: CallerUse) -> str:
    legacy = f"legacy {use.legacy_requests}, {_when(use.legacy_last)}"
    modern = f"modern {use.modern_requests}, {_when(use.modern_last)}"
    return f"  {_name(use.caller)}: {legacy}; {modern}"


def _when(last: str) -> str:
    return f"last {last[:16]}Z" if last else "never"


def _name(caller: str) -> str:
    return caller or "anonymous callers"
