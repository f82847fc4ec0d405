"""Sink to PostgreSQL, the central database of several instances; it may be down for as long as the spool lasts."""

import asyncio
import contextlib
from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from proxy.records.months import Month
from proxy.records.sinks.postgres_schema import INSERT_LOOKUPS, INSERT_RECORDS, SCHEMA
from proxy.records.sinks.row import KEY_BYTES, UNREADABLE, Row, decode, groups
from proxy.records.sinks.sink import SinkUnavailable, postgres_target
from proxy.secret import Secret

CONNECT_SECONDS = 5.0
# If the server takes longer for a batch of two megabytes, the batch counts as failed and comes again.
BATCH_SECONDS = 20.0
CLOSE_SECONDS = 2.0
APPLICATION = "payproxy"

# What a connection raises; the last three for a URL that can't be parsed, or a malformed response.
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, EOFError)

# What the server, or asyncpg before it, refuses for what is in a batch, not for its own state (SQLSTATE 22, 54, 53200).
_FOR_CONTENT = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.OutOfMemoryError)
# An index entry has at most 2,704 bytes (a third of a page): so long may each of the four texts in `records_side` be.
_COLUMN_BYTES = 512

# As in INSERT_RECORDS.
COLUMNS = (
    *("id", "time", "kind", "instance", "sequence", "caller", "route", "status", "side", "origin", "sent_upstream"),
    "record",
)
Record = tuple[bytes, datetime, str, str, int, str, str, int, str, str, str, str]
# A month, the columns of its `records`, and those of its `lookups` if there are index values.
_Month = tuple[Month, list[Any], list[Any]]


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
        try:
            await self._write_or_divide(batch)
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

    async def _write_or_divide(self, batch: list[bytes]) -> None:
        """Write *batch*; if its content is refused, each half by itself, down to the record that is to blame.

        That one is written as an unreadable line, so that it holds up none behind it. If that is refused too, the fault
        is the database's.
        """
        made = await asyncio.to_thread(_prepared, batch)
        connection = await self._connected()
        try:
            await self._write(connection, made)
        except _FOR_CONTENT as error:
            middle = len(batch) // 2
            if middle:
                await self._write_or_divide(batch[:middle])
                await self._write_or_divide(batch[middle:])
            elif isinstance(error, asyncpg.OutOfMemoryError):
                raise
            else:
                made = await asyncio.to_thread(_as_unreadable, batch[0])
                await self._write(await self._connected(), made)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None:
            async with asyncio.timeout(self._batch_seconds + CONNECT_SECONDS):
                self._connection = await connect(self._url, seconds=CONNECT_SECONDS)
                try:
                    await _make_tables(self._connection)
                except BaseException:
                    self._give_up()
                    raise
        return self._connection

    async def _write(self, connection: asyncpg.Connection, made: list[_Month]) -> None:
        try:
            async with asyncio.timeout(self._batch_seconds):
                await self._insert(connection, made)
        except _FOR_CONTENT:
            self._months.clear()
            await self._roll_back(connection)
            raise
        except BaseException:
            # The cached months may be wrong, too: someone may have dropped one.
            self._months.clear()
            self._give_up()
            raise
        self._months.update(month for month, _, _ in made)

    async def _insert(self, connection: asyncpg.Connection, made: list[_Month]) -> None:
        execute, seconds = connection.execute, self._batch_seconds
        # Explicit statements: asyncpg's transactions wait for the server when they are cancelled.
        await execute("BEGIN", timeout=seconds)
        for month, records, lookups in made:
            if month not in self._months:
                await execute("SELECT payproxy.add_month($1)", date(month.year, month.number, 1), timeout=seconds)
            await execute(INSERT_RECORDS, *records, timeout=seconds)
            if lookups:
                await execute(INSERT_LOOKUPS, *lookups, timeout=seconds)
        await execute("COMMIT", timeout=seconds)

    async def _roll_back(self, connection: asyncpg.Connection) -> None:
        try:
            await connection.execute("ROLLBACK", timeout=self._batch_seconds)
        except BaseException:
            self._give_up()
            raise

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


def _prepared(batch: list[bytes]) -> list[_Month]:
    """Return for each month of *batch* the columns of `records` and, if there are index values, of `lookups`."""
    made = []
    for group in groups(batch):
        records = [list(column) for column in zip(*map(columns_of, group.rows), strict=True)]
        lookups = [[entry[:KEY_BYTES] for entry in group.entries], [entry[KEY_BYTES:] for entry in group.entries]]
        made.append((group.month, records, lookups if group.entries else []))
    return made


def _as_unreadable(line: bytes) -> list[_Month]:
    """Return what `_prepared` does for a line whose content the server refuses: no column has any of it.

    Its text is in ASCII, which each encoding of a database has.
    """
    (group,) = groups([line])
    record_id = group.rows[0][0]
    text = _text(line.decode("ascii", errors="backslashreplace"), most=len(line) * 4)
    columns = (record_id, _time_in(record_id), UNREADABLE, "", 0, "", "", 0, "", "", "", text)
    return [(group.month, [[value] for value in columns], [])]


def columns_of(row: Row) -> Record:
    """Return the values of COLUMNS for *row*."""
    record_id, kind, caller, status, sent, line = row
    try:
        record = decode(line)
    except (ValueError, RecursionError):
        record = {}
    get = record.get if isinstance(record, dict) else {}.get
    at = _time_in(record_id)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        given = datetime.fromisoformat(str(get("time")))
        # In UTC it may be before the year 1, or after 9999.
        at = given.astimezone(UTC) if given.tzinfo is not None else given.replace(tzinfo=UTC)
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
        _text(line.decode(errors="backslashreplace"), most=len(line) * 4),
    )


def _time_in(record_id: bytes) -> datetime:
    return datetime.fromtimestamp(int.from_bytes(record_id[:6], "big") / 1000, UTC)


def _text(value: object, *, most: int = _COLUMN_BYTES) -> str:
    """Return *value* as text that PostgreSQL accepts, cut after *most* bytes; what it refuses is written once more."""
    if not isinstance(value, str):
        return ""
    if len(value) <= most and value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode(errors="backslashreplace")[:most].decode(errors="ignore")


def _number(value: object, bits: int) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << bits else 0
