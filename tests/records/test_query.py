import json
from datetime import UTC, datetime

import pytest

from proxy.records.query import Indexed, Query, StatusRange, header_word, indexed, parse_status, parse_time
from tests.records.kept import MASK, operation, record
from tests.records.support import NOW

CARD = "4111 1111 1111 1111"


def test_a_query_that_asks_nothing_matches_everything() -> None:
    """Records of all kinds."""
    assert Query().matches(json.loads(record()))
    assert Query().matches(json.loads(operation()))


@pytest.mark.parametrize(
    ("query", "other"),
    [
        (Query(kind="exchange"), Query(kind="operation")),
        (Query(caller="erp"), Query(caller="crm")),
        (Query(route="payments"), Query(route="payment")),
        (Query(side="modern"), Query(side="legacy")),
        (Query(origin="bank"), Query(origin="proxy")),
        (Query(sent="yes"), Query(sent="unknown")),
        (Query(status=StatusRange(200, 200)), Query(status=StatusRange(201, 299))),
        (Query(indexed=(Indexed("merchantid", "998"),)), Query(indexed=(Indexed("merchantid", "99"),))),
        (Query(indexed=(Indexed("requestid", "a"),)), Query(indexed=(Indexed("requestid", "c"),))),
        (
            Query(caller="erp", indexed=(Indexed("merchantid", "998"), Indexed("requestid", "a, b"))),
            Query(caller="erp", indexed=(Indexed("merchantid", "998"), Indexed("merchantid", "a"))),
        ),
    ],
)
def test_every_filter_decides(query: Query, other: Query) -> None:
    """One value fits, another does not."""
    values = json.loads(record(index=(("merchantId", "998"), ("request-id", "a"), ("request-id", "b"))))

    assert query.matches(values)
    assert not other.matches(values)


def test_statuses_are_those_of_exchanges() -> None:
    """An operation has none, so it is not one without an answer."""
    assert not Query(status=StatusRange(0, 0)).matches(json.loads(operation()))


def test_header_names_are_compared_as_one_word() -> None:
    """As the bank's APIs spell them, in all their ways."""
    assert {header_word(name) for name in ("merchant-id", "merchantId", "Merchant_ID")} == {"merchantid"}


def test_values_are_masked_as_in_records() -> None:
    """Who has the card number finds the record that does not; who has the masked form too."""
    values = json.loads(record(index=(("merchant-id", CARD),)))
    kept = values["index"]["merchant-id"]

    assert CARD not in kept
    for given in (CARD, kept):
        assert Query(indexed=(indexed("merchant-id", given, MASK),)).matches(values)
    assert not Query(indexed=(indexed("merchant-id", CARD, None),)).matches(values)


def test_long_values_are_cut_as_in_records() -> None:
    """Who gives all of it finds what was kept of it."""
    long = "x-" * 3000

    assert Query(indexed=(indexed("request-id", long, MASK),)).matches(
        json.loads(record(index=(("request-id", long),)))
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("404", (404, 404)), ("5xx", (500, 599)), ("4XX", (400, 499)), ("0", (0, 0))],
)
def test_statuses_as_people_write_them(text: str, wanted: tuple[int, int]) -> None:
    """One, or a class."""
    assert parse_status(text) == StatusRange(*wanted)


@pytest.mark.parametrize("text", ["", "6xx", "5x", "five", "-1", "1000"])
def test_no_status(text: str) -> None:
    """It is said how one is written."""
    with pytest.raises(ValueError, match="5xx"):
        parse_status(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", NOW - 90),
        ("30m", NOW - 1800),
        ("2h", NOW - 7200),
        ("7d", NOW - 7 * 86400),
        ("2w", NOW - 14 * 86400),
        ("999999999w", 0.0),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC).timestamp()),
        ("2026-11-24T09:30:00Z", datetime(2026, 11, 24, 9, 30, tzinfo=UTC).timestamp()),
        ("2026-11-24T09:30:00+02:00", datetime(2026, 11, 24, 7, 30, tzinfo=UTC).timestamp()),
    ],
)
def test_times_as_people_write_them(text: str, wanted: float) -> None:
    """How long ago, or ISO 8601, in UTC unless it says otherwise."""
    assert parse_time(text, now=NOW) == wanted


@pytest.mark.parametrize("text", ["", "2 h", "h", "yesterday", "2026-13-01"])
def test_no_time(text: str) -> None:
    """It is said how one is written."""
    with pytest.raises(ValueError, match="2h"):
        parse_time(text, now=NOW)
