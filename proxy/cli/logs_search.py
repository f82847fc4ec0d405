"""`payproxy logs search`: find records by what is known of a request, the newest first."""

import asyncio
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.inquiries import inquiries_since
from proxy.cli.log_database import configured_database, masks_of, opened
from proxy.cli.log_database import database_option as of_database
from proxy.cli.logs_filters import filter_options, query_of, unlikely, wide_option
from proxy.cli.options import config_option
from proxy.cli.output import json_option, note
from proxy.cli.record_table import RecordPrinter
from proxy.clock import Clock, SystemClock
from proxy.records.anchor import object_in
from proxy.records.inquiries import is_settled
from proxy.records.query import Query, for_seconds
from proxy.settings.model import Settings
from proxy.settings.stores import Database
from proxy.times import local

_PAGE = 500
# Then what was found is printed, and the search goes on.
_PAGE_SECONDS = 0.5


@click.command()
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most records to print.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a header.")
@click.option("--open", "only_open", is_flag=True, help="With --sent unknown: those that no inquiry has settled.")
@wide_option
@of_database
@config_option
@json_option
def search(
    config_path: Path | None,
    database_file: Path | None,
    *,
    limit: int,
    as_csv: bool,
    only_open: bool,
    wide: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Print records that match all filters, the newest first; with --json one a line, byte for byte as they are stored.

    Card numbers, IBANs and tokens are masked in records and in what you search for, so give it in full. Ends with 2 if
    nothing was found and a filter has a value unknown to the configuration. Times are local, in --json and --csv UTC.
    """
    if as_csv and as_json:
        raise click.UsageError("choose --csv or --json")
    if only_open and filters["sent"] != "unknown":
        raise click.UsageError("--open goes with --sent unknown: all others are settled")
    configuration = load_configuration(config_path)
    settings, clock = configuration.settings, SystemClock()
    query = query_of(filters, masks=masks_of(settings), clock=clock)
    printer = RecordPrinter(as_csv=as_csv, as_json=as_json, wide=wide)
    database = configured_database(settings, database_file)
    asked = settings if only_open else None
    more, oldest = asyncio.run(_print(database, query, printer, limit=limit, asked=asked, clock=clock))
    if more:
        note(f"There are more than {limit}; see --limit and --until.")
    elif not printer.printed:
        if not configuration.guessed and (why := list(unlikely(filters, query, settings, now=clock.now()))):
            raise click.UsageError(f"nothing was found, and nothing could be. {'. '.join(why)}")
        note("Nothing was found." + (f" The log begins at {local(oldest)}." if oldest is not None else ""))


async def _print(
    database: Database,
    query: Query,
    printer: RecordPrinter,
    *,
    limit: int,
    asked: Settings | None,
    clock: Clock,
) -> tuple[bool, float | None]:
    """Print at most *limit* records; return whether there are more and, if there are none, the log's start.

    With *asked*, leave out those that an inquiry has settled, or that changed nothing. What was found is printed before
    the rest is searched.
    """
    async with opened(database) as archive:
        inquiries = await inquiries_since(asked, archive, query.since) if asked is not None else {}
        before: bytes | None = None
        while True:
            size, enough = min(_PAGE, limit - printer.printed + 1), for_seconds(_PAGE_SECONDS, clock.monotonic)
            page = await archive.page(query, before=before, size=size, enough=enough)
            for record in page.records:
                if asked is not None and is_settled(object_in(record), inquiries):
                    continue
                if printer.printed == limit:
                    return True, None
                printer.print(record)
            before = page.before
            if before is None:
                return False, None if printer.printed else await archive.oldest()
