"""The migration side of the log's requests, also from the time before the migration existed."""

from collections.abc import Iterable

from proxy.migration.side import Side
from proxy.records.tally import Tally
from proxy.settings.worker_values import MigrationValues

LEGACY_DAYS = 35
SEEN_DAYS = 400


def side_of(tally: Tally, values: MigrationValues) -> Side | None:
    """Return the side of *tally*, None for neither.

    Before its rules had a migration, the credential determines the side; if both sides share it, that was legacy.
    """
    if tally.side:
        return Side(tally.side) if tally.side in set(Side) else None
    if tally.credential == values.legacy.credential:
        return Side.LEGACY
    return Side.MODERN if tally.credential == values.modern.credential else None


def on_side(tallies: Iterable[Tally], side: Side, values: MigrationValues) -> list[Tally]:
    """Return those of *tallies* that are on *side* and on the migration's routes."""
    return [one for one in tallies if one.route in values.routes and side_of(one, values) is side]
