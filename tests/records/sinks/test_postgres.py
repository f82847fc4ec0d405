import asyncio
import contextlib
import hashlib
import json
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from pathlib import Path

import asyncpg
import pytest

from proxy.events import Event, SinkFailed, SinkRecovered
from proxy.records.segment import spool_size
from proxy.records.sinks import postgres as postgres_sink
from proxy.records.sinks.postgres import PostgresSink
from proxy.records.sinks.postgres_schema import SCHEMA
from proxy.records.sinks.sink import SinkUnavailable
from proxy.request_summary import RequestSummary
from proxy.secret import Secret
from tests.records.kept import id_of, kept, operation, record
from tests.records.postgres import PASSWORD, Postgres, execute, fetch
from tests.records.support import NOW, an_exchange, complete, intends, open_journal, running_shipper, until

NEXT = 1_801_440_000.0  # 2027-02-01
SQL = Path(__file__).parents[3] / "config" / "postgres.sql"


@pytest.fixture
async def empty(postgres: Postgres) -> Postgres:
    """Return the server without our tables and roles."""
    await execute(
        postgres.url(),
        "DROP SCHEMA IF EXISTS payproxy CASCADE; DROP ROLE IF EXISTS payproxy_writer; "
        "DROP ROLE IF EXISTS payproxy_reader",
    )
    return postgres


async def stored(server: Postgres) -> list[bytes]:
    """Return the records in the order of the chain."""
    rows = await fetch(server.url(), "SELECT record FROM payproxy.records ORDER BY sequence, id")
    return [row["record"].encode() for row in rows]


async def test_records_are_kept_byte_for_byte(empty: Postgres) -> None:
    """With what people search for in columns, in partitions by month that are made when they are needed."""
    lines = kept([record(NEXT - 1, status=502, index=(("merchant-id", "ä"),)), operation(NEXT)])
    sink = PostgresSink(empty.url())
    await sink.write(lines)
    await sink.close()

    assert await stored(empty) == lines
    rows = await fetch(
        empty.url(),
        "SELECT tableoid::regclass::text AS part, kind, sequence, caller, status, sent_upstream,"
        " extract(epoch FROM time)::float8 AS at FROM payproxy.records ORDER BY sequence",
    )
    assert [tuple(row) for row in rows] == [
        ("payproxy.records_2027_01", "exchange", 1, "erp", 502, "yes", NEXT - 1),
        ("payproxy.records_2027_02", "operation", 2, "", 0, "", NEXT),
    ]


async def test_what_comes_twice_is_kept_once(empty: Postgres) -> None:
    """Also by another instance of the sink."""
    lines = kept(record(NOW + number, index=(("request-id", "r"),)) for number in range(50))
    for batch in (lines, lines[20:], lines):
        sink = PostgresSink(empty.url())
        await sink.write(batch)
        await sink.close()

    assert await stored(empty) == lines
    assert [tuple(row) for row in await fetch(empty.url(), "SELECT count(*) FROM payproxy.lookups")] == [(50,)]


async def test_what_is_no_record_holds_up_nothing(empty: Postgres) -> None:
    """Bytes that PostgreSQL can't hold are written so that it can."""
    odd = record(NOW + 1).replace(b'"path":"/payment/v2/payments"', b'"path":"\\u0000\\ud800"')
    lines = [record(), b"\xff\x00\xfe", b"{", odd, record(NOW + 2)]
    sink = PostgresSink(empty.url())
    await sink.write(lines)
    await sink.close()

    rows = await fetch(empty.url(), "SELECT record FROM payproxy.records")
    assert {row["record"].encode() for row in rows} == {lines[0], b"\\xff\xef\xbf\xbd\\xfe", b"{", odd, lines[4]}


# Which the server can't compress.
_LONG = hashlib.shake_256(b"").hexdigest(3000).encode()
_FORGED = [
    *(b"\\u0000", b"\\ud800", b"a\\u0000b\\udfff", b"\xff", b"\0", _LONG, "ä".encode() * 6000),
    *(b'0001-01-01T00:00:00+23:59","x":"', b'9999-12-31T23:59:59-23:59","x":"', b"[" * 3000),
]


