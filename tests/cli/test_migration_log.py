"""What was sent before a migration's table was there has no retry pin."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.migration_log import earlier_payments, earlier_payments_or_doubt, in_flight_before
from proxy.errors import Sent
from proxy.records.sinks.sqlite import SqliteSink
from proxy.secret import Secret
from proxy.settings.stores import PostgresDatabase, SqliteDatabase
from tests.keeper.migrating import PAYMENTS
from tests.records.kept import kept, record

NOW = 1_800_000_000.0


def objection(folder: Path, *records: bytes) -> str:
    """Return what *records* say against a weight."""

    async def read() -> str:
        sink = SqliteSink(folder / "requests.db")
        await sink.write(kept(records))
        await sink.close()
        return await earlier_payments(SqliteDatabase(path=folder / "requests.db"), PAYMENTS, now=NOW)

    return asyncio.run(read())


@pytest.mark.parametrize(
    "end",
    [
        {"status": 500},
        {"status": 502, "sent": Sent.UNKNOWN, "origin": "proxy", "code": "upstream_reset"},
        {"status": 201, "caller_left": True},
        {"status": 0, "sent": Sent.UNKNOWN, "origin": "proxy", "note": "worker_ended"},
    ],
    ids=["answered", "unknown", "left", "its worker was killed"],
)
def test_an_uncertain_end_of_the_last_day_counts(tmp_path: Path, end: dict[str, Any]) -> None:
    """Its retry would go by the weight; the words say until when."""
    told = objection(tmp_path, record(NOW - 3600, side="", **end), record(NOW - 60, side=""))

    assert told.startswith("1 request whose outcome is not certain was sent on payments before [migrations.payments]")
    assert told.endswith("could be a second payment until 2027-01-16T07:00:00Z")


@pytest.mark.parametrize(
    "other",
    [
        {"side": "", "status": 201},
        {"side": "", "status": 500, "method": "GET"},
        {"side": "", "status": 503, "sent": Sent.NO, "origin": "proxy", "code": "token_unavailable"},
        {"side": "legacy", "status": 500},
        {"side": "", "status": 500, "route": "other"},
    ],
    ids=["certain", "safe", "not sent", "has a pin", "another rule"],
)
def test_what_can_be_no_second_payment_does_not_count(tmp_path: Path, other: dict[str, Any]) -> None:
    """Nor does what was more than a day ago."""
    assert not objection(tmp_path, record(NOW - 60, **other), record(NOW - 86_460, side="", status=500))


def test_without_a_log_nothing_is_known() -> None:
    """And nothing is refused."""
    assert not asyncio.run(earlier_payments(None, PAYMENTS, now=NOW))


@pytest.mark.parametrize(
    ("state", "refuses"),
    [
        ({"version": 0, "who": ""}, True),
        ({"version": 4, "who": "payproxy"}, True),
        ({"version": 2, "who": "anna"}, False),
    ],
    ids=["new", "there again", "has moved"],
)
def test_a_log_that_cant_be_read_is_an_objection_to_the_first_move(
    capsys: pytest.CaptureFixture[str], state: dict[str, Any], *, refuses: bool
) -> None:
    """Later everything was sent with a side, and its retry has a pin: then it is only said."""
    database = PostgresDatabase(url=Secret("postgresql://nobody@127.0.0.1:1/requests"))

    found = asyncio.run(earlier_payments_or_doubt(database, PAYMENTS, state=state, now=NOW))

    said = found if refuses else capsys.readouterr().err
    assert "can't tell whether requests from before [migrations.payments] may be sent again" in said
    assert bool(found) == refuses


@pytest.mark.parametrize(
    ("state", "draining", "told"),
    [
        ({"version": 0, "who": ""}, 2, "2 requests in flight"),
        ({"version": 4, "who": "payproxy"}, 1, "1 request in flight"),
        ({"version": 0, "who": ""}, 0, ""),
        ({"version": 1, "who": "anna"}, 2, ""),
    ],
    ids=["new", "there again", "nothing in flight", "has moved"],
)
def test_what_workers_without_the_table_send_is_waited_for(state: dict[str, Any], draining: int, told: str) -> None:
    """They know of no keys of it; those that serve now do."""
    workers = [{"state": "serving", "in_flight": 7}, {"state": "draining", "in_flight": draining}]

    found = in_flight_before(state, workers)

    assert told in found
    assert bool(found) == bool(told)
