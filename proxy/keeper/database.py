"""The request log's database: as a sink of the shipper, and as what the guard reads."""

from pathlib import Path

from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.query import Archive
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.database import PostgresDatabase, database_of
from proxy.settings.model import Settings


def database_sinks(settings: Settings) -> list[Sink]:
    """Return the sink of the configured database, none if it is turned off; raises UrlUnusable."""
    log = settings.request_log
    database = database_of(log.database, log.database_file, data_directory=Path(settings.data_directory))
    if database is None:
        return []
    if isinstance(database, PostgresDatabase):
        # The [postgres] extra, which `database_of` has looked for.
        from proxy.records.sinks.postgres import PostgresSink  # noqa: PLC0415

        return [PostgresSink(database.url)]
    return [SqliteSink(database.path)]


def archive_of(settings: Settings) -> Archive | None:
    """Return what reads the configured database, None if it is turned off; raises UrlUnusable."""
    log = settings.request_log
    database = database_of(log.database, log.database_file, data_directory=Path(settings.data_directory))
    if database is None:
        return None
    if isinstance(database, PostgresDatabase):
        from proxy.records.archives.postgres import PostgresArchive  # noqa: PLC0415 - as above

        return PostgresArchive(database.url)
    return SqliteArchive(database.path)
