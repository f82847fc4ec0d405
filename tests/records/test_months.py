from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.entropy import SystemEntropy, uuid7
from proxy.records.months import Month, id_floor, month_at, month_of, parse_month

NOVEMBER = Month(2026, 11)


def id_at(seconds: float) -> bytes:
    """Return a new id of *seconds*."""
    return bytes.fromhex(uuid7(SystemEntropy(), seconds).replace("-", ""))


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(9998, 12, 31)))  # noqa: DTZ001 - made UTC below
def test_an_id_lies_in_its_month(when: datetime) -> None:
    """And between the month's bounds, which are those of its neighbours."""
    at = when.replace(tzinfo=UTC).timestamp()
    month = month_of(id_at(at))

    assert month == month_at(int(at * 1000) / 1000)
    assert month.first_id <= id_at(at) < month.end_id == month.next.first_id


def test_the_turn_of_a_year() -> None:
    """December is followed by January."""
    assert Month(2026, 12).next == Month(2027, 1)
    assert NOVEMBER.next == Month(2026, 12)
    assert str(NOVEMBER) == "2026-11"


@given(st.floats(min_value=0, max_value=1e10), st.floats(min_value=0, max_value=1e10))
@example(4398046512.015999, 0.0)
@example(1790000000.0159998, 1790000000.016)
def test_ids_sort_by_time(one: float, other: float) -> None:
    """To the millisecond: the floor of a time is under its ids and over all earlier ones."""
    assert id_floor(one) <= id_at(one)
    if int(one * 1000 + 0.0005) < int(other * 1000 + 0.0005):
        assert id_at(one) < id_floor(other)


@pytest.mark.parametrize("bad", [b"", b"\0" * 16, b"\xff" * 16, b"\0" * 6 + b"\x40" + b"\0" * 9, b"\0" * 15])
def test_what_is_no_uuid7_has_no_month(bad: bytes) -> None:
    """Nor has a year after 9999."""
    with pytest.raises(ValueError, match="no "):
        month_of(bad)
    with pytest.raises(ValueError, match="year"):
        month_of(b"\xff" * 6 + b"\x70" + b"\0" * 9)


@pytest.mark.parametrize(
    ("text", "month"),
    [
        ("2026-11", NOVEMBER),
        ("2026-13", None),
        ("2026-00", None),
        ("0000-01", None),
        ("2026-1", None),
        ("2026-11-24", None),
        ("", None),
        ("abcd-ef", None),
    ],
)
def test_months_as_people_write_them(text: str, month: Month | None) -> None:
    """Four digits, a dash, two digits."""
    assert parse_month(text) == month
