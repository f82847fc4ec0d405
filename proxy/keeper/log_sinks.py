"""The request log's sinks by configuration and environment, and the archive that the guard reads."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

from proxy.clock import Clock
from proxy.records.query import Archive
from proxy.records.sinks.file import FileSink
from proxy.records.sinks.otlp_target import TargetUnusable, targets
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.stdout import Render, StdoutSink
from proxy.settings.extras import installation
from proxy.settings.model import Settings
from proxy.settings.stores import Database, PostgresDatabase, database_of


def sinks_of(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Clock,
    write_line: Callable[[str], None],
    render: Render | None = None,
) -> Iterator[Sink]:
    """Yield the sinks of *settings* and *environ*; *render* formats stdout's lines. Raise UrlUnusable."""
    log = settings.request_log
    if log.stdout:
        yield StdoutSink(render=render)
    if log.file:
        yield FileSink(Path(log.file))
    database = _database(settings)
    if isinstance(database, PostgresDatabase):
        # Needs the [postgres] extra; `database_of` has checked that it is installed.
        from proxy.records.sinks.postgres import PostgresSink  # noqa: PLC0415

        yield PostgresSink(database.url)
    elif database is not None:
        from proxy.records.sinks.sqlite import SqliteSink  # noqa: PLC0415 - 1 MB, for those with a database

        yield SqliteSink(database.path)
    yield from _collectors(environ, clock=clock, write_line=write_line)


def archive_of(settings: Settings, *, seconds: float | None = None) -> Archive | None:
    """Return the archive that reads the configured database, None if turned off; raise UrlUnusable.

    *seconds*: how long the central one may take for a statement, if not its usual limit.
    """
    database = _database(settings)
    if isinstance(database, PostgresDatabase):
        from proxy.records.archives.postgres import PostgresArchive  # noqa: PLC0415 - as above

        return PostgresArchive(database.url) if seconds is None else PostgresArchive(database.url, seconds=seconds)
    if database is None:
        return None
    from proxy.records.archives.sqlite import SqliteArchive  # noqa: PLC0415

    return SqliteArchive(database.path)


def _database(settings: Settings) -> Database:
    log = settings.request_log
    return database_of(log.database, log.database_file, data_directory=Path(settings.data_directory))


def _collectors(environ: Mapping[str, str], *, clock: Clock, write_line: Callable[[str], None]) -> list[Sink]:
    """Return a sink for each OpenTelemetry endpoint that *environ* names.

    Platforms set these variables for every process, so problems are logged and do not prevent the start.
    """
    try:
        wanted = targets(environ)
        if not wanted:
            return []
        # protobuf and its messages are in the [otel] extra.
        sinks: list[Sink] = import_module("proxy.records.sinks.otlp").otlp_sinks(wanted, clock=clock)
    except TargetUnusable as error:
        write_line(f"no OpenTelemetry: {error}")
    except ImportError:
        write_line(
            "no OpenTelemetry: OTEL_EXPORTER_OTLP_* names an endpoint, and what it needs is not installed; "
            f"{installation('otel')}"
        )
    else:
        return sinks
    return []
