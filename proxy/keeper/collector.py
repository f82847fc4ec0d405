"""OpenTelemetry collectors as sinks, if the standard OTEL_* variables name one."""

from collections.abc import Callable, Mapping
from importlib import import_module

from proxy.clock import Clock
from proxy.records.sinks.otlp_target import TargetUnusable, targets
from proxy.records.sinks.sink import Sink
from proxy.settings.extras import installation


def collector_sinks(environ: Mapping[str, str], *, clock: Clock, say: Callable[[str], None]) -> list[Sink]:
    """Return a sink for each endpoint that *environ* names.

    Platforms set these variables for every process, so problems are logged and do not prevent the start.
    """
    try:
        wanted = targets(environ)
    except TargetUnusable as error:
        say(f"no OpenTelemetry: {error}")
        return []
    if not wanted:
        return []
    try:
        # protobuf and its messages are in the [otel] extra.
        sinks: list[Sink] = import_module("proxy.records.sinks.otlp").otlp_sinks(wanted, clock=clock)
    except ImportError:
        say(
            "no OpenTelemetry: OTEL_EXPORTER_OTLP_* names an endpoint, and what it needs is not installed; "
            f"{installation('otel')}"
        )
        return []
    return sinks
