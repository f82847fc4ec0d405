"""What the databases keep of a record beside its bytes: its id, and what people search by."""

import hashlib
import json
from binascii import unhexlify
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from proxy.records.line import EXCHANGE, EXCHANGE_ID
from proxy.records.months import ID_BYTES, Month, month_of
from proxy.records.tally import DAY_SECONDS, Came, came_of

KEY_BYTES = 8
ENTRY_BYTES = KEY_BYTES + ID_BYTES
UNREADABLE = "unreadable"

# Id, kind, caller, status, sent_upstream and the record itself. A plain tuple: one with names takes 0.4 us more.
Row = tuple[bytes, str, str, int, str, bytes]

# Rule, side, credential where there is no side, caller, and the day since the epoch in UTC.
TallyKey = tuple[str, str, str, str, int]
# How many requests there were, then of each how many: see `Came`; and the last one's epoch milliseconds.
Counts = list[int]
# An exchange or another record: id, row, index values by name, key without the day ("" first: not counted), what came.
Told = tuple[bytes, Row, Mapping[str, str], tuple[str, str, str, str], Came]
_DAY_MILLISECONDS = DAY_SECONDS * 1000
_LAST = len(Came) + 1


@dataclass(slots=True)
class Group:
    """Rows of one month, an entry (key and id) for each of their index values, and how many there are of what."""

    month: Month
    rows: list[Row] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    tallies: dict[TallyKey, Counts] = field(default_factory=dict)


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
            if line.startswith(EXCHANGE):
                record_id, row, index, key, came = _told(line)
            else:
                record_id, row, index, key, came = _other(line)
            if not first <= record_id < end or record_id[6] >> 4 != 7:
                group = _group(made, month_of(record_id))
                first, end = group.month.first_id, group.month.end_id
                add, entries = group.rows.append, group.entries
            for value in index.values():
                entries.append(value_key(value.encode()) + record_id)
                if ", " in value:
                    # A header that was given twice is found by each value, and by both.
                    entries += [value_key(part.encode()) + record_id for part in value.split(", ")]
            if key[0]:
                _count(group.tallies, key, came, int.from_bytes(record_id[:6], "big"))
            add(row)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            if not made:
                group = _group(made, _EARLIEST)
                add, entries = group.rows.append, group.entries
            add(_unreadable(line, group))
    return made


def _told(line: bytes) -> Told:
    """Return what is told by the record of an exchange, without parsing it whole.

    Its members are in the order in which `RecordBuilder` writes them, and a name with its quotes can't stand in a
    value, where quotes are escaped: each is found by searching on from the one before. Who asked whom and what came of
    it are the same for many exchanges, so that their texts are parsed once: 1.9 us instead of 3.5, without orjson 9.
    """
    find = line.find
    path = find(b',"path":', _PLACE)
    upstream = find(b',"upstream":', path)
    attempts = find(b',"attempts":[', upstream)
    outcome = find(b'],"status":', attempts)
    replayed = find(b',"replayed":', outcome)
    index = find(b',"index":{', replayed)
    if index < 0:
        return _parsed(line)
    index += len(',"index":')
    try:
        caller, route = _asked(line[_PLACE:path])
        credential, side = _chosen(line[upstream + 1 : attempts])
        status, sent, came = _outcome(line[outcome + 2 : replayed])
        values = _NONE
        if not line.startswith(b"{}", index):
            values = decode(line[index : find(b',"config_digest":', index)])
    except (ValueError, KeyError):
        return _parsed(line)
    record_id = unhexlify(line[EXCHANGE_ID].replace(b"-", b""))
    return (
        record_id,
        (record_id, "exchange", caller, status, sent, line),
        values,
        (route, side, credential, caller),
        came,
    )


def _parsed(line: bytes) -> Told:
    """Return what is told by the record of an exchange with other members, or other places for them."""
    record = decode(line)
    record_id = unhexlify(record["id"].replace("-", ""))
    caller, side = record["caller"], record["side"]
    row = (record_id, "exchange", caller, record["status"], record["sent_upstream"], line)
    key = (record["route"], side, "" if side else record["credential"], caller)
    return record_id, row, record.get("index") or _NONE, key, came_of(record)


def _other(line: bytes) -> Told:
    """Return what is told by a record that is not of an exchange."""
    record = decode(line)
    record_id = unhexlify(record["id"].replace("-", ""))
    row = (record_id, str(record["kind"]), str(record.get("caller", "")), 0, "", line)
    return record_id, row, record.get("index") or _NONE, _NO_KEY, Came.OTHER


@lru_cache(maxsize=1024)
def _asked(members: bytes) -> tuple[str, str]:
    values = decode(b"{%b}" % members)
    return values["caller"], values["route"]


@lru_cache(maxsize=1024)
def _chosen(members: bytes) -> tuple[str, str]:
    values = decode(b"{%b}" % members)
    return "" if values["side"] else values["credential"], values["side"]


@lru_cache(maxsize=1024)
def _outcome(members: bytes) -> tuple[int, str, Came]:
    values = decode(b"{%b}" % members)
    return values["status"], values["sent_upstream"], came_of(values)


def _count(tallies: dict[TallyKey, Counts], key: tuple[str, str, str, str], came: Came, milliseconds: int) -> None:
    day = (*key, milliseconds // _DAY_MILLISECONDS)
    counts = tallies.get(day)
    if counts is None:
        counts = tallies[day] = [0] * (_LAST + 1)
    counts[0] += 1
    counts[1 + came] += 1
    counts[_LAST] = max(counts[_LAST], milliseconds)


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


# Behind kind, id, version and time.
_PLACE = EXCHANGE_ID.stop + len('","version":1,"time":"2027-01-15T08:00:00.000000Z",')
_NONE: Mapping[str, str] = {}
_NO_KEY = ("", "", "", "")

# For broken lines that no record goes before.
_EARLIEST = Month(2000, 1)
