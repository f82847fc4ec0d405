"""Which side of a migration requests of the log were on, also of the time before there was the migration."""

from collections.abc import Iterable

from proxy.migration.side import Side
from proxy.records.tally import Tally
from proxy.settings.worker_values import MigrationValues

LEGACY_DAYS = 35
SEEN_DAYS = 400


def side_of(tally: Tally, values: MigrationValues) -> Side | None:
    """Return the side of *tally*, None if it was on neither.

    Before its rules had a migration the credential tells; where both sides have the same one, that was legacy.
    """
    if tally.side:
        return Side(tally.side) if tally.side in set(Side) else None
    if tally.credential == values.legacy.credential:
        return Side.LEGACY
    return Side.MODERN if tally.credential == values.modern.credential else None


def on_side(tallies: Iterable[Tally], side: Side, values: MigrationValues) -> list[Tally]:
    """Return those of *tallies* that were on *side*, by rule of the migration."""
    return [one for one in tallies if one.route in values.routes and side_of(one, values) is side]
