"""The request log's database: a sink for the shipper, an archive for the guard to read."""

from pathlib import Path

from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.query import Archive
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.model import Settings
from proxy.settings.stores import PostgresDatabase, database_of


def database_sinks(settings: Settings) -> list[Sink]:
    """Return the sink of the configured database, [] if it is turned off; raise UrlUnusable."""
    log = settings.request_log
    database = database_of(log.database, log.database_file, data_directory=Path(settings.data_directory))
    if database is None:
        return []
    if isinstance(database, PostgresDatabase):
        # Needs the [postgres] extra; `database_of` has checked that it is installed.
        from proxy.records.sinks.postgres import PostgresSink  # noqa: PLC0415

        return [PostgresSink(database.url)]
    return [SqliteSink(database.path)]


def archive_of(settings: Settings) -> Archive | None:
    """Return the archive that reads the configured database, None if turned off; raise UrlUnusable."""
    log = settings.request_log
    database = database_of(log.database, log.database_file, data_directory=Path(settings.data_directory))
    if database is None:
        return None
    if isinstance(database, PostgresDatabase):
        from proxy.records.archives.postgres import PostgresArchive  # noqa: PLC0415 - as above

        return PostgresArchive(database.url)
    return SqliteArchive(database.path)
