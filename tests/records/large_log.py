"""Large request logs, made in about 10 us a record (SQLite) or 30 (PostgreSQL): one record in two seconds."""

from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from uuid import UUID  # noqa: TID251 - nothing of chance

import asyncpg

from proxy.errors import Sent
from proxy.records.months import Month
from proxy.records.sinks.postgres import COLUMNS, PostgresSink, columns_of
from proxy.records.sinks.row import KEY_BYTES, groups
from proxy.records.sinks.sqlite import SEAL_ROWS, SqliteSink
from proxy.secret import Secret
from tests.records.kept import record

MILLION = 1_000_000
# 2026-10-26: a million are of two months.
BEGIN = 1_793_000_000.0
SECONDS_EACH = 2.0
_BATCH = 5000
_ID = b'"id":"'


def lines(number: int) -> Iterator[bytes]:
    """Yield *number* records, the oldest first: mostly of erp, each 7th of shop, each 101st a 404, each 997th a 504.

    Each has a request-id of its own, r0000000 and so on, and a merchant-id: m-2 if it is of shop, else m-1.
    """
    header, merchant = ("request-id", "r" + "?" * 7), "merchant-id"
    erp = record(BEGIN, index=(header, (merchant, "m-1")))
    shop = record(BEGIN, caller="shop", index=(header, (merchant, "m-2")))
    absent = record(BEGIN, status=404, index=(header, (merchant, "m-1")))
    late = record(BEGIN, status=504, origin="proxy", sent=Sent.UNKNOWN, index=(header, (merchant, "m-1")))
    for place in range(number):
        shape = late if not place % 997 else absent if not place % 101 else shop if not place % 7 else erp
        at = shape.index(_ID) + len(_ID)
        yield shape[:at] + _id(place) + shape[at + 36 :].replace(b"?" * 7, b"%07d" % place, 1)


async def fill_sqlite(database: Path, number: int, *, seal_rows: int = SEAL_ROWS) -> None:
    """Write *number* records as the sink does."""
    sink = SqliteSink(database, seal_rows=seal_rows)
    for some in _batches(number):
        await sink.write(some)
    await sink.close()


async def fill_postgres(url: Secret, number: int) -> None:
    """Write *number* records by COPY, into tables that the sink makes."""
    sink = PostgresSink(url)
    await sink.write([])
    await sink.close()
    connection = await asyncpg.connect(url.reveal())
    months: set[Month] = set()
    for some in _batches(number):
        for group in groups(some):
            if group.month not in months:
                await connection.execute("SELECT payproxy.add_month($1)", date(group.month.year, group.month.number, 1))
                months.add(group.month)
            rows = [(UUID(bytes=row[0]), *columns_of(row)[1:]) for row in group.rows]
            await connection.copy_records_to_table("records", schema_name="payproxy", columns=COLUMNS, records=rows)
            entries = [(one[:KEY_BYTES], UUID(bytes=one[KEY_BYTES:])) for one in group.entries]
            await connection.copy_records_to_table("lookups", schema_name="payproxy", records=entries)
    await connection.execute("ANALYZE payproxy.records; ANALYZE payproxy.lookups")
    await connection.close()


def _batches(number: int) -> Iterator[list[bytes]]:
    made = lines(number)
    while some := list(islice(made, _BATCH)):
        yield some


def _id(place: int) -> bytes:
    digits = f"{int((BEGIN + place * SECONDS_EACH) * 1000):012x}7{place & 0xFFF:03x}8{place:015x}"
    return str(UUID(digits)).encode()
