"""`payproxy logs show`: one record as a timeline; it answers "was my payment sent?"."""

import asyncio
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import database_option, record_of
from proxy.cli.options import config_option
from proxy.cli.output import emit, json_option
from proxy.cli.record_text import timeline


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
    record = asyncio.run(record_of(settings, database_file, id_, search_file=False))
    emit(record, as_json=as_json, human=timeline(record))
