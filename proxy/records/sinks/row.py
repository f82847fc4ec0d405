"""What the databases store of a record beside its bytes: its id and the search columns."""

import hashlib
import json
from binascii import unhexlify
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from proxy.errors import MALFORMED
from proxy.records.json_line import EXCHANGE, EXCHANGE_ID
from proxy.records.months import ID_BYTES, Month, id_floor, month_of
from proxy.records.tally import DAY_SECONDS
from proxy.result import Result, result_of

KEY_BYTES: Final = 8
ENTRY_BYTES: Final = KEY_BYTES + ID_BYTES
UNREADABLE: Final = "unreadable"

# Id, kind, caller, status, sent_upstream and the record itself. A plain tuple: a named one takes 0.4 us more.
Row = tuple[bytes, str, str, int, str, bytes]

# Rule, side, credential if there is no side, caller, and the UTC day since the epoch.
TallyKey = tuple[str, str, str, str, int]
_DAY_MILLISECONDS: Final = DAY_SECONDS * 1000


@dataclass(slots=True)
class Counts:
    """Numbers of requests by outcome (`Result`), and the id of the last one."""

    results: list[int] = field(default_factory=lambda: [0] * len(Result))
    last_id: bytes = b""

    @property
    def columns(self) -> tuple[int, ...]:
        """Return the number of requests, the number per outcome, and the time of the last one in epoch milliseconds."""
        return (sum(self.results), *self.results, _milliseconds(self.last_id))


@dataclass(slots=True)
class Group:
    """Rows of one month, a lookup entry (key and id) for each index value, and the outcome counts."""

    month: Month
    rows: list[Row] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    tallies: dict[TallyKey, Counts] = field(default_factory=dict)


class _Facts:
    """Values that many records of a batch share, and the counts for those of *day*."""

    __slots__ = ("caller", "counts", "credential", "day", "kind", "result", "route", "sent", "side", "status")

    def __init__(self, kind: str, caller: str) -> None:
        self.kind = kind
        self.caller = caller
        self.status = 0
        self.sent = ""
        # "": not counted.
        self.route = ""
        self.side = ""
        self.credential = ""
        self.result = 0
        self.day = -1
        self.counts = _NOT_COUNTED


_NOT_COUNTED: Final = Counts()
# The members of an exchange's record about caller, choice and outcome, as texts.
_Members = tuple[str, str, str]
# A record's id, its shared facts, and its index values by name.
_Found = tuple[bytes, _Facts, Mapping[str, str]]


def _decoder() -> Callable[[bytes], Any]:
    try:
        import orjson  # noqa: PLC0415 - the [speed] extra; 2.3 us a record instead of 7.8
    except ImportError:
        return plain_decoder
    return orjson.loads


def plain_decoder(text: bytes) -> Any:
    """Return the JSON *text* by the standard library, as strict as orjson: UTF-8 without NaN; raises ValueError."""
    return _PLAIN.decode(text.decode())


def _refuse(constant: str) -> None:
    raise ValueError(constant)


# `json.loads` would also take UTF-16 and UTF-32, which no database has as text.
_PLAIN: Final = json.JSONDecoder(parse_constant=_refuse)
decode: Callable[[bytes], Any] = _decoder()


def value_key(value: bytes) -> bytes:
    """Return the lookup key of an index value in UTF-8; keys can collide, so the record itself must be checked."""
    return hashlib.blake2b(value, digest_size=KEY_BYTES).digest()


def groups(batch: Iterable[bytes]) -> list[Group]:
    """Return the lines of *batch* by month, in their order; unreadable lines are kept, searchable by time only."""
    made: list[Group] = []
    group = Group(_EARLIEST)
    add, entries = group.rows.append, group.entries
    day, first, end = -1, b"", b""
    seen: dict[_Members, _Facts] = {}
    for line in batch:
        try:
            if line.startswith(EXCHANGE):
                record_id, facts, index = _facts_of(line, seen)
            else:
                record_id, facts, index = _other(line)
            if not first <= record_id < end or record_id[6] >> 4 != 7:
                group = _group(made, month_of(record_id))
                add, entries = group.rows.append, group.entries
                day = _milliseconds(record_id) // _DAY_MILLISECONDS
                first, end = id_floor(day * DAY_SECONDS), id_floor((day + 1) * DAY_SECONDS)
            if index:
                _enter(index, record_id, entries)
            if facts.route:
                if facts.day != day:
                    facts.day, facts.counts = day, _counts(group, facts, day)
                counts = facts.counts
                counts.results[facts.result] += 1
                counts.last_id = max(counts.last_id, record_id)
            add((record_id, facts.kind, facts.caller, facts.status, facts.sent, line))
        except MALFORMED:
            if not made:
                group = _group(made, _EARLIEST)
                add, entries = group.rows.append, group.entries
            add(_unreadable(line, group))
    return made


