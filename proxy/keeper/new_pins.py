"""Objects to callers that a configuration pins to modern while a payment of theirs may be sent again."""

from collections.abc import Callable, Iterable, Mapping

from proxy.clock import timestamp
from proxy.migration.pin import PIN_SECONDS
from proxy.records.query import Archive, ArchiveUnusable
from proxy.records.unpinned import unpinned
from proxy.settings.stores import UrlUnusable
from proxy.settings.worker_values import MigrationValues


def in_new_tables(tables: Iterable[MigrationValues], *, known: Mapping[str, MigrationValues]) -> str:
    """Return which of *tables*, by a reload, is new with callers pinned to modern, "" if none is.

    What its rules have in flight or sent before has no retry pin. *known* are the tables in force.
    """
    for one in tables:
        if one.pinned_modern and one.name not in known:
            return (
                f"migrations.{one.name} is new, and its pin.modern would move {', '.join(one.pinned_modern)} at once: "
                "a payment that is in flight, or whose outcome is not certain, could be sent again on the modern side. "
                "Add the table without pin.modern first, and pin them a day later"
            )
    return ""


async def before_tables(
    tables: Iterable[MigrationValues],
    *,
    known: Mapping[str, MigrationValues],
    archive: Callable[[], Archive | None],
    now: float,
    write_line: Callable[[str], None],
) -> str:
    """Return which callers that *tables* pin to modern, and *known* do not, had a request without a retry pin.

    One of the last 24 h with an uncertain outcome, by the log that *archive* opens; "" if there is none. If the log
    can't be read, that is said, and nothing is objected to. *now* in epoch seconds.
    """
    for one in tables:
        before = known[one.name].pinned_modern if one.name in known else ()
        callers = {*one.pinned_modern} - {*before}
        ends = await _ends(one, callers, archive, since=now - PIN_SECONDS, write_line=write_line) if callers else []
        if ends:
            number = f"{len(ends)} request{'' if len(ends) == 1 else 's'}"
            return (
                f"migrations.{one.name}: pin.modern would move {', '.join(sorted(callers))}, of whom {number} whose "
                f"outcome is not certain came before that table: a retry could be a second payment until "
                f"{timestamp(max(ends) + PIN_SECONDS)[:19]}Z. Pin them after that"
            )
    return ""


async def _ends(
    table: MigrationValues,
    callers: set[str],
    archive: Callable[[], Archive | None],
    *,
    since: float,
    write_line: Callable[[str], None],
) -> list[float]:
    opened: Archive | None = None
    try:
        opened = archive()
        return [] if opened is None else (await unpinned(opened, table.routes, since=since, callers=callers))[0]
    except (ArchiveUnusable, UrlUnusable) as error:
        write_line(f"migrations.{table.name}: whether pin.modern moves retries can't be told: {error}")
        return []
    finally:
        if opened is not None:
            await opened.close()
