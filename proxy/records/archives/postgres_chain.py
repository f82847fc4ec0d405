"""All records of the central database in the order of their numbers, to be checked: so each chain is in its own.

Not instance by instance: a chain whose host came back under another name goes on under that.
"""

import asyncio
from collections.abc import Iterator

import asyncpg

from proxy.records.copies import CopyUnreadable, Line
from proxy.records.sinks.postgres import connect, told
from proxy.secret import Secret

CONNECT_SECONDS = 5.0
_SORT_SECONDS = 3600.0
_ROWS = 5000


def postgres_lines(url: Secret) -> Iterator[Line]:
    """Yield the records behind *url*; raises CopyUnreadable. It needs a loop of its own, so none may run here."""
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
                for row in rows:
                    yield Line(row["record"].encode(), f"database row {row['id']}")
        except asyncpg.UndefinedTableError:
            raise CopyUnreadable("the database has no records yet, or not in a schema called payproxy") from None
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CopyUnreadable(told(error)) from None
        finally:
            connection.terminate()


async def _cursor(connection: asyncpg.Connection) -> asyncpg.cursor.Cursor:
    return await connection.cursor(
        "SELECT id::text AS id, record FROM payproxy.records ORDER BY sequence, instance", timeout=_SORT_SECONDS
    )
