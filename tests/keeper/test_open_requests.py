"""What an instance finds of its own in a log that many share, to ask the bank about after a restart."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.entropy import SystemEntropy, uuid7
from proxy.errors import Sent
from proxy.keeper.open_requests import OpenRequests
from proxy.records.record import RecordBuilder, RecordContext
from proxy.records.sinks.postgres import PostgresSink
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.settings.model import Settings
from tests.cli.inquiring import INQUIRY, UNKNOWN
from tests.journeys.support import configured, private
from tests.records.conftest import postgres, postgres_server  # noqa: F401 - fixtures
from tests.records.kept import MASK, id_of, inquiry, kept
from tests.records.postgres import Postgres, execute
from tests.records.support import NOW, an_exchange
from tests.settings.support import load_text
from tests.support.clock import ManualClock

MOST = 20
# More than a page of the log has.
MANY = 600
HERE, THERE = "00112233445566aa", "00112233445566bb"


def settings_of(folder: Path, server: Postgres | None) -> Settings:
    """Return settings whose rule payments has automatic inquiries; their log is in *server*, or in SQLite."""
    text = configured(folder, "http://127.0.0.1:9").read_text() + INQUIRY.format(automatic="true")
    if server is not None:
        private(folder / "database.url", server.url().reveal())
        text = text.replace("[request_log]\n", '[request_log]\ndatabase_file = "database.url"\n')
    loaded = load_text(folder, text)
    assert loaded.settings is not None, list(map(str, loaded.findings))
    Path(loaded.settings.data_directory).mkdir(mode=0o700)
    return loaded.settings


@pytest.fixture(params=["sqlite", "postgres"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Sink, Settings]]:
    """Yield the sink of a log, and settings that read that log."""
    server: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgres" else None
    if server is not None:
        await execute(server.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
    settings = settings_of(tmp_path, server)
    sink: Sink = (
        SqliteSink(Path(settings.data_directory) / "requests.db") if server is None else PostgresSink(server.url())
    )
    yield sink, settings
    await sink.close()


def unknown(ago: float, *, chain: str = HERE, route: str = "payments", **changes: Any) -> bytes:
    """Return the record of a request of unknown outcome."""
    context = RecordContext(environment="mock", instance="here", config_digest="d", chain=chain)
    at = NOW - ago
    facts: dict[str, Any] = {"id": uuid7(SystemEntropy(), at), "started_wall": at, "route": route, **UNKNOWN}
    return RecordBuilder(context, MASK).exchange(an_exchange(**facts | {"sent": Sent.UNKNOWN} | changes))[:-1]


async def found(settings: Settings) -> list[bytes]:
    """Return the ids of what is to be asked about."""
    requests = OpenRequests(lambda: settings, chain=HERE, clock=ManualClock(NOW))
    return [bytes.fromhex(str(one["id"]).replace("-", "")) for one, _ in await requests.find(MOST)]


async def test_our_own_are_found_behind_those_of_others(log: tuple[Sink, Settings]) -> None:
    """Other instances, also of the same name, other rules and what is settled may have many newer ones."""
    sink, settings = log
    settled = [unknown(1000 + number / 1000) for number in range(MANY)]
    ours = [unknown(3000 + number) for number in range(MOST + 5)]
    records = [
        *reversed(ours),
        *settled,
        *(inquiry(str(uuid_of(one)), NOW - 500) for one in settled),
        *(unknown(400 + number / 1000, chain=THERE) for number in range(MANY)),
        *(unknown(300 + number / 1000, route="hello") for number in range(MANY)),
    ]
    await sink.write(kept(records))

    assert await found(settings) == [id_of(one) for one in ours[:MOST]]


def uuid_of(record: bytes) -> str:
    """Return the id as the record has it."""
    text = id_of(record).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