def _facts_of(line: bytes, seen: dict[_Members, _Facts]) -> _Found:
    """Return id, facts and index values of an exchange's record, without parsing it whole.

    Its members are in the order in which `RecordBuilder` writes them, and a quoted name can't occur in a value, where
    quotes are escaped: each search starts at the previous hit. Caller, choice and outcome repeat within a batch, so
    their texts are parsed once.
    """
    # One character per byte keeps positions equal. In compiled code, a search in str takes a third of one in bytes,
    # which is a call by name: 1.5 us a record instead of 4.2.
    text = line.decode("latin-1")
    path = text.find(',"path":', _PLACE)
    upstream = text.find(',"upstream":', path)
    index = text.find(',"index":{', upstream)
    attempts = text.find(',"attempts":[', index)
    outcome = text.find('],"status":', attempts)
    replayed = text.find(',"replayed":', outcome)
    if replayed < 0:
        return _parsed(line)
    members = (text[_PLACE:path], text[upstream + 1 : index], text[outcome + 2 : replayed])
    facts = seen.get(members)
    if facts is None:
        try:
            facts = seen[members] = _facts(_values(members[0]), _values(members[1]), _values(members[2]))
        except (ValueError, KeyError):
            return _parsed(line)
    values = _NONE
    index += len(',"index":')
    if line[index + 1] != _BRACE:
        try:
            values = decode(line[index:attempts])
        except ValueError:
            return _parsed(line)
    answered = text.find(',"answer_index":{', replayed)
    if answered >= 0:
        try:
            more = decode(line[answered + len(',"answer_index":') : text.find(',"duration_ms":', answered)])
        except ValueError:
            return _parsed(line)
        return unhexlify(text[_ID_AT:_ID_END].replace("-", "")), facts, _both(values, more)
    return unhexlify(text[_ID_AT:_ID_END].replace("-", "")), facts, values


def _parsed(line: bytes) -> _Found:
    """Return the same for an exchange's record with other members, or in another order."""
    record = decode(line)
    values = record.get("index") or _NONE
    if "answer_index" in record:
        values = _both(values, record["answer_index"])
    return unhexlify(record["id"].replace("-", "")), _facts(record, record, record), values


def _other(line: bytes) -> _Found:
    """Return the same for a record that is not of an exchange."""
    record = decode(line)
    facts = _Facts(str(record["kind"]), str(record.get("caller", "")))
    return unhexlify(record["id"].replace("-", "")), facts, record.get("index") or _NONE


def _both(asked: Mapping[str, str], answered: Mapping[str, str]) -> Mapping[str, str]:
    """Return the index values of request and response, which share one lookup; their names don't matter here."""
    return {**asked, **{f"answer {name}": value for name, value in answered.items()}}


@lru_cache(maxsize=1024)
def _values(members: str) -> dict[str, Any]:
    values: dict[str, Any] = decode(b"{%b}" % members.encode("latin-1"))
    return values


def _facts(asked: dict[str, Any], chosen: dict[str, Any], outcome: dict[str, Any]) -> _Facts:
    facts = _Facts("exchange", asked["caller"])
    facts.route = asked["route"]
    facts.side = chosen["side"]
    facts.credential = "" if facts.side else chosen["credential"]
    facts.status = outcome["status"]
    facts.sent = outcome["sent_upstream"]
    # No database stores other numbers, other types (TypeError) or lone surrogates (ValueError).
    if not 0 <= facts.status <= _MOST_STATUS:
        raise ValueError
    (facts.caller + facts.sent + facts.route + facts.side + facts.credential).encode()
    facts.result = result_of(outcome["status"], outcome["code"], bank=outcome["origin"] == "bank")
    return facts


def _enter(index: Mapping[str, str], record_id: bytes, entries: list[bytes]) -> None:
    before = len(entries)
    for value in index.values():
        entries.append(value_key(value.encode()) + record_id)
        if ", " in value:
            # A repeated header is found by each value, and by all joined.
            entries += [value_key(part.encode()) + record_id for part in value.split(", ")]
    if len(entries) > before + 1:
        # A value repeated a hundred times is entered once.
        entries[before:] = dict.fromkeys(entries[before:])


def _counts(group: Group, facts: _Facts, day: int) -> Counts:
    key = (facts.route, facts.side, facts.credential, facts.caller, day)
    counts = group.tallies.get(key)
    if counts is None:
        counts = group.tallies[key] = Counts()
    return counts


def _milliseconds(record_id: bytes) -> int:
    return int.from_bytes(record_id[:6], "big")


def _group(made: list[Group], month: Month) -> Group:
    for group in made:
        if group.month == month:
            return group
    made.append(Group(month))
    return made[-1]


def _unreadable(line: bytes, group: Group) -> Row:
    """Return a row for an unreadable line: its id is made of its bytes, at the time of the record before it."""
    at = group.rows[-1][0] if group.rows else group.month.first_id
    made = at[:6] + b"\x7f" + hashlib.blake2b(line, digest_size=9).digest()
    return (made, UNREADABLE, "", 0, "", line)


_ID_AT: Final = EXCHANGE_ID.start
_ID_END: Final = EXCHANGE_ID.stop
# After kind, id, version and time.
_PLACE: Final = _ID_END + len('","version":1,"time":"2027-01-15T08:00:00.000000Z",')
_BRACE: Final = ord("}")
_MOST_STATUS: Final = 999
_NONE: Final[Mapping[str, str]] = {}

# For unreadable lines without a record before them.
_EARLIEST: Final = Month(2000, 1)
