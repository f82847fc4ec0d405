"""A query of the request log, as a value: the databases narrow the candidates down, `matches` decides."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Protocol

from proxy.errors import MALFORMED
from proxy.records.mask import Mask
from proxy.records.months import Month, id_floor
from proxy.records.pruned_range import PrunedRange
from proxy.records.record import LONGEST_TEXT, cut
from proxy.records.sinks.row import decode
from proxy.records.tally import Tally

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_STATUS = re.compile(r"([1-5])xx|([0-9]{1,3})")

FIRST_ID = bytes(16)
END_ID = b"\xff" * 16


@dataclass(frozen=True, slots=True)
class StatusRange:
    """Statuses from *low* to *high*, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """A *value* of an index header, masked like those in records; *name* is in the form of `header_word`.

    *others* are further possible forms: masked with earlier keys, or with those of other instances.
    """

    name: str
    value: str
    others: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """Return all its possible forms."""
        return (self.value, *self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The records wanted; empty or None fields match all. Times are epoch seconds, *until* excluded."""

    kind: str = ""
    caller: str = ""
    route: str = ""
    side: str = ""
    origin: str = ""
    sent: str = ""
    status: StatusRange | None = None
    since: float | None = None
    until: float | None = None
    indexed: tuple[Indexed, ...] = ()

    @property
    def first_id(self) -> bytes:
        """Return the lower bound of the ids of wanted records (included)."""
        return FIRST_ID if self.since is None else id_floor(self.since)

    @property
    def end_id(self) -> bytes:
        """Return the upper bound of the ids of wanted records (excluded)."""
        return END_ID if self.until is None else id_floor(self.until)

    @property
    def plain(self) -> tuple[tuple[str, str], ...]:
        """Return the members that must match exactly, as pairs of name and value."""
        asked = (
            ("kind", self.kind),
            ("caller", self.caller),
            ("route", self.route),
            ("side", self.side),
            ("origin", self.origin),
            ("sent_upstream", self.sent),
        )
        return tuple((name, value) for name, value in asked if value)

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Return whether *record* matches, without its time: the caller checks that by the id."""
        if any(record.get(name) != value for name, value in self.plain):
            return False
        status = record.get("status", 0)
        if self.status is not None and not (
            isinstance(status, int) and "status" in record and self.status.low <= status <= self.status.high
        ):
            return False
        kept = [index for index in (record.get("index"), record.get("answer_index")) if isinstance(index, dict)]
        return all(any(_has(index, one) for index in kept) for one in self.indexed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Found records, the newest first, as stored; *before* is the start of the next page, None at the end.

    All records with ids from *before* on were searched.
    """

    records: list[bytes]
    before: bytes | None


# Asked now and then while a page is searched for; once it returns True, the page ends with what was found so far.
Enough = Callable[[], bool]


def all_of_it() -> bool:
    """Return False: search until the page is full, or to the end of the log."""
    return False


def for_seconds(seconds: float, monotonic: Callable[[], float]) -> Enough:
    """Return what ends a page *seconds* from now."""
    end = monotonic() + seconds
    return lambda: monotonic() >= end


class Archive(Protocol):
    """A database of records, as its readers use it; raises ArchiveUnusable."""

    async def page(self, query: Query, *, before: bytes | None, size: int, enough: Enough = all_of_it) -> Page:
        """Return at most *size* records that match *query* with ids before *before*.

        Fewer records don't mean the end: only a page without *before* is the last one. However soon it is *enough*,
        each page searches some records, so that who goes on page by page comes to the end.
        """

    async def by_id(self, record_id: bytes) -> bytes | None:
        """Return the record of that id, if there is one."""

    async def new_records(self) -> list[bytes]:
        """Return the records that came since the last call, in order of arrival; the first call returns none."""

    async def tallies(self, routes: Sequence[str], *, since: float) -> list[Tally]:
        """Return the outcome counts of the requests on *routes*, from the start of the UTC day of *since* on."""

    async def oldest(self) -> float | None:
        """Return the time of the oldest record, in epoch seconds; None if there is none."""

    async def months(self) -> list[Month]:
        """Return the months that exist, the oldest first."""

    async def ranges(self, month: Month) -> tuple[int, list[PrunedRange]]:
        """Return the number of records of *month*, and the ranges of each instance's chain that they cover."""

    async def prune_records(self, month: Month) -> list[bytes]:
        """Return the signed records in *month* that state what was pruned earlier: they are deleted with the month."""

    async def forget(self, month: Month, *, records: int) -> None:
        """Delete everything of *month*, unless there are more than *records* records by now."""

    async def close(self) -> None:
        """Close the database."""


class ArchiveUnusable(Exception):
    """The request log's database can't be read; the message is for people and names no secret."""


class MonthGrew(ArchiveUnusable):
    """A month has more records now than were to be deleted."""

    def __init__(self, month: Month) -> None:
        super().__init__(f"more records of {month} have just come, so that it was not deleted; try again")


def fitting(query: Query, line: bytes) -> dict[str, Any] | None:
    """Return the members of the record *line* if *query* matches it, else None, also if it can't be parsed."""
    try:
        record = decode(line)
        return record if isinstance(record, dict) and query.matches(record) and _in_time(query, record) else None
    except MALFORMED:
        return None


def _in_time(query: Query, record: Mapping[str, Any]) -> bool:
    if query.since is None and query.until is None:
        return True
    try:
        return query.first_id <= bytes.fromhex(record["id"].replace("-", "")) < query.end_id
    except (KeyError, ValueError, TypeError, AttributeError):
        return False


def header_word(name: str) -> str:
    """Return the header *name* in comparable form: `merchantId`, `merchant-id` and `Merchant_ID` are equal."""
    return name.lower().replace("-", "").replace("_", "")


def indexed(name: str, value: str, *masks: Mask | None) -> Indexed:
    """Return what finds records with the header *name* of *value*, cut and masked like `RecordBuilder` does."""
    kept = value if len(value) <= LONGEST_TEXT else cut(value)
    masked = dict.fromkeys(mask.index(kept) for mask in masks if mask is not None) or {kept: None}
    first, *others = masked
    return Indexed(header_word(name), first, tuple(others))


def parse_status(text: str) -> StatusRange:
    """Return the statuses that *text* names: 404, or 5xx; raises ValueError."""
    found = _STATUS.fullmatch(text.lower())
    if found is None:
        raise ValueError("a status is written like 404 or 5xx")
    if found[1]:
        return StatusRange(int(found[1]) * 100, int(found[1]) * 100 + 99)
    status = int(found[2])
    if status and not 100 <= status <= 599:
        raise ValueError("a status is 100 to 599, or 0 for none")
    return StatusRange(status, status)


def parse_time(text: str, *, now: float, zone: tzinfo | None = UTC) -> float:
    """Return the epoch seconds of *text*: a time ago (90s, 30m, 2h, 7d, 2w) or ISO 8601.

    A time without a zone is in *zone*, None for that of this machine. Raises ValueError.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now - int(ago[1]) * _SECONDS[ago[2]])
    try:
        at = datetime.fromisoformat(text)
        # Without a zone, timestamp() uses the machine's.
        return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError("a time is written like 2h, 7d, 2026-11-24 or 2026-11-24T09:30:00Z") from None


def _has(index: Mapping[str, Any], wanted: Indexed) -> bool:
    for name, value in index.items():
        if header_word(name) == wanted.name:
            given = {value, *str(value).split(", ")}
            if not given.isdisjoint(wanted.values):
                return True
    return False
