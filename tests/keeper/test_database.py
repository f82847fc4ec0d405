from pathlib import Path

import pytest

from proxy.keeper.database import database_sinks
from proxy.records.sinks.postgres import PostgresSink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.model import RequestLogSection, Settings
from proxy.settings.stores import UrlUnusable
from tests.records.kept import record


def settings(folder: Path, **log: str) -> Settings:
    """Return settings with *log* in [request_log]."""
    return Settings(environment="mock", data_directory=str(folder), request_log=RequestLogSection.model_validate(log))


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
