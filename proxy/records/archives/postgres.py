"""Read the central PostgreSQL database, which holds the records of all instances, with a read-only role."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from proxy.records.chain import link_of
from proxy.records.copies import CopyUnreadable, Line
from proxy.records.months import Month, id_floor, parse_month, time_of
from proxy.records.pruned_range import PrunedRange
from proxy.records.query import ArchiveUnusable, Enough, Indexed, MonthGrew, Page, Query, all_of_it, fitting
from proxy.records.searched import differences, group_of
from proxy.records.sinks.postgres import COLUMNS, ERRORS, columns_of, connect, error_text
from proxy.records.sinks.postgres_schema import partitions
from proxy.records.sinks.row import KEY_BYTES, UNREADABLE, value_key
from proxy.records.tally import DAY_SECONDS, Tally, summed
from proxy.result import BEYOND_THE_PROXY
from proxy.secret import Secret

CONNECT_SECONDS = 5.0
QUERY_SECONDS = 60.0
# For the server to say that it has cancelled a statement.
_GRACE_SECONDS = 0.5
_SORT_SECONDS = 3600.0
_ROWS = 5000
# Records that a page looks at, at once: so few that the first answers soon also if they are not in memory.
_FIRST_WINDOW = 1000
_LAST_WINDOW = 16_000
# A transaction that starts up to this long before another may commit after it, with an earlier `received`.
_LATE = timedelta(seconds=30)
# Tells apart two instances of one name. Quotes in values are escaped, so that this matches the member only.
_CHAIN = """coalesce(substring(record from '"chain":"([0-9a-f]{16})"'), '')"""


class PostgresArchive:
    """Reads the tables in the database at *url* over one connection, opened at first use.

    A statement that takes longer than *seconds* is cancelled by the server itself, whatever becomes of this process.
    """

    def __init__(self, url: Secret, *, seconds: float = QUERY_SECONDS) -> None:
        self._url = url
        self._seconds = seconds
        self._connection: asyncpg.Connection | None = None
        self._received: datetime | None = None
        self._seen: set[str] = set()

    async def page(self, query: Query, *, before: bytes | None, size: int, enough: Enough = all_of_it) -> Page:
        """Return at most *size* records that match *query* with ids before *before*, the newest first.

        Records are looked at in windows, the first of _FIRST_WINDOW and each of twice as many. After each of them it is
        asked whether that is *enough*.
        """
        end = query.end_id if before is None else min(before, query.end_id)
        found: list[bytes] = []
        window = _FIRST_WINDOW
        while True:
            first = await self._first_of(window, query, end)
            most = size - len(found)
            rows = await self._matching(query, first, end, most=most)
            records = (row["record"].encode() for row in rows)
            found += [record for record in records if fitting(query, record) is not None]
            end = rows[-1]["id"].bytes if len(rows) == most else first
            if len(found) == size:
                return Page(records=found, before=end)
            if end <= query.first_id:
                return Page(records=found, before=None)
            if enough():
                return Page(records=found, before=end)
            window = min(2 * window, _LAST_WINDOW)

    async def _first_of(self, window: int, query: Query, end: bytes) -> bytes:
        """Return the lowest id of the last *window* records before *end* that an index offers for *query*."""
        firsts = []
        for offers in _offers(query):
            found = [query.first_id]
            for statement, *values in offers:
                rows = await self._fetch(
                    f"{statement} AND id >= $1 AND id < $2 ORDER BY id DESC OFFSET {window - 1:d} LIMIT 1",
                    *(_hex(query.first_id), _hex(end), *values),
                )
                found += [row["id"].bytes for row in rows]
            # Within it no value has more than *window* records.
            firsts.append(max(found))
        # All have to match: what has the fewest decides.
        return min(firsts)

    async def _matching(self, query: Query, first: bytes, end: bytes, *, most: int) -> list[Any]:
        """Return id and record of the *most* newest records in [*first*, *end*) that match by the columns."""
        terms = _Terms()
        terms.add("id >= {}", _hex(first))
        terms.add("id < {}", _hex(end))
        for name, value in query.plain:
            terms.add(f"{name} = {{}}", value)
        if query.status is not None:
            terms.add("status >= {}", query.status.low)
            terms.add("status <= {}", query.status.high)
            terms.texts.append("kind = 'exchange'")
        # A partial index is used only if the query repeats the terms of its WHERE clause, with their values.
        terms.texts += _rare(query)
        for one in query.indexed:
            terms.add(
                "id IN (SELECT id FROM payproxy.lookups WHERE key = ANY ({}) AND id >= $1 AND id < $2)", _keys(one)
            )
        return await self._fetch(
            "SELECT id, record FROM payproxy.records"  # noqa: S608 - values are bound
            f" WHERE {' AND '.join(terms.texts)} ORDER BY id DESC LIMIT {most:d}",
            *terms.values,
        )

    async def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, if there is one."""
        rows = await self._fetch("SELECT record FROM payproxy.records WHERE id = $1", _hex(record_id))
        return rows[0]["record"].encode() if rows else None

    async def new_records(self) -> list[bytes]:
        """Return the records of any instance that were committed since the last call."""
        if self._received is None:
            self._received = (await self._fetch("SELECT now() AS now"))[0]["now"]
            self._seen = {row["id"] for row in await self._lately(self._received)}
            return []
        rows = await self._lately(self._received)
        new = [row["id"] for row in rows if row["id"] not in self._seen]
        self._seen = {row["id"] for row in rows}
        self._received = max([self._received, *(row["received"] for row in rows)])
        found = await self._fetch(
            "SELECT record FROM payproxy.records WHERE id = ANY ($1::text[]::uuid[])"
            " ORDER BY received, instance, sequence",
            new,
        )
        return [row["record"].encode() for row in found]

    async def tallies(self, routes: Sequence[str], *, since: float) -> list[Tally]:
        """Return the outcome counts of the requests on *routes*, from the start of the UTC day of *since* on."""
        first = _hex(id_floor(since // DAY_SECONDS * DAY_SECONDS))
        rows = await self._fetch(
            "SELECT * FROM payproxy.tallies($1, $2, $3)", list(routes), first, list(BEYOND_THE_PROXY)
        )
        return summed(Tally(**(dict(row) | {"last": row["last"].timestamp()})) for row in rows)

    async def oldest(self) -> float | None:
        """Return the time of the oldest record, in epoch seconds; None if there is none."""
        rows = await self._fetch("SELECT replace(id::text, '-', '') AS id FROM payproxy.records ORDER BY id LIMIT 1")
        return time_of(bytes.fromhex(rows[0]["id"])) if rows else None

    async def months(self) -> list[Month]:
        """Return the months that have tables, the oldest first."""
        rows = await self._fetch(
            "SELECT c.relname AS name FROM pg_catalog.pg_inherits AS i"
            " JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'payproxy.records'::regclass"
        )
        found = [parse_month(row["name"].removeprefix("records_").replace("_", "-")) for row in rows]
        return sorted(month for month in found if month is not None)

    async def ranges(self, month: Month) -> tuple[int, list[PrunedRange]]:
        """Return the number of records of *month*, and the ranges of each instance's chain that they cover."""
        table, _ = partitions(month)
        (counted,) = await self._fetch(f"SELECT count(*) AS records FROM {table}")  # noqa: S608 - a name of our own
        rows = await self._fetch(
            f"WITH placed AS (SELECT instance, {_CHAIN} AS chain, sequence FROM {table} WHERE sequence > 0),"  # noqa: S608
            " islands AS (SELECT instance, chain, min(sequence) AS first, max(sequence) AS last FROM"
            " (SELECT instance, chain, sequence,"
            " sequence - dense_rank() OVER (PARTITION BY instance, chain ORDER BY sequence) AS island"
            " FROM placed) AS numbered GROUP BY instance, chain, island)"
            f" SELECT i.instance, i.chain, i.first, i.last, r.record FROM islands AS i JOIN {table} AS r"
            f" ON r.instance = i.instance AND r.sequence = i.last AND {_CHAIN.replace('record', 'r.record')} = i.chain"
            " ORDER BY i.instance, i.chain, i.first"
        )
        names = ("instance", "chain", "first", "last")
        ranges = [PrunedRange(**{name: row[name] for name in names}, hash=_hash_in(row["record"])) for row in rows]
        return counted["records"], ranges

    async def prune_records(self, month: Month) -> list[bytes]:
        """Return the signed records in *month* that state what was pruned earlier."""
        table, _ = partitions(month)
        rows = await self._fetch(
            f"SELECT record FROM {table} WHERE kind <> 'exchange' AND kind = 'operation'"  # noqa: S608 - as above
            " AND strpos(record, '\"pruned_by\":') > 0"
        )
        return [row["record"].encode() for row in rows]

    async def forget(self, month: Month, *, records: int) -> None:
        """Drop the tables of *month*; raises ArchiveUnusable.

        It also raises if the role does not own the tables, or if there are more than *records* records by now.
        """
        table, lookups = partitions(month)
        async with self._connected() as connection, connection.transaction():
            # Sinks insert through this table, which they lock first, so they wait from here on.
            await connection.execute("LOCK TABLE ONLY payproxy.records IN ACCESS EXCLUSIVE MODE", timeout=QUERY_SECONDS)
            if await connection.fetchval(f"SELECT count(*) FROM {table}", timeout=QUERY_SECONDS) > records:  # noqa: S608 - a name of our own
                raise MonthGrew(month)
            others = f"SELECT count(*) FROM {table} WHERE id < $1 OR id >= $2"  # noqa: S608 - a name of our own
            if await connection.fetchval(others, _hex(month.first_id), _hex(month.end_id), timeout=QUERY_SECONDS):
                raise ArchiveUnusable(f"{table} holds records of other months, so that it was not deleted")
            await connection.execute(f"DROP TABLE {table}, {lookups}", timeout=QUERY_SECONDS)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _lately(self, received: datetime) -> list[Any]:
        """Return id and receive time of the records received since _LATE before *received*."""
        return await self._fetch(
            "SELECT id::text AS id, received FROM payproxy.records WHERE received >= $1", received - _LATE
        )

    async def _fetch(self, statement: str, *values: object) -> list[Any]:
        async with self._connected() as connection:
            rows: list[Any] = await connection.fetch(statement, *values, timeout=self._seconds + _GRACE_SECONDS)
            return rows

    async def _opened(self) -> asyncpg.Connection:
        seconds = min(CONNECT_SECONDS, self._seconds)
        async with asyncio.timeout(2 * seconds):
            connection = await connect(self._url, seconds=seconds)
            try:
                # Not as a parameter of the connection: poolers refuse those that they don't know.
                await connection.execute(f"SET statement_timeout = {1000 * self._seconds:.0f}", timeout=seconds)
            except BaseException:
                connection.terminate()
                raise
            return connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        with _errors_as(ArchiveUnusable):
            try:
                if self._connection is None:
                    self._connection = await self._opened()
                async with asyncio.timeout(QUERY_SECONDS):
                    yield self._connection
            except ERRORS:
                await self.close()
                raise


def postgres_lines(url: Secret) -> Iterator[Line]:
    """Yield all records in the database at *url*, for verification; raises CopyUnreadable.

    The sequence number orders each chain. They are not ordered by instance: a chain continues under another name if its
    host was renamed. This runs its own loop: none may be running.
    """
    with asyncio.Runner() as runner, _errors_as(CopyUnreadable):
        connection = runner.run(connect(url, seconds=CONNECT_SECONDS))
        try:
            # One snapshot, sorted once by the server.
            runner.run(connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            cursor = runner.run(_cursor(connection))
            while rows := runner.run(cursor.fetch(_ROWS, timeout=_SORT_SECONDS)):
                unfound = runner.run(_without_lookup(connection, rows))
                for row in rows:
                    yield Line(row["record"].encode(), f"database row {row['id']}", differs=_differences(row, unfound))
        finally:
            connection.terminate()


async def _cursor(connection: asyncpg.Connection) -> asyncpg.cursor.Cursor:
    return await connection.cursor(
        f"SELECT {', '.join(COLUMNS)} FROM payproxy.records ORDER BY sequence, instance",  # noqa: S608 - names of our own
        timeout=_SORT_SECONDS,
    )


def _differences(row: asyncpg.Record, unfound: frozenset[bytes]) -> str:
    """Return how columns and lookups of *row* differ from its record; *unfound* are ids without a lookup."""
    own = columns_of(group_of(row["record"].encode()).rows[0])
    found = [own[0] if own[2] == UNREADABLE else row["id"].bytes, *(row[name] for name in COLUMNS[1:])]
    lookups = "lookups lack what finds it by its index values" if row["id"].bytes in unfound else ""
    return ", ".join(filter(None, [differences(COLUMNS, found, own), lookups]))


async def _without_lookup(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> frozenset[bytes]:
    """Return the ids of those *rows* for which a lookup of an index value is missing."""
    entries = [entry for row in rows for entry in group_of(row["record"].encode()).entries]
    found = await connection.fetch(
        "SELECT given.id FROM unnest($1::bytea[], $2::bytea[]) AS given (key, id) LEFT JOIN payproxy.lookups AS l"
        " ON l.key = given.key AND l.id = encode(given.id, 'hex')::uuid WHERE l.id IS NULL",
        [entry[:KEY_BYTES] for entry in entries],
        [entry[KEY_BYTES:] for entry in entries],
        timeout=_SORT_SECONDS,
    )
    return frozenset(row["id"] for row in found)


@contextmanager
def _errors_as(unusable: type[Exception]) -> Iterator[None]:
    """Raise errors of the database as *unusable*, with a text that is safe to show."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
        raise unusable("the database has no records yet, or not in a schema called payproxy") from None
    except ERRORS as error:
        raise unusable(error_text(error)) from None


def _offers(query: Query) -> Iterator[list[tuple[Any, ...]]]:
    """Yield for each condition of *query* that an index finds, else for all records, statements with their values.

    Ids of matching records are among those that the statements of each condition find together.
    """
    for one in query.indexed:
        yield [("SELECT id FROM payproxy.lookups WHERE key = $3", key) for key in _keys(one)]
    if query.indexed:
        return
    by_index = _rare(query)
    if query.caller:
        yield [("SELECT id FROM payproxy.records WHERE caller = $3", query.caller)]
    else:
        yield [(f"SELECT id FROM payproxy.records WHERE {' AND '.join(by_index) or 'true'}",)]  # noqa: S608 - no values


def _rare(query: Query) -> list[str]:
    """Return the terms of the index of rare records that *query* implies."""
    terms = ["sent_upstream = 'unknown'"] if query.sent == "unknown" else []
    terms += ["status >= 500"] if query.status is not None and query.status.low >= 500 else []
    return terms + (["kind <> 'exchange'"] if query.kind not in {"", "exchange"} else [])


def _keys(one: Indexed) -> list[bytes]:
    return [value_key(value.encode(errors="replace")) for value in one.values]


class _Terms:
    """The conditions of a WHERE clause, with numbered parameters."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.values: list[object] = []

    def add(self, text: str, value: object) -> None:
        self.values.append(value)
        self.texts.append(text.format(f"${len(self.values)}"))


def _hex(record_id: bytes) -> str:
    """Return *record_id* in a form that PostgreSQL reads as uuid."""
    return record_id.hex()


def _hash_in(record: str) -> str:
    link = link_of(record.encode())
    return link.hash if link is not None else ""