async def test_no_text_of_a_record_holds_up_those_behind_it(empty: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was taken over may write any: what PostgreSQL can't store or index in any member; all arrive."""
    # Each of these is stored as the record that it is.
    monkeypatch.setattr(postgres_sink, "_as_unreadable", None)
    lines = []
    for honest in (record(NOW), operation(NOW)):
        for name, value in json.loads(honest).items():
            old = json.dumps({name: value}, separators=(",", ":"))[1:-1].encode()
            head = json.dumps(name).encode() + b":"
            lines += [honest.replace(old, head + b'"' + text + b'"') for text in _FORGED if old in honest]
    sink = PostgresSink(empty.url())
    for line in lines:
        await sink.write([line, record(NOW + 1)])
    await sink.close()

    assert len(lines) > 200
    at = datetime.fromtimestamp(NOW + 1, UTC)
    (counted,) = await fetch(empty.url(), "SELECT count(*) FROM payproxy.records WHERE time = $1", at)
    assert counted["count"] == len(lines)


async def test_what_the_database_has_no_character_for_is_kept_escaped(empty: Postgres) -> None:
    """A database that was not made with UTF-8: only that record is unreadable, and says what it said."""
    url = await _database(empty, "CREATE DATABASE another ENCODING 'LATIN1' TEMPLATE template0")
    lines = [record(NOW + number, path=f"/{number}") for number in range(20)]
    lines[7] = lines[7].replace(b'"erp"', '"\u20ac\u00e4"'.encode())
    sink = PostgresSink(url)
    await sink.write(lines)
    await sink.write(lines)
    await sink.close()

    rows = await fetch(url, "SELECT kind, caller, record FROM payproxy.records ORDER BY id")
    assert [row["kind"] for row in rows] == ["exchange"] * 7 + ["unreadable"] + ["exchange"] * 12
    assert rows[7]["record"] == lines[7].decode().replace("\u20ac", "\\xe2\\x82\\xac").replace("\u00e4", "\\xc3\\xa4")
    assert [row["record"].encode() for row in rows[8:]] == lines[8:]


async def test_records_of_more_months_than_a_transaction_can_lock_arrive(empty: Postgres) -> None:
    """Forged ids: the server has no memory for so many locks at once."""
    lines = [record(NOW + 31 * 86400 * number) for number in range(400)]
    url = await _database(empty, "CREATE DATABASE another")
    sink = PostgresSink(url, batch_seconds=300)
    await sink.write(lines)
    await sink.close()

    assert {row["record"].encode() for row in await fetch(url, "SELECT record FROM payproxy.records")} == {*lines}


async def _database(server: Postgres, statement: str) -> Secret:
    """Return the URL of an empty database, which *statement* creates."""
    await execute(server.url(), "DROP DATABASE IF EXISTS another")
    await execute(server.url(), statement)
    return server.url(database="another")


async def test_a_database_that_refuses_everything_gets_nothing_else(empty: Postgres) -> None:
    """Its tables were changed: that is for a person to mend, and the records come as they are after it."""
    sink = PostgresSink(empty.url())
    await sink.write([record()])
    add = "ALTER TABLE payproxy.records ADD CONSTRAINT odd CHECK (1 / length(left(record, 0)) = 1) NOT VALID"
    await execute(empty.url(), add)
    lines = [record(NOW + 1), record(NOW + 2)]
    with pytest.raises(SinkUnavailable, match="DivisionByZeroError"):
        await sink.write(lines)
    await execute(empty.url(), "ALTER TABLE payproxy.records DROP CONSTRAINT odd")
    await sink.write(lines)
    await sink.close()

    assert {row["kind"] for row in await fetch(empty.url(), "SELECT kind FROM payproxy.records")} == {"exchange"}


async def test_instances_that_start_at_once_make_the_tables_once(empty: Postgres) -> None:
    """Each gets its records in."""
    sinks = [PostgresSink(empty.url()) for _ in range(6)]
    lines = [record(NEXT + number - 3) for number in range(6)]
    for _ in range(3):
        await asyncio.gather(*(_until_taken(sink, [line]) for sink, line in zip(sinks, lines, strict=True)))
    for sink in sinks:
        await sink.close()

    assert set(await stored(empty)) == set(lines)


async def _until_taken(sink: PostgresSink, batch: list[bytes]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await sink.write(batch)
            except SinkUnavailable:
                await asyncio.sleep(0.05)


def test_the_documented_tables_are_those_that_are_made() -> None:
    """config/postgres.sql is for their owner."""
    assert SCHEMA in SQL.read_text()


async def test_the_documented_role_may_insert_and_nothing_else(empty: Postgres) -> None:
    """New months too; who breaks into the proxy can neither read, change nor delete the log."""
    await execute(empty.url(), f"CREATE ROLE payproxy_writer LOGIN PASSWORD '{PASSWORD}'")
    await execute(empty.url(), f"CREATE ROLE payproxy_reader LOGIN PASSWORD '{PASSWORD}'")
    for _ in range(2):
        await execute(empty.url(), SQL.read_text())
    sink = PostgresSink(empty.url("payproxy_writer"))
    lines = kept([record(NEXT - 1, index=(("request-id", "r"),)), record(NEXT)])
    await sink.write(lines)
    await sink.write(lines)
    await sink.close()

    assert await stored(empty) == lines
    for statement in (
        "SELECT * FROM payproxy.records",
        "SELECT * FROM payproxy.records_2027_01",
        "UPDATE payproxy.records SET status = 200",
        "DELETE FROM payproxy.records",
        "TRUNCATE payproxy.records",
        "DROP TABLE payproxy.records_2027_01",
        "SELECT * FROM payproxy.lookups",
        "CREATE TABLE payproxy.mine (x int)",
    ):
        with pytest.raises(Exception, match=r"permission denied|must be owner"):
            await execute(empty.url("payproxy_writer"), statement)
    assert len(await fetch(empty.url("payproxy_reader"), "SELECT record FROM payproxy.records")) == 2
    with pytest.raises(Exception, match="permission denied"):
        await execute(empty.url("payproxy_reader"), "INSERT INTO payproxy.lookups VALUES ('', gen_random_uuid())")


async def test_a_role_without_rights_is_told_what_to_do(empty: Postgres) -> None:
    """The owner has to make the tables."""
    await execute(empty.url(), f"CREATE ROLE payproxy_writer LOGIN PASSWORD '{PASSWORD}'")
    sink = PostgresSink(empty.url("payproxy_writer"))
    with pytest.raises(SinkUnavailable, match=r"config/postgres\.sql"):
        await sink.write([record()])
    await execute(empty.url(), SQL.read_text().replace("GRANT INSERT", "-- GRANT INSERT"))
    with pytest.raises(SinkUnavailable, match="lacks a right"):
        await sink.write([record()])
    await execute(empty.url(), SQL.read_text())
    await sink.write([record()])
    await sink.close()


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("postgresql://owner:secret-word@127.0.0.1:{port}/postgres", "wrong password"),
        ("postgresql://owner:correct%20horse@127.0.0.1:{port}/absent", "no such database"),
        ("postgresql://owner:secret-word@127.0.0.1:1/postgres", "can't be reached"),
        ("postgresql://owner:secret-word@127.0.0.1:port/postgres", "URL can't be used"),
        ("postgresql://owner:secret-word@127.0.0.1:{port}/postgres?sslmode=nonsense", "URL can't be used"),
        ("postgresql://owner:secret-word@127.0.0.1:{port}/postgres?sslmode=verify-full", "can't be"),
        ("postgresql://owner:secret-word@no-such-host.invalid/postgres", "can't be reached"),
    ],
)
async def test_why_it_is_away_is_said_without_the_url(postgres: Postgres, url: str, cause: str) -> None:
    """Nor does the sink show it."""
    sink = PostgresSink(Secret(url.replace("{port}", str(postgres.port))))
    with pytest.raises(SinkUnavailable) as raised:
        await sink.write([record()])
    await sink.close()

    assert cause in str(raised.value)
    for text in (str(raised.value), repr(raised.value), repr(raised.value.__context__), repr(sink)):
        assert "secret-word" not in text
    assert raised.value.__cause__ is None


