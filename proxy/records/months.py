"""Months, by which the databases partition records: a record's id is a UUIDv7 (RFC 9562 5.7), which holds its time.

Ids sort by time, in milliseconds since the epoch. A time range is an id range, everywhere.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

ID_BYTES = 16
_LAST_MILLISECOND = (1 << 48) - 1


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def begin(self) -> float:
        """Return its first instant, in epoch seconds."""
        return datetime(self.year, self.number, 1, tzinfo=UTC).timestamp()

    @property
    def next(self) -> "Month":
        """Return the following month."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def first_id(self) -> bytes:
        """Return the lower bound of this month's ids (included)."""
        return id_floor(self.begin)

    @property
    def end_id(self) -> bytes:
        """Return the upper bound of this month's ids (excluded)."""
        return id_floor(self.next.begin)


def month_at(seconds: float) -> Month:
    """Return the month of epoch *seconds*; raises ValueError for a year that datetime does not support."""
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError):
        raise ValueError("no such year") from None
    return Month(at.year, at.month)


def month_of(record_id: bytes) -> Month:
    """Return the month of the 16 bytes of *record_id*; raises ValueError if it is no UUIDv7 of a valid year."""
    if len(record_id) != ID_BYTES or record_id[6] >> 4 != 7:
        raise ValueError("no UUIDv7")
    return month_at(time_of(record_id))


def time_of(record_id: bytes) -> float:
    """Return the start time of the record with that id, in epoch seconds."""
    return int.from_bytes(record_id[:6], "big") / 1000


def parse_month(text: str) -> Month | None:
    """Return the month written as YYYY-MM, or None."""
    year, dash, number = text.partition("-")
    if len(year) != 4 or len(number) != 2 or not dash or not (year + number).isdecimal():
        return None
    return Month(int(year), int(number)) if 1 <= int(number) <= 12 and int(year) else None


def id_floor(seconds: float) -> bytes:
    """Return the lower bound of all ids from epoch *seconds* on, to the millisecond."""
    milliseconds = min(max(int(seconds * 1000 + 0.0005), 0), _LAST_MILLISECOND)
    return milliseconds.to_bytes(6, "big") + bytes(10)


def id_member(record_id: bytes) -> bytes:
    """Return the member of a record with that id, as it is in the record's first bytes."""
    text = record_id.hex()
    return f'"id":"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"'.encode()
