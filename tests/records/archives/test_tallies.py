"""What both databases count: the same, and what one would count by hand."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.records.archives.postgres import PostgresArchive
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.query import Archive, ArchiveUnusable, Query
from proxy.records.sinks import postgres as postgres_sink
from proxy.records.sinks import row
from proxy.records.sinks.postgres import PostgresSink
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.tally import DAY_SECONDS, Tally
from proxy.result import Result, result_of
from tests.records.kept import kept, operation, record
from tests.records.postgres import PASSWORD, Postgres, execute

SQL = Path(__file__).parents[3] / "config" / "postgres.sql"
FEBRUARY = 1_801_440_000.0  # 2027-02-01
ROUTES = ("payments", "reports", "other")
# Status, origin and code of what happens to requests.
ENDS = (
    (200, "bank", ""),
    (200, "bank", ""),
    (201, "bank", ""),
    (302, "bank", ""),
    (401, "bank", ""),
    (403, "bank", ""),
    (422, "bank", ""),
    (503, "bank", ""),
    (502, "proxy", "token_refused"),
    (504, "proxy", "upstream_timeout"),
    (503, "proxy", "overloaded"),
    (400, "proxy", "bad_request"),
    (0, "proxy", ""),
)


def log() -> list[bytes]:
    """Return 400 records, two hours apart, of both sides and from before there were any."""
    records = [operation(FEBRUARY)]
    for number in range(400):
        status, origin, code = ENDS[number % len(ENDS)]
        records.append(
            record(
                FEBRUARY + (number - 200) * 7200,
                caller=("erp", "crm", "shop")[number % 3],
                route=ROUTES[number % 2 if number % 11 else 2],
                side="" if number < 100 else ("legacy", "modern")[number % 5 // 3],
                credential=("adfs", "login")[number % 7 // 5],
                status=status,
                origin=origin,
                code=code,
            )
        )
    return kept(records)


def by_hand(lines: list[bytes], *, since: float) -> dict[tuple[str, str, str, str], tuple[int, ...]]:
    """Return the counts of *lines* from id-time *since* on, for payments and reports."""
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    for text in lines:
        one = json.loads(text)
        if (
            one["kind"] != "exchange"
            or one["route"] == "other"
            or int(one["id"][:8] + one["id"][9:13], 16) < since * 1000
        ):
            continue
        key = (one["route"], one["side"], "" if one["side"] else one["credential"], one["caller"])
        found = counts.setdefault(key, [0] * 5)
        found[0] += 1
        result = result_of(one["status"], one["code"], bank=one["origin"] == "bank")
        if result is not Result.OTHER:
            found[result] += 1
    return {key: tuple(found) for key, found in counts.items()}


def told(tallies: list[Tally]) -> Mapping[tuple[str, str, str, str], tuple[int, ...]]:
    """Return *tallies* in the same form; none is there twice."""
    found = {
        (one.route, one.side, one.credential, one.caller): (
            one.requests,
            one.held_back,
            one.failed,
            one.client_errors,
            one.fine,
        )
        for one in tallies
    }
    assert len(found) == len(tallies)
    return found


Filled = tuple[Callable[[], Archive], Sink, list[bytes]]


@pytest.fixture(params=["sqlite", "postgres"])
async def filled(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Filled]:
    """Yield what opens an archive of the log, its sink, and the log."""
    sink: Sink
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        await execute(server.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
        url = server.url()
        sink = PostgresSink(url)
        opened: Callable[[], Archive] = lambda: PostgresArchive(url)  # noqa: E731 - one line of two
    else:
        sink = SqliteSink(tmp_path / "requests.db")
        opened = lambda: SqliteArchive(tmp_path / "requests.db")  # noqa: E731
    lines = log()
    for at in range(0, len(lines), 30):
        await sink.write(lines[at : at + 30])
    yield opened, sink, lines
    await sink.close()


@pytest.mark.parametrize("days", [-400, -10, -1, 0, 3, 400])
async def test_what_came_of_requests_is_counted(filled: Filled, days: int) -> None:
    """By rule, side and caller, from a day on, over the end of a month, whoever made the answer."""
    opened, _, lines = filled
    since = FEBRUARY + days * DAY_SECONDS
    archive = opened()
    try:
        found = await archive.tallies(["payments", "reports"], since=since + 3600)
    finally:
        await archive.close()

    assert told(found) == by_hand(lines, since=since)


async def test_the_last_request_is_told(filled: Filled) -> None:
    """To the millisecond, across days and months."""
    opened, _, lines = filled
    archive = opened()
    try:
        found = await archive.tallies(["payments"], since=0)
    finally:
        await archive.close()
    numbers = [
        number
        for number, text in enumerate(lines[1:])
        if (one := json.loads(text))["route"] == "payments" and (one["caller"], one["side"]) == ("erp", "legacy")
    ]

    (erp,) = [one for one in found if one.caller == "erp" and one.side == "legacy"]
    assert erp.last == pytest.approx(FEBRUARY + (numbers[-1] - 200) * 7200, abs=0.002)


async def test_the_oldest_record_is_told(filled: Filled) -> None:
    """By its time; what it is of does not matter."""
    opened, _, _ = filled
    archive = opened()
    try:
        assert await archive.oldest() == FEBRUARY - 200 * 7200
    finally:
        await archive.close()


async def test_what_is_offered_again_is_counted_once(filled: Filled) -> None:
    """Also with other records in the same batch."""
    opened, sink, lines = filled
    more = kept([*lines, record(FEBRUARY + 5), record(FEBRUARY + 6, side="legacy")])
    await sink.write(lines[40:90])
    await sink.write(more[-20:])
    await sink.write(more[-1:])
    archive = opened()
    try:
        found = await archive.tallies(["payments", "reports"], since=0)
        nothing = await archive.tallies(["payment"], since=0)
    finally:
        await archive.close()

    assert told(found) == by_hand(more, since=0)
    assert nothing == []


async def test_the_proxys_own_role_may_count_what_it_may_not_read(postgres: Postgres) -> None:
    """The guard of a migration runs as a role that can only add records."""
    await execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
    await execute(postgres.url(), f"CREATE ROLE payproxy_writer LOGIN PASSWORD '{PASSWORD}'")
    await execute(postgres.url(), SQL.read_text())
    sink = PostgresSink(postgres.url("payproxy_writer"))
    await sink.write(log())
    await sink.close()
    archive = PostgresArchive(postgres.url("payproxy_writer"))
    try:
        found = await archive.tallies(["payments", "reports"], since=0)
        with pytest.raises(ArchiveUnusable):
            await archive.page(Query(), before=None, size=1)
    finally:
        await archive.close()

    assert told(found) == by_hand(log(), since=0)


@pytest.mark.parametrize("decoder", [row.decode, row.plain_decoder])
async def test_no_text_in_a_record_prevents_counting(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, decoder: Callable[[bytes], Any]
) -> None:
    """A worker that was taken over writes them: the guard of a migration goes on with what can be counted."""
    for module in (row, postgres_sink):
        monkeypatch.setattr(module, "decode", decoder)
    opened, sink, lines = filled
    counted, uncounted = [], []
    for side in ("legacy", ""):
        for text in (b"\\u0000", b"\\\\u0000\\\\", b'\\"\\/\\\\\\u12345'):
            counted += [forged(text, side=side), forged(text, side=side, status=502, origin="proxy", code="overloaded")]
        uncounted += [
            forged(text, side=side) for text in (b"\\uDBFF", b"\xff", b"\0", b'":NaN,"', b'"', b'":' + b"[" * 3000)
        ]
        uncounted.append(forged(b"", side=side).decode().encode("utf-16"))
    for line in (*counted, *uncounted):
        await sink.write([line])
    archive = opened()
    try:
        found = sum(one.requests for one in await archive.tallies(["payments", "reports"], since=0))
    finally:
        await archive.close()

    before = sum(counts[0] for counts in by_hand(lines, since=0).values())
    assert before + len(counted) <= found <= before + len(counted) + len(uncounted)


def forged(text: bytes, **values: Any) -> bytes:
    """Return a record whose path has the JSON *text*."""
    return record(FEBRUARY, **values).replace(b"/payment/v2/payments", text)


async def test_a_database_without_records_yet_says_so(postgres: Postgres) -> None:
    """Nobody has made the tables."""
    await execute(postgres.url(), "DROP SCHEMA IF EXISTS payproxy CASCADE")
    archive = PostgresArchive(postgres.url())
    try:
        with pytest.raises(ArchiveUnusable, match="no records yet"):
            await archive.tallies(["payments"], since=0)
    finally:
        await archive.close()
