"""Which sinks the configuration and the environment ask for."""

import sys
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.keeper.log_sinks import sinks_of
from proxy.records.sinks.postgres import PostgresSink
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.model import RequestLogSection, Settings
from proxy.settings.models import validated
from proxy.settings.stores import UrlUnusable
from tests.records.kept import record

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def settings(folder: Path, **log: str) -> Settings:
    """Return settings with *log* in [request_log], and no stdout."""
    return Settings(
        environment="mock",
        data_directory=str(folder),
        request_log=validated(RequestLogSection, {"stdout": False, **log}),
    )


def database_sinks(settings: Settings) -> list[Sink]:
    """Return the sinks of a configuration without collectors."""
    return [*sinks_of(settings, environ={}, clock=SystemClock(), write_line=lambda _: None)]


def collectors(environ: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the names of the sinks of a configuration without a database, and what was said."""
    said: list[str] = []
    made = sinks_of(settings(Path(), database=""), environ=environ, clock=SystemClock(), write_line=said.append)
    return [sink.name for sink in made], said


async def test_the_default_is_the_embedded_one(tmp_path: Path) -> None:
    """In the data directory."""
    (sink,) = database_sinks(settings(tmp_path))
    await sink.write([record()])
    await sink.close()

    assert isinstance(sink, SqliteSink)
    assert (tmp_path / "requests-2027-01.db").exists()


async def test_it_can_be_central_or_off(tmp_path: Path) -> None:
    """One sink, or none."""
    assert database_sinks(settings(tmp_path, database="")) == []
    (sink,) = database_sinks(settings(tmp_path, database="postgresql://127.0.0.1:1/log"))
    await sink.close()
    assert isinstance(sink, PostgresSink)


def test_a_file_that_others_read_is_refused(tmp_path: Path) -> None:
    """Also if it changed since the configuration was checked."""
    (tmp_path / "url").write_text("postgresql://127.0.0.1:1/log")
    (tmp_path / "url").chmod(0o644)
    with pytest.raises(UrlUnusable, match="chmod"):
        database_sinks(settings(tmp_path, database_file=str(tmp_path / "url")))


def test_an_endpoint_turns_it_on() -> None:
    """Both signals, or the one that is named."""
    assert collectors(ENDPOINT) == (["otlp-logs", "otlp-traces"], [])
    assert collectors({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c/v1/logs"}) == (["otlp-logs"], [])
    assert collectors({}) == ([], [])


def test_nonsense_is_said_and_no_reason_not_to_start() -> None:
    """Platforms set these variables for every process."""
    names, [said] = collectors({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"})

    assert names == []
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in said


def test_without_the_extra_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of protobuf is needed without an endpoint."""
    for name in [name for name in sys.modules if name.startswith("proxy.records.sinks.otlp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)

    names, [said] = collectors(ENDPOINT)

    assert names == []
    assert "-m pip install 'opentelemetry-proto>=" in said
    assert collectors({}) == ([], [])
