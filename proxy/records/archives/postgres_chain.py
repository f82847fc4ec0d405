"""Read all records of the central database for verification, ordered by sequence number, which orders each chain.

They are not ordered by instance: a chain continues under another name if its host was renamed.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence

import asyncpg

from proxy.records.copies import CopyUnreadable, Line
from proxy.records.searched import differences, group_of
from proxy.records.sinks.postgres import COLUMNS, columns_of, connect, told
from proxy.records.sinks.row import KEY_BYTES, UNREADABLE
from proxy.secret import Secret

CONNECT_SECONDS = 5.0
_SORT_SECONDS = 3600.0
_ROWS = 5000


def postgres_lines(url: Secret) -> Iterator[Line]:
    """Yield the records in the database at *url*; raises CopyUnreadable. It runs its own loop: none may be running."""
    with asyncio.Runner() as runner:
        try:
            connection = runner.run(connect(url, seconds=CONNECT_SECONDS))
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CopyUnreadable(told(error)) from None
        try:
            # One snapshot, sorted once by the server.
            runner.run(connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            cursor = runner.run(_cursor(connection))
            while rows := runner.run(cursor.fetch(_ROWS, timeout=_SORT_SECONDS)):
                yield from _checked(rows, lacking=runner.run(_lacking(connection, rows)))
        except asyncpg.UndefinedTableError:
            raise CopyUnreadable("the database has no records yet, or not in a schema called payproxy") from None
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CopyUnreadable(told(error)) from None
        finally:
            connection.terminate()


async def _cursor(connection: asyncpg.Connection) -> asyncpg.cursor.Cursor:
    return await connection.cursor(
        f"SELECT {', '.join(COLUMNS)} FROM payproxy.records ORDER BY sequence, instance",  # noqa: S608 - names of our own
        timeout=_SORT_SECONDS,
    )


def _checked(rows: Sequence[asyncpg.Record], *, lacking: Collection[bytes]) -> Iterator[Line]:
    """Yield the lines of *rows*, with their differences from columns and lookups; *lacking* are ids without lookup."""
    for row in rows:
        text = row["record"].encode()
        own = columns_of(group_of(text).rows[0])
        found = [row["id"].bytes, *(row[name] for name in COLUMNS[1:])]
        found[0] = own[0] if own[2] == UNREADABLE else found[0]
        differs = differences(COLUMNS, found, own)
        if row["id"].bytes in lacking:
            differs = ", ".join(filter(None, [differs, "lookups lack what finds it by its index values"]))
        yield Line(text, f"database row {row['id']}", differs=differs)


async def _lacking(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> frozenset[bytes]:
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
