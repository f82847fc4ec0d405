"""Sink to PostgreSQL, the central database of several instances; it may be down for as long as the spool lasts."""

import asyncio
import contextlib
from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from proxy.records.months import Month
from proxy.records.sinks.postgres_schema import INSERT_LOOKUPS, INSERT_RECORDS, SCHEMA
from proxy.records.sinks.row import KEY_BYTES, Row, decode, groups
from proxy.records.sinks.sink import SinkUnavailable, postgres_target
from proxy.secret import Secret

CONNECT_SECONDS = 5.0
# If the server takes longer for a batch of two megabytes, the batch counts as failed and comes again.
BATCH_SECONDS = 20.0
CLOSE_SECONDS = 2.0
APPLICATION = "payproxy"

# What a connection raises; the last three for a URL that can't be parsed, or a malformed response.
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, EOFError)

# As in INSERT_RECORDS.
COLUMNS = (
    *("id", "time", "kind", "instance", "sequence", "caller", "route", "status", "side", "origin", "sent_upstream"),
    "record",
)
Record = tuple[bytes, datetime, str, str, int, str, str, int, str, str, str, str]


class PostgresSink:
    """Writes each batch in one transaction over one connection; existing ids stay unchanged.

    *url* may hold a password: it is passed to asyncpg only.
    """

    name = "database"

    def __init__(self, url: Secret, *, batch_seconds: float = BATCH_SECONDS) -> None:
        self._url = url
        self.target = postgres_target(url)
        self._batch_seconds = batch_seconds
        self._connection: asyncpg.Connection | None = None
        self._months: set[Month] = set()

    def __repr__(self) -> str:
        return f"<PostgresSink {'connected' if self._connection is not None else 'not connected'}>"

    async def write(self, batch: list[bytes]) -> None:
        """Write *batch*; returns after the server has committed it."""
        made = await asyncio.to_thread(_prepared, batch)
        try:
            async with asyncio.timeout(self._batch_seconds + CONNECT_SECONDS):
                await self._write(made)
        except SinkUnavailable:
            raise
        except ERRORS as error:
            raise SinkUnavailable(None, error_text(error)) from None

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=CLOSE_SECONDS)

    async def _write(self, made: list[tuple[Month, list[Any], list[Any]]]) -> None:
        connection = self._connection
        if connection is None:
            connection = self._connection = await connect(self._url, seconds=CONNECT_SECONDS)
            try:
                await _make_tables(connection)
            except BaseException:
                self._give_up()
                raise
        execute, seconds = connection.execute, self._batch_seconds
        try:
            # Explicit statements: asyncpg's transactions wait for the server when they are cancelled.
            await execute("BEGIN", timeout=seconds)
            for month, records, lookups in made:
                if month not in self._months:
                    await execute("SELECT payproxy.add_month($1)", date(month.year, month.number, 1), timeout=seconds)
                await execute(INSERT_RECORDS, *records, timeout=seconds)
                if lookups:
                    await execute(INSERT_LOOKUPS, *lookups, timeout=seconds)
            await execute("COMMIT", timeout=seconds)
        except BaseException:
            # The cached months may be wrong, too: someone may have dropped one.
            self._months.clear()
            self._give_up()
            raise
        self._months.update(month for month, _, _ in made)

    def _give_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def connect(url: Secret, *, seconds: float) -> asyncpg.Connection:
    """Return a connection to *url*; raises ERRORS."""
    return await asyncpg.connect(
        url.reveal(), timeout=seconds, command_timeout=seconds, server_settings={"application_name": APPLICATION}
    )


def error_text(error: BaseException) -> str:
    """Return a text for *error* that is safe to show: no data and no part of the URL."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, asyncpg.PostgresError):
        return f"the database refused: {type(error).__name__} ({getattr(error, 'sqlstate', None) or 'no code'})"
    if isinstance(error, OSError):
        return f"the database can't be reached: {error.strerror or type(error).__name__}"
    return f"the database's URL can't be used ({type(error).__name__})"


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "the database does not answer in time"),
    (asyncpg.QueryCanceledError, "the database did not get done in time, and has given up"),
    (
        asyncpg.InvalidAuthorizationSpecificationError,  # also for a wrong password
        "the database does not let this role in: wrong password, or no line for it in pg_hba.conf",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "the database's role lacks a right; config/postgres.sql has what it needs",
    ),
    (asyncpg.InvalidCatalogNameError, "there is no such database on the server"),
    (asyncpg.InterfaceError, "the connection to the database broke, or its URL can't be used"),
)


async def _make_tables(connection: asyncpg.Connection) -> None:
    # Not to_regclass: a role without rights on the schema can't call it.
    if await connection.fetchval("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'payproxy'"):
        return
    try:
        # One string is one transaction; the lock is for two instances that start at once.
        await connection.execute(f"SELECT pg_advisory_xact_lock(hashtext('payproxy.schema')); {SCHEMA}")
    except asyncpg.InsufficientPrivilegeError:
        raise SinkUnavailable(
            None,
            "the database has no tables yet and this role may not make them; have their owner run config/postgres.sql",
        ) from None


def _prepared(batch: list[bytes]) -> list[tuple[Month, list[Any], list[Any]]]:
    """Return for each month of *batch* the columns of `records` and, if there are index values, of `lookups`."""
    made = []
    for group in groups(batch):
        records = [list(column) for column in zip(*map(columns_of, group.rows), strict=True)]
        lookups = [[entry[:KEY_BYTES] for entry in group.entries], [entry[KEY_BYTES:] for entry in group.entries]]
        made.append((group.month, records, lookups if group.entries else []))
    return made


def columns_of(row: Row) -> Record:
    """Return the values of COLUMNS for *row*."""
    record_id, kind, caller, status, sent, line = row
    try:
        record = decode(line)
    except ValueError:
        record = {}
    get = record.get if isinstance(record, dict) else {}.get
    at = datetime.fromtimestamp(int.from_bytes(record_id[:6], "big") / 1000, UTC)
    with contextlib.suppress(TypeError, ValueError):
        at = datetime.fromisoformat(str(get("time")))
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return (
        record_id,
        at,
        _text(kind),
        _text(get("instance")),
        _number(get("sequence"), 63),
        _text(caller),
        _text(get("route")),
        _number(status, 31),
        _text(get("side")),
        _text(get("origin")),
        _text(sent),
        _text(line.decode(errors="backslashreplace")),
    )


def _text(value: object) -> str:
    """Return *value* as text that PostgreSQL accepts: one refused string would block all later records."""
    if not isinstance(value, str):
        return ""
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode(errors="backslashreplace").decode()


def _number(value: object, bits: int) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << bits else 0
