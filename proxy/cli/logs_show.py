"""`payproxy logs show`: one record as a timeline; it answers "was my payment sent?"."""

import asyncio
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database, database_option, id_bytes, opened
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, json_option
from proxy.cli.record_text import timeline
from proxy.records.archives.stream_spool import Spool
from proxy.records.sinks.row import decode
from proxy.settings.stores import Database


@click.command()
@click.argument("id_", metavar="ID")
@database_option
@config_option
@json_option
def show(id_: str, config_path: Path | None, database_file: Path | None, *, as_json: bool) -> None:
    """Print the record of request ID (Payproxy-Request-Id): what was decided, what happened when, whether it was sent.

    Records that are not in the database yet are read from the journals; a request in flight has an intent there.
    """
    settings = load_configuration(config_path).settings
    database = configured_database(settings, database_file)
    record = asyncio.run(_find(database, Path(settings.data_directory), id_bytes(id_)))
    if record is None:
        raise Failure(f"there is no record {id_}")
    values = decode(record)
    if values.get("id", "").replace("-", "") != id_bytes(id_).hex():
        raise Failure(f"what stands under that id is another record, {values.get('id')}; run `payproxy logs verify`")
    emit(values, as_json=as_json, human=timeline(values))


async def _find(database: Database, directory: Path, record_id: bytes) -> bytes | None:
    if database is not None:
        async with opened(database) as archive:
            record = await archive.by_id(record_id)
        if record is not None:
            return record
    return await Spool(directory).by_id(record_id)
