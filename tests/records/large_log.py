"""Large request logs, made in about 10 us a record (SQLite) or 20 (PostgreSQL): one record in two seconds."""

from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID  # noqa: TID251 - nothing of chance

import asyncpg

from proxy.errors import Sent
from proxy.records.months import month_at
from proxy.records.sinks.postgres import PostgresSink, columns_of
from proxy.records.sinks.row import groups, value_key
from proxy.records.sinks.sqlite import SEAL_ROWS, SqliteSink
from proxy.secret import Secret
from tests.records.kept import record

MILLION = 1_000_000
# 2026-10-26: a million are of two months.
BEGIN = 1_793_000_000.0
SECONDS_EACH = 2.0
_BATCH = 5000


def lines(number: int) -> Iterator[bytes]:
    """Yield *number* records, the oldest first: mostly of erp, each 7th of shop, each 101st a 404, each 997th a 504.

    Each has a request-id of its own, r0000000 and so on, and a merchant-id: m-2 if it is of shop, else m-1.
    """
    late, absent, shop, erp = (shape for shape, _ in _shapes())
    for place in range(number):
        shape = late if not place % 997 else absent if not place % 101 else shop if not place % 7 else erp
        yield shape.replace(str(_uuid(0)).encode(), str(_uuid(place)).encode()).replace(b"?" * 7, b"%07d" % place, 1)


def _shapes() -> Iterator[tuple[bytes, str]]:
    """Yield a record of each kind, with the place 0 and `???????` for its number, and in SQL which are of that kind."""
    header, merchant = ("request-id", "r" + "?" * 7), "merchant-id"
    made: list[tuple[str, dict[str, Any]]] = [
        ("place % 997 = 0", {"status": 504, "origin": "proxy", "sent": Sent.UNKNOWN}),
        ("place % 101 = 0", {"status": 404}),
        ("place % 7 = 0", {"caller": "shop"}),
        ("true", {}),
    ]
    for at, (which, values) in enumerate(made):
        named = (header, (merchant, "m-2" if "caller" in values else "m-1"))
        others = [f"NOT {other}" for other, _ in made[:at]]
        yield record(BEGIN, id=str(_uuid(0)), index=named, **values), " AND ".join([which, *others])


async def fill_sqlite(database: Path, number: int, *, seal_rows: int = SEAL_ROWS) -> None:
    """Write *number* records as the sink does."""
    sink = SqliteSink(database, seal_rows=seal_rows)
    for some in _batches(number):
        await sink.write(some)
    await sink.close()


async def fill_postgres(url: Secret, number: int) -> None:
    """Write the same *number* records, copied by the server; those of each 100th are found by their request-id."""
    sink = PostgresSink(url)
    await sink.write([])
    await sink.close()
    connection = await asyncpg.connect(url.reveal())
    months = {month_at(BEGIN + place * SECONDS_EACH) for place in (0, number)}
    for month in months:
        await connection.execute("SELECT payproxy.add_month($1)", date(month.year, month.number, 1))
    for shape, which in _shapes():
        (row,) = groups([shape])[0].rows
        _, _, *columns, line = columns_of(row)
        await connection.execute(
            _COPIES.format(which=which), BEGIN, SECONDS_EACH, number, line, _uuid(0), *columns, timeout=600.0
        )
    for merchant, caller in (("m-1", "erp"), ("m-2", "shop")):
        await connection.execute(
            "INSERT INTO payproxy.lookups SELECT $1, id FROM payproxy.records WHERE caller = $2",
            value_key(merchant.encode()), caller, timeout=600.0,
        )  # fmt: skip
    entries = [(value_key(b"r%07d" % place), _uuid(place)) for place in range(0, number, 100)]
    await connection.copy_records_to_table("lookups", schema_name="payproxy", records=entries)
    await connection.execute("ANALYZE payproxy.records; ANALYZE payproxy.lookups")
    await connection.close()


_COPIES = """
INSERT INTO payproxy.records
  (id, time, kind, instance, sequence, caller, route, status, side, origin, sent_upstream, record)
SELECT id, to_timestamp(at), $6, $7, place, $9, $10, $11, $12, $13, $14,
  replace(replace($4, $5::uuid::text, id::text), '???????', lpad(place::text, 7, '0'))
FROM (
  SELECT place, at, (lpad(to_hex((at * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(place & 4095), 3, '0') || '8'
    || lpad(to_hex(place), 15, '0'))::uuid AS id
  FROM (SELECT place, $1::float8 + place * $2::float8 AS at FROM generate_series(0, $3 - 1) AS place) AS placed
  WHERE {which}
) AS made
WHERE $8::bigint >= 0
"""


def _batches(number: int) -> Iterator[list[bytes]]:
    made = lines(number)
    while some := list(islice(made, _BATCH)):
        yield some


def _uuid(place: int) -> UUID:
    return UUID(f"{int((BEGIN + place * SECONDS_EACH) * 1000):012x}7{place & 0xFFF:03x}8{place:015x}")
