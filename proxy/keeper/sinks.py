"""Creates the request log's sinks from configuration and environment."""

from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.clock import Clock
from proxy.keeper.collector import collector_sinks
from proxy.keeper.database import database_sinks
from proxy.records.sinks.file import FileSink
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.stdout import Render, StdoutSink
from proxy.settings.model import Settings


def sinks_of(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Clock,
    say: Callable[[str], None],
    render: Render | None = None,
) -> list[Sink]:
    """Return the sinks of *settings* and *environ*; *render* formats stdout's lines. Raise UrlUnusable."""
    log = settings.request_log
    sinks: list[Sink] = []
    if log.stdout:
        sinks.append(StdoutSink(render=render))
    if log.file:
        sinks.append(FileSink(Path(log.file)))
    return [*sinks, *database_sinks(settings), *collector_sinks(environ, clock=clock, say=say)]
