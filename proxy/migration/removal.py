"""Checks whether a migration's table may be removed or replaced by another; pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.clock import timestamp
from proxy.migration.state import FULL, MigrationState

_MODERN = "modern"

# By side: how many retry pins are valid, and when (epoch seconds) the last one ends.
OpenPins = Mapping[str, tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A migration's table: *sides* is "LEGACY to MODERN" (credentials); *pins*: some callers are pinned to modern."""

    routes: tuple[str, ...]
    sides: str
    pins: bool = False


def modern_stays(state: MigrationState) -> bool:
    """Return whether the routes of a finished migration should keep the modern credential."""
    return 2 * state.weight >= FULL


def pins_in_words(pins: OpenPins) -> str:
    """Return, in words, how many retry pins are open and until when, "" if there is none."""
    if not pins:
        return ""
    number = sum(count for count, _ in pins.values())
    until = timestamp(max(until for _, until in pins.values()))[:19] + "Z"
    sides = " and ".join(f"{count} to {side}" for side, (count, _) in sorted(pins.items()))
    return (
        f"{number} retry pin{'' if number == 1 else 's'} ({sides}), the last until {until}: payments whose outcome is "
        "not certain, whose retry must go to the side of its first try"
    )


def objection(
    name: str,
    state: MigrationState,
    *,
    before: Table,
    after: Table | None,
    credentials: Mapping[str, str],
    pins: OpenPins,
    forced: bool,
) -> str:
    """Return why the table *name* must not become *after* (None: it is removed), "" if it may.

    *before* was in force last. *credentials* are those of all routes of the new configuration, by route name. *forced*:
    an operator finished the migration despite open pins.
    """
    # An earlier payproxy did not save the sides of a table that has never moved a caller.
    kept = after is not None and (state.sides or before.sides) in {"", after.sides}
    gone = [route for route in before.routes if route in credentials and not (kept and after and route in after.routes)]
    if kept and not gone:
        return ""
    what = f"migrations.{name} is taken away" if after is None else f"migrations.{name} becomes another table"
    if kept:
        what = f"migrations.{name} loses the route {', '.join(gone)}"
    if not state.version and not before.pins and not pins:
        return ""  # it has never moved a caller
    if not state.finished:
        open_pins = f"; there are {pins_in_words(pins)}" if pins else ""
        return (
            f"{what}, and it is not finished: its weight is {state.weight}{open_pins}. Put it back, and run "
            f"`payproxy migration finish {name} --reason ...` first{' (--force with open retry pins)' if pins else ''}"
        )
    legacy, _, modern = state.sides.partition(" to ")
    stays, leaves = (modern, legacy) if modern_stays(state) else (legacy, modern)
    # A retry that must go to the remaining side goes there even without its pin.
    astray = {
        side: found for side, found in pins.items() if after is not None or (side == _MODERN) != (stays == modern)
    }
    if astray and not forced:
        return (
            f"{what}, and there are {pins_in_words(astray)}. Put it back and wait until then, or run "
            f"`payproxy migration finish {name} --force --reason ...`"
        )
    wrong = [route for route in gone if credentials[route] == leaves != stays]
    if wrong and after is None:
        return (
            f"{what}, and with it the route {', '.join(wrong)} would go back to the credential {leaves}: the migration "
            f'was finished at weight {state.weight}. Write credential = "{stays}" there'
        )
    return ""