async def test_a_server_that_does_not_answer_is_as_good_as_away(empty: Postgres) -> None:
    """The write ends in its time, also in the middle of a connection; the batch comes again."""
    lines = kept(record(NOW + number) for number in range(20))
    sink = PostgresSink(empty.url(), batch_seconds=0.5)
    await sink.write(lines[:10])
    empty.freeze()
    try:
        async with asyncio.timeout(60):
            with pytest.raises(SinkUnavailable, match="in time"):
                await sink.write(lines[10:])
    finally:
        empty.thaw()
    await _until_taken(sink, lines[10:])
    await sink.close()

    assert await stored(empty) == lines


async def test_a_lock_on_the_table_holds_up_the_sink_and_nothing_else(empty: Postgres) -> None:
    """Like a VACUUM FULL at noon."""
    sink = PostgresSink(empty.url(), batch_seconds=0.5)
    await sink.write(kept([record()]))
    locking = await asyncpg.connect(empty.url().reveal())
    await locking.execute("BEGIN; LOCK TABLE payproxy.records")
    async with asyncio.timeout(60):
        with pytest.raises(SinkUnavailable, match="in time"):
            await sink.write([record(NOW + 1)])
    await locking.close()
    await _until_taken(sink, [record(NOW + 1)])
    await sink.close()


