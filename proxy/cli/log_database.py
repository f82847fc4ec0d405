"""Open the request log's database for the commands of `payproxy logs`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from proxy.cli.output import ExitCode, Failure
from proxy.records.anchor import object_in
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.archives.stream_spool import Spool
from proxy.records.copies import lines_of, record_in
from proxy.records.mask import Mask
from proxy.records.masking_key import read_masking_keys
from proxy.records.query import Archive, ArchiveUnusable
from proxy.settings.model import Settings
from proxy.settings.stores import Database, PostgresDatabase, StoreUrl, UrlUnusable, database_of


class NoRecord(Failure):
    """The log has no record of that id."""


database_option = click.option(
    "--database-file",
    type=click.Path(path_type=Path),
    help="File (0600) with the URL to use instead of the proxy's: that of a role that may read, or owns the tables.",
)


def configured_database(settings: Settings, database_file: Path | None) -> Database:
    """Return the database for the commands, None if it is turned off; raises Failure."""
    log = settings.request_log
    url, file = (StoreUrl(""), str(database_file)) if database_file else (log.database, log.database_file)
    if "***" in url.reveal():
        raise Failure(
            "the running instance does not tell the database's password: name a file with the URL, by --database-file"
        )
    try:
        return database_of(url, file, data_directory=Path(settings.data_directory))
    except UrlUnusable as error:
        where = file or "request_log.database"
        raise Failure(f"{where}: {error}", code=ExitCode.CONFIGURATION) from None


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Archive]:
    """Yield the archive of *database* and close it; its errors become Failure."""
    archive: Archive
    if database is None:
        raise Failure("request_log.database is turned off: there is nothing to search; `logs tail` and `show` go on")
    if isinstance(database, PostgresDatabase):
        # The extra is installed only where PostgreSQL is used.
        from proxy.records.archives.postgres import PostgresArchive  # noqa: PLC0415

        archive = PostgresArchive(database.url)
    else:
        archive = SqliteArchive(database.path)
    try:
        yield archive
    except ArchiveUnusable as error:
        raise Failure(str(error)) from None
    finally:
        await archive.close()


def masks_of(settings: Settings) -> list[Mask]:
    """Return the masks used for values, the newest first, [] before there are any."""
    directory = Path(settings.data_directory)
    try:
        return list(map(Mask, read_masking_keys(directory)))
    except OSError as error:
        raise Failure(f"{error.filename or directory}: {error.strerror}") from None


async def record_of(settings: Settings, database_file: Path | None, id_: str, *, search_file: bool) -> dict[str, Any]:
    """Return the record *id_* from the database, the spool or, if *search_file*, the log file; raises Failure."""
    database, record_id = configured_database(settings, database_file), _id_bytes(id_)
    text = None
    if database is not None:
        async with opened(database) as archive:
            text = await archive.by_id(record_id)
    if text is None:
        text = await Spool(Path(settings.data_directory)).by_id(record_id)
    log = Path(settings.request_log.file)
    if text is None and search_file and settings.request_log.file and await asyncio.to_thread(log.exists):
        text = await asyncio.to_thread(lambda: record_in(lines_of([log]), record_id))
    if text is None:
        raise NoRecord(f"there is no record {id_}")
    record = object_in(text)
    if str(record.get("id", "")).replace("-", "") != record_id.hex():
        raise Failure(f"under that id there is another record, {record.get('id')}; run `payproxy logs verify`")
    return record


def _id_bytes(text: str) -> bytes:
    """Return the 16 bytes of the record id *text*; raises a usage error."""
    try:
        found = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        found = b""
    if len(found) != 16:
        raise click.BadParameter("an id is a UUID, as in Payproxy-Request-Id", param_hint="ID")
    return found
