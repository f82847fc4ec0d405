"""What the databases keep of a record beside its bytes: its id, and what people search by."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.records.line import EXCHANGE
from proxy.records.months import ID_BYTES, Month, month_of

KEY_BYTES = 8
ENTRY_BYTES = KEY_BYTES + ID_BYTES
UNREADABLE = "unreadable"

# Id, kind, caller, status, sent_upstream and the record itself. A plain tuple: one with names takes 0.4 us more.
Row = tuple[bytes, str, str, int, str, bytes]


@dataclass(slots=True)
class Group:
    """Rows of one month, and an entry (key and id) for each of their index values."""

    month: Month
    rows: list[Row] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)


def _decoder() -> Callable[[bytes], Any]:
    try:
        import orjson  # noqa: PLC0415 - the [speed] extra; 2.3 us a record instead of 7.8
    except ImportError:
        return json.loads
    return orjson.loads


decode: Callable[[bytes], Any] = _decoder()


def value_key(value: bytes) -> bytes:
    """Return the key that records with this index value, in UTF-8, are found by; the record says whether it has it."""
    return hashlib.blake2b(value, digest_size=KEY_BYTES).digest()


def groups(batch: Iterable[bytes]) -> list[Group]:
    """Return the lines of *batch* by month, in their order; also what is broken is kept, found only by its time."""
    made: list[Group] = []
    group = Group(_EARLIEST)
    add, entries = group.rows.append, group.entries
    first, end = _EARLIEST.first_id, b""
    for line in batch:
        try:
            record = decode(line)
            get = record.get
            record_id = bytes.fromhex(record["id"].replace("-", ""))
            if not first <= record_id < end or record_id[6] >> 4 != 7:
                group = _group(made, month_of(record_id))
                first, end = group.month.first_id, group.month.end_id
                add, entries = group.rows.append, group.entries
            if line.startswith(EXCHANGE):
                row = (record_id, "exchange", record["caller"], record["status"], record["sent_upstream"], line)
            else:
                row = (record_id, str(record["kind"]), str(get("caller", "")), 0, "", line)
            index = get("index")
            if index:
                for value in index.values():
                    entries.append(value_key(value.encode()) + record_id)
                    if ", " in value:
                        # A header that was given twice is found by each value, and by both.
                        entries += [value_key(part.encode()) + record_id for part in value.split(", ")]
            add(row)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            if not made:
                group = _group(made, _EARLIEST)
                add, entries = group.rows.append, group.entries
            add(_unreadable(line, group))
    return made


def _group(made: list[Group], month: Month) -> Group:
    for group in made:
        if group.month == month:
            return group
    made.append(Group(month))
    return made[-1]


def _unreadable(line: bytes, group: Group) -> Row:
    """Return a row for what is no record: its id is made of its bytes, at the time of the record before it."""
    at = group.rows[-1][0] if group.rows else group.month.first_id
    made = at[:6] + b"\x7f" + hashlib.blake2b(line, digest_size=9).digest()
    return (made, UNREADABLE, "", 0, "", line)


# For broken lines that no record goes before.
_EARLIEST = Month(2000, 1)