async def test_a_close_in_the_middle_of_a_write_does_not_hang(empty: Postgres) -> None:
    """The shipper cancels what takes too long at the end."""
    sink = PostgresSink(empty.url())
    await sink.write([record()])
    empty.freeze()
    try:
        writing = asyncio.ensure_future(sink.write([record(NOW + 1)]))
        await asyncio.sleep(0.2)
        writing.cancel()
        async with asyncio.timeout(60):
            with contextlib.suppress(asyncio.CancelledError):
                await writing
            await sink.close()
    finally:
        empty.thaw()


async def test_a_server_killed_under_load_and_back_misses_nothing(empty: Postgres, tmp_path: Path) -> None:
    """Killed twice with -9 for some seconds: all arrives, once, in order, and the disk stays within its bound."""
    spool_bytes = 64 * 1024 * 1024
    events: list[Event] = []
    sent: list[RequestSummary] = []
    sink = PostgresSink(empty.url())
    going = True

    def counted(kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in events)

    async def load() -> None:
        while going:
            some = [an_exchange(path="/" + "x" * 500, index=(("request-id", str(len(sent) + n)),)) for n in range(10)]
            await asyncio.gather(*(complete(journal, exchange) for exchange in some))
            sent.extend(some)
            await asyncio.sleep(0.01)

    async with (
        open_journal(tmp_path, spool_bytes=spool_bytes) as journal,
        running_shipper(tmp_path, sink, events=events, seconds=20) as shipper,
    ):
        loading = asyncio.ensure_future(load())
        largest = 0
        for turn in range(1, 3):
            await until(partial(lambda more: len(sent) > more, len(sent) + 500))
            await asyncio.to_thread(empty.kill)
            await until(partial(lambda turn: counted(SinkFailed) == turn, turn))
            for _ in range(20):
                await asyncio.sleep(0.1)
                largest = max(largest, spool_size(tmp_path))
            assert shipper.backlog_records > 100
            await asyncio.to_thread(empty.start)
            await until(partial(lambda turn: counted(SinkRecovered) == turn, turn))
        going = False
        await loading
        await until(lambda: shipper.backlog_records == 0)

    lines = [json.loads(line) for line in await stored(empty)]
    assert [line["id"] for line in lines] == [exchange.id for exchange in sent]
    assert [line["sequence"] for line in lines] == list(range(1, len(sent) + 1))
    assert {bytes.fromhex(exchange.id.replace("-", "")) for exchange in sent} == {
        id_of(line) for line in await stored(empty)
    }
    assert largest <= spool_bytes + 4 * 1024 * 1024


async def test_at_the_bound_of_the_spool_requests_are_refused_and_nothing_is_missing(
    empty: Postgres, tmp_path: Path
) -> None:
    """While the server is away; with it back, service goes on by itself."""
    spool_bytes = 8 * 1024 * 1024
    sink = PostgresSink(empty.url())
    empty.kill()
    sent: list[RequestSummary] = []
    try:
        async with (
            open_journal(tmp_path, spool_bytes=spool_bytes) as journal,
            running_shipper(tmp_path, sink, seconds=20) as shipper,
        ):
            async with asyncio.timeout(60):
                while journal.usable():
                    some = [an_exchange(path="/" + "x" * 1900) for _ in range(10)]
                    taken = await asyncio.gather(*(intends(journal, exchange) for exchange in some))
                    for exchange in compress(some, taken):
                        journal.finish(exchange)
                        sent.append(exchange)
            assert spool_size(tmp_path) <= spool_bytes + 4 * 1024 * 1024
            empty.start()
            await until(journal.usable)
            last = an_exchange()
            await complete(journal, last)
            sent.append(last)
            await until(lambda: shipper.backlog_records == 0 and shipper._stream.end.sequence >= len(sent))
    finally:
        if empty._process is None:
            empty.start()

    assert {exchange.id for exchange in sent} <= {json.loads(line)["id"] for line in await stored(empty)}
