import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import timestamp
from proxy.errors import Sent
from proxy.records.line import EXCHANGE, EXCHANGE_ID, INTENT, INTENT_ID
from proxy.records.mask import Mask
from proxy.records.record import LONGEST_TEXT, RecordBuilder, cut
from proxy.records.unknown import unknown_exchange
from tests.records.support import CONTEXT, NOW, Attempt, Exchange

BUILDER = RecordBuilder(CONTEXT, Mask(bytes(32)))
# request-log.md's list; sequence, previous_hash and hash come with the stream.
FIELDS = [
    "kind",
    "id",
    "version",
    "time",
    "environment",
    "instance",
    "caller",
    "caller_proof",
    "client_address",
    "method",
    "route",
    "path",
    "query_keys",
    "upstream",
    "credential",
    "audience",
    "side",
    "why",
    "attempts",
    "status",
    "origin",
    "code",
    "cause",
    "sent_upstream",
    "replayed",
    "note",
    "caller_left",
    "duration_ms",
    "overhead_ms",
    "request_bytes",
    "response_bytes",
    "body_hmac",
    "index",
    "config_digest",
]
CARD = "4111111111111111"


def record_of(exchange: Exchange) -> dict[str, Any]:
    """Return the record of *exchange*, parsed."""
    record: dict[str, Any] = json.loads(BUILDER.exchange(exchange))
    return record


def test_a_record_has_all_fields_in_their_order() -> None:
    """Also the empty ones: a reader may count on each."""
    assert list(record_of(Exchange())) == FIELDS
    assert list(record_of(Exchange(attempts=[], path="", route=""))) == FIELDS


def test_a_record_tells_the_exchange() -> None:
    """Times are UTC with microseconds, durations milliseconds, the overhead is what the proxy took itself."""
    record = record_of(Exchange(attempts=[Attempt(status=401), Attempt(number=2)], replayed=True))

    assert record["time"] == "2027-01-15T08:00:00.123456Z"
    assert record["duration_ms"] == 12.5
    assert record["overhead_ms"] == 0.5
    assert [attempt["status"] for attempt in record["attempts"]] == [401, 200]
    assert record["attempts"][0] == {
        "started": "2027-01-15T08:00:00.124456Z",
        "status": 401,
        "token_fingerprint": "0123456789abcdef",
        "sent": "yes",
        "connect_ms": 0.0,
        "wait_ms": 12.346,
        "side": "modern",
    }


def test_kind_and_id_can_be_cut_out_of_a_line() -> None:
    """The shipper parses nothing."""
    exchange = Exchange()
    intent, record = BUILDER.intent(exchange, exchange.attempts[0]), BUILDER.exchange(exchange)

    assert intent.startswith(INTENT)
    assert record.startswith(EXCHANGE)
    assert intent[INTENT_ID] == record[EXCHANGE_ID] == exchange.id.encode()


@pytest.mark.parametrize(
    "exchange",
    [
        Exchange(path=f"/cards/{CARD}"),
        Exchange(query_keys=(CARD,)),
        Exchange(cause=f"the endpoint said {CARD}"),
        Exchange(index=(("Idempotency-Key", CARD),)),
    ],
)
def test_strings_from_outside_are_masked(exchange: Exchange) -> None:
    """Path, names of query parameters, causes and index values hide a card number, in intents too."""
    for line in (BUILDER.exchange(exchange), BUILDER.intent(exchange, exchange.attempts[0])):
        assert CARD.encode() not in line


def test_an_index_header_given_twice_has_both_values() -> None:
    """As a list header would (RFC 9110 5.3)."""
    assert record_of(Exchange(index=(("merchantId", "1"), ("merchantId", "2"))))["index"] == {"merchantId": "1, 2"}


@given(st.floats(1_000_000_000, 4_000_000_000))
def test_times_are_written_as_the_clock_writes_them(seconds: float) -> None:
    """The cached second changes nothing, but for the rounding of half a microsecond."""
    written = record_of(Exchange(began_wall=seconds))["time"]

    assert written in {timestamp(seconds), timestamp(seconds + 5e-7), timestamp(seconds - 5e-7)}


@given(st.integers(0, 300))
def test_a_long_text_is_cut_where_nothing_is_half_in(shift: int) -> None:
    """A card number at the cut is either whole, and masked, or gone; fifteen of its digits would not be masked."""
    path = "/" + "x" * (LONGEST_TEXT - shift) + f"/{CARD}/" + "y" * 500

    written = record_of(Exchange(path=path))["path"]

    assert len(written) <= LONGEST_TEXT + 1
    assert CARD[:12] not in written
    assert CARD in cut(path) or CARD[:5] not in cut(path)


def test_an_exchange_without_an_end_is_unknown() -> None:
    """All that its intents knew is kept; the first attempt had an answer, since there was a second one."""
    exchange = Exchange(index=(("merchant-id", "7"),))
    intents = [json.loads(BUILDER.intent(exchange, Attempt(number=number))) for number in (1, 2)]

    record = json.loads(unknown_exchange(intents))

    assert list(record) == FIELDS
    assert record["id"] == exchange.id
    assert record["time"] == timestamp(NOW)
    assert record["sent_upstream"] == Sent.UNKNOWN
    assert record["note"] == "worker_ended"
    assert [attempt["sent"] for attempt in record["attempts"]] == ["yes", "unknown"]
    assert record["index"] == {"merchant-id": "7"}


def test_what_is_rendered_once_is_the_same_again() -> None:
    """Remembered parts belong to the exchange whose line they are set into, and stay within bounds."""
    exchanges = [
        Exchange(caller=f"c{number}", path=f"/p/{number}", method="M" * (number % 64)) for number in range(1500)
    ]
    builder = RecordBuilder(CONTEXT, Mask(bytes(32)))
    for exchange in (*exchanges, *exchanges[-100:]):
        assert builder.exchange(exchange) == RecordBuilder(CONTEXT, Mask(bytes(32))).exchange(exchange)
    builder.exchange(Exchange(path="/" + "a" * 1000))

    assert len(builder._rendered) <= 1024
    assert len(builder._paths) <= 1024
    assert max(map(len, builder._paths)) < 1000
