"""`payproxy logs tail`: the newest records, and with -f new ones as they come."""

import asyncio
from pathlib import Path
from typing import Any, Protocol

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database, database_option, masks_of, opened
from proxy.cli.logs_filters import filter_options, query_of, wide_option
from proxy.cli.logs_unmatched import unlikely
from proxy.cli.options import config_option
from proxy.cli.output import emit_record, json_option, note
from proxy.cli.record_table import RecordTable
from proxy.clock import Clock, SystemClock
from proxy.records.archives.fitting import fitting
from proxy.records.archives.stream_spool import Spool
from proxy.records.query import Query
from proxy.settings.stores import Database

_POLL_SECONDS = 0.3


class _Source(Protocol):
    async def news(self) -> list[bytes]:
        """Return the records that came since the last call."""


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
    printer = _Printer(query, as_json=as_json, wide=wide, doubts=why)
    asyncio.run(_tail(database, directory, query, printer, follow=follow, number=number, clock=clock))
    if not printer.begun and number:
        if why:
            raise click.UsageError(f"nothing was found, and nothing could be. {'. '.join(why)}")
        note("Nothing was found.")


async def _tail(
    database: Database,
    directory: Path,
    query: Query,
    printer: "_Printer",
    *,
    follow: bool,
    number: int,
    clock: Clock,
) -> None:
    if database is None:
        spool = Spool(directory)
        await spool.news()
        printer.print(await spool.newest(number, query))
        await _follow(spool, printer, clock=clock) if follow else None
        return
    async with opened(database) as archive:
        await archive.news()
        newest: list[bytes] = []
        before: bytes | None = None
        while len(newest) < number:
            page = await archive.page(query, before=before, size=number - len(newest))
            newest += page.records
            before = page.before
            if before is None:
                break
        printer.print(newest[::-1])
        if follow:
            await _follow(archive, printer, clock=clock)


async def _follow(source: _Source, printer: "_Printer", *, clock: Clock) -> None:
    printer.doubt()
    while True:
        printer.print(await source.news())
        await clock.sleep(_POLL_SECONDS)


class _Printer:
    def __init__(self, query: Query, *, as_json: bool, wide: bool, doubts: list[str]) -> None:
        self.begun = False
        self._query = query
        self._as_json = as_json
        self._table = RecordTable(wide=wide)
        self._doubts = doubts

    def doubt(self) -> None:
        """Print why nothing may ever match, if nothing has so far."""
        for line in [] if self.begun else self._doubts:
            note(f"warning: {line}")

    def print(self, records: list[bytes]) -> None:
        for record in records:
            values = fitting(self._query, record)
            if values is None:
                continue
            if self._as_json:
                emit_record(record)
            else:
                if not self.begun:
                    click.echo(self._table.head())
                click.echo(self._table.row(values))
            self.begun = True
