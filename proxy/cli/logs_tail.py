"""`payproxy logs tail`: the newest records, and with -f new ones as they come."""

import asyncio
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database, database_option, masks_of, opened
from proxy.cli.logs_filters import filter_options, query_of, unlikely, wide_option
from proxy.cli.options import config_option
from proxy.cli.output import json_option, note
from proxy.cli.record_table import RecordPrinter
from proxy.clock import Clock, SystemClock
from proxy.records.archives.stream_spool import Spool
from proxy.records.query import Archive, Query, fitting
from proxy.settings.stores import Database

_POLL_SECONDS = 0.3


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with records as they come, until interrupted.")
@click.option(
    "-n", "--number", type=click.IntRange(min=0), default=10, show_default=True, help="Records to begin with."
)
@filter_options
@wide_option
@database_option
@config_option
@json_option
def tail(
    config_path: Path | None,
    database_file: Path | None,
    *,
    follow: bool,
    number: int,
    wide: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Print the newest records that fit all filters, the oldest of them first; --json: one a line.

    Without a database they come from the stream that the proxy keeps until all sinks have it.
    """
    configuration = load_configuration(config_path)
    settings = configuration.settings
    clock = SystemClock()
    query = query_of(filters, masks=masks_of(settings), clock=clock)
    database = configured_database(settings, database_file)
    directory = Path(settings.data_directory)
    why = [] if configuration.guessed else list(unlikely(filters, query, settings, now=clock.now()))
    printer = RecordPrinter(as_json=as_json, wide=wide)
    asyncio.run(_tail(database, directory, query, printer, follow=follow, number=number, doubts=why, clock=clock))
    if not printer.printed and number:
        if why:
            raise click.UsageError(f"nothing was found, and nothing could be. {'. '.join(why)}")
        note("Nothing was found.")


async def _tail(
    database: Database,
    directory: Path,
    query: Query,
    printer: RecordPrinter,
    *,
    follow: bool,
    number: int,
    doubts: list[str],
    clock: Clock,
) -> None:
    if database is None:
        spool = Spool(directory)
        await spool.new_records()
        _print(await spool.newest(number, query), query, printer)
        await _follow(spool, query, printer, doubts=doubts, clock=clock) if follow else None
        return
    async with opened(database) as archive:
        await archive.new_records()
        newest: list[bytes] = []
        before: bytes | None = None
        while len(newest) < number:
            page = await archive.page(query, before=before, size=number - len(newest))
            newest += page.records
            before = page.before
            if before is None:
                break
        _print(newest[::-1], query, printer)
        await _follow(archive, query, printer, doubts=doubts, clock=clock) if follow else None


async def _follow(
    source: Archive | Spool, query: Query, printer: RecordPrinter, *, doubts: list[str], clock: Clock
) -> None:
    """Print new records until interrupted; *doubts* tell why nothing may ever match, if nothing has so far."""
    for line in [] if printer.printed else doubts:
        note(f"warning: {line}")
    while True:
        _print(await source.new_records(), query, printer)
        await clock.sleep(_POLL_SECONDS)


def _print(records: list[bytes], query: Query, printer: RecordPrinter) -> None:
    for record in records:
        if fitting(query, record) is not None:
            printer.print(record)
