import sys

import pytest

from proxy.clock import SystemClock
from proxy.keeper.collector import collector_sinks

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def sinks(environ: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the names of the sinks, and what was said."""
    said: list[str] = []
    made = collector_sinks(environ, clock=SystemClock(), say=said.append)
    return [sink.name for sink in made], said


def test_an_endpoint_turns_it_on() -> None:
    """Both signals, or the one that is named."""
    assert sinks(ENDPOINT) == (["otlp-logs", "otlp-traces"], [])
    assert sinks({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c/v1/logs"}) == (["otlp-logs"], [])
    assert sinks({}) == ([], [])


def test_nonsense_is_said_and_no_reason_not_to_start() -> None:
    """Platforms set these variables for every process."""
    names, [said] = sinks({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"})

    assert names == []
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in said


def test_without_the_extra_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of protobuf is needed without an endpoint."""
    for name in [name for name in sys.modules if name.startswith("proxy.records.sinks.otlp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)

    names, [said] = sinks(ENDPOINT)

    assert names == []
    assert "-m pip install 'opentelemetry-proto>=" in said
    assert sinks({}) == ([], [])
