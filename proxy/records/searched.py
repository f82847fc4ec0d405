"""Check that search columns and lookups of the databases match the records: someone may have changed them alone."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from proxy.records.sinks.row import ENTRY_BYTES, UNREADABLE, Counts, Group, Row, TallyKey, groups
from proxy.records.sinks.sqlite_file import EARLIER_RARE, objects, unchanged_objects

COLUMNS = ("id", "kind", "caller", "status", "sent_upstream")
_MOST_FAULTS = 3
# Of months that ended before: without tallies, as there were no migrations, and 4xx not among the rare records.
_EARLIER = {"table tallies": None, "index records_rare": EARLIER_RARE}


def group_of(line: bytes) -> Group:
    """Return what a database keeps for the record *line*: a row, lookup entries by its index values, a count."""
    (group,) = groups([line])
    return group


def differences(names: Sequence[str], found: Sequence[object], own: Sequence[object]) -> str:
    """Return in words how the columns *found* differ from the record's content, "" if they don't."""
    found_and_own = zip(names, found, own, strict=True)
    return ", ".join(
        f"{name} is {_shown(value)} in the table and {_shown(right)} in the record"
        for name, value, right in found_and_own
        if value != right
    )


def same_id(found: bytes, row: Row) -> bytes:
    """Return the id that *row* should have: an unreadable line got the time of the record before it."""
    return found[:6] + row[0][6:] if row[1] == UNREADABLE else row[0]


class SealCheck:
    """Checks that all lookup entries are in their seals; call `take` in row order."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._seals: list[tuple[int, int]] = connection.execute(
            "SELECT seal, last_row FROM seals ORDER BY last_row, seal"
        ).fetchall()
        self._needed: set[bytes] = set()

    def take(self, row: int, entries: Sequence[bytes]) -> Iterator[str]:
        """Take the *entries* of row number *row*; yield the faults of seals that end before it."""
        while self._seals and row > self._seals[0][1]:
            yield from self._end()
        if self._seals:
            self._needed.update(entries)

    def finish(self) -> Iterator[str]:
        """Yield the faults of the remaining seals."""
        while self._seals:
            yield from self._end()

    def _end(self) -> Iterator[str]:
        seal, last_row = self._seals.pop(0)
        have: set[bytes] = set()
        previous = b""
        ordered = True
        for first, piece in self._connection.execute(
            "SELECT first, entries FROM lookups WHERE seal = ? ORDER BY first", (seal,)
        ):
            entries = [bytes(piece[at : at + ENTRY_BYTES]) for at in range(0, len(piece), ENTRY_BYTES)]
            ordered = ordered and bool(entries) and entries[0] == first and previous < entries[0]
            ordered = ordered and entries == sorted(set(entries))
            previous = entries[-1] if entries else previous
            have.update(entries)
        lacking = len(self._needed - have)
        self._needed.clear()
        if lacking or not ordered:
            what = f"lack {lacking} entries" if lacking else "are not in order"
            yield f"the lookups of rows up to {last_row} {what}: records are not found by their index values"


class TallyCheck:
    """Checks the month's tallies, which `migration plan` and `migration report` read, against the records."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._own: dict[TallyKey, Counts] = {}

    def take(self, tallies: Mapping[TallyKey, Counts]) -> None:
        """Add the counts of a record."""
        for key, counts in tallies.items():
            own = self._own.setdefault(key, Counts())
            own.results = [one + more for one, more in zip(own.results, counts.results, strict=True)]
            own.last_id = max(own.last_id, counts.last_id)

    def finish(self) -> Iterator[str]:
        """Yield the faults; none if the table is missing, as in months from before migrations existed."""
        if "table tallies" not in objects(self._connection):
            return
        own = {key: counts.columns for key, counts in self._own.items()}
        wrong = 0
        first = ""
        for route, side, credential, caller, day, *counts in self._connection.execute(
            "SELECT route, side, credential, caller, day, requests, other, held_back, failed, client_errors, fine, last"
            " FROM tallies ORDER BY route, side, credential, caller, day"
        ):
            right = own.pop((route, side, credential, caller, day), None)
            if right != tuple(counts):
                wrong += 1
                first = first or f"of {caller!r} on {route!r} {_counted(counts)}, by the records {_counted(right)}"
        for (route, _, _, caller, _), right in own.items():
            wrong += 1
            first = first or f"of {caller!r} on {route!r} nothing, by the records {_counted(right)}"
        if wrong:
            yield f"tallies differ from the records in {wrong} rows, so that plan and report are wrong: {first}"


def _counted(counts: Sequence[object] | None) -> str:
    if counts is None:
        return "nothing"
    requests, _, held_back, failed, client_errors, fine, _ = counts
    return f"{requests} requests ({held_back} held back, {failed} failed, {client_errors} client errors, {fine} fine)"


def damage(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the faults of the file itself: modified tables or indexes, and damage."""
    wanted, found = unchanged_objects(), objects(connection)
    if not found:
        return
    for name in sorted(wanted.keys() | found.keys()):
        if found.get(name) not in (wanted.get(name), _EARLIER.get(name, "")):
            what = "is missing" if name not in found else "is not the proxy's"
            yield f"{name} {what}: what is searched for may not be found"
    for (damage_text,) in connection.execute(f"PRAGMA integrity_check({_MOST_FAULTS})"):
        if damage_text != "ok":
            yield f"the file is damaged: {damage_text}"


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
