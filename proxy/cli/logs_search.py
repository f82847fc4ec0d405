"""`payproxy logs search`: records by what is known of a request, the newest first."""

import asyncio
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.logs_archive import configured_database, masks_of, opened
from proxy.cli.logs_archive import database_option as of_database
from proxy.cli.logs_filters import filter_options, query_of
from proxy.cli.options import config_option
from proxy.cli.output import emit_record, json_option, note
from proxy.cli.record_text import CSV_COLUMNS, csv_record, csv_row, table_head, table_row
from proxy.clock import SystemClock
from proxy.records.query import Query
from proxy.records.sinks.row import decode
from proxy.settings.database import Database

_PAGE = 500


@click.command()
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most records to print.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a header.")
@of_database
@config_option
@json_option
def search(
    config_path: Path | None,
    database_file: Path | None,
    *,
    limit: int,
    as_csv: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Print records that fit all filters, the newest first; with --json one a line, byte for byte as they are kept.

    Card numbers, IBANs and tokens are masked in records; what is searched for is masked alike, so give it in full.
    """
    if as_csv and as_json:
        raise click.UsageError("choose --csv or --json")
    settings = load_configuration(config_path).settings
    query = query_of(filters, masks=masks_of(settings), clock=SystemClock())
    found = asyncio.run(
        _print(configured_database(settings, database_file), query, limit=limit, as_csv=as_csv, as_json=as_json)
    )
    if found > limit:
        note(f"There are more than {limit}; see --limit and --until.")
    elif not found:
        note("Nothing was found.")


async def _print(database: Database, query: Query, *, limit: int, as_csv: bool, as_json: bool) -> int:
    """Print at most *limit* records and return how many there are, counting one more at most."""
    async with opened(database) as archive:
        found = 0
        before: bytes | None = None
        while True:
            page = await archive.page(query, before=before, size=min(_PAGE, limit - found + 1))
            for record in page.records:
                found += 1
                if found > limit:
                    return found
                if as_json:
                    emit_record(record)
                elif as_csv:
                    if found == 1:
                        click.echo(csv_row([*CSV_COLUMNS, "index"]))
                    click.echo(csv_record(decode(record)))
                else:
                    if found == 1:
                        click.echo(table_head())
                    click.echo(table_row(decode(record)))
            before = page.before
            if before is None:
                return found
