import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxy.forwarding
from proxy.clock import timestamp
from proxy.errors import ProxyError, Sent
from proxy.records.json_line import EXCHANGE, EXCHANGE_ID, INTENT, INTENT_ID
from proxy.records.mask import Mask
from proxy.records.record import LONGEST_TEXT, RecordBuilder, cut
from proxy.records.unanswered import unanswered_exchange
from proxy.request_summary import RequestSummary
from tests.records.support import CONTEXT, NOW, an_attempt, an_exchange

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
    "upstream_url",
    "credential",
    "client_digest",
    "audience",
    "side",
    "why",
    "index",
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
    "config_digest",
]
CARD = "4111111111111111"


def record_of(exchange: RequestSummary) -> dict[str, Any]:
    """Return the record of *exchange*, parsed."""
    record: dict[str, Any] = json.loads(BUILDER.exchange(exchange))
    return record


def test_a_record_has_all_fields_in_their_order() -> None:
    """Also the empty ones: a reader may count on each."""
    assert list(record_of(an_exchange())) == FIELDS
    assert list(record_of(an_exchange(attempts=[], path="", route=""))) == FIELDS


def test_a_record_tells_the_exchange() -> None:
    """Times are UTC with microseconds, durations milliseconds, the overhead is what the proxy took itself."""
    record = record_of(an_exchange(attempts=[an_attempt(status=401), an_attempt(number=2)], replayed=True))

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


TEXTS = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ['"', "\\", '","status":1,"x":"', ""]
)


SENT_BY = ("route", "upstream", "upstream_url", "credential", "client_digest", "audience", "why")


@given(
    st.fixed_dictionaries(dict.fromkeys(("caller", "client_address", "method", "path", "cause", "retry"), TEXTS)),
    st.fixed_dictionaries(dict.fromkeys(SENT_BY, TEXTS)),
    st.lists(TEXTS.filter(lambda name: "&" not in name and "=" not in name), min_size=1, max_size=3),
    st.lists(st.tuples(TEXTS, TEXTS), max_size=2, unique_by=lambda pair: pair[0].encode(errors="backslashreplace")),
    st.sampled_from(["", "legacy", "modern"]),
)
def test_a_line_says_what_was_given(
    asked: dict[str, str], chosen: dict[str, str], keys: list[str], index: list[tuple[str, str]], side: str
) -> None:
    """No text changes a line's shape: intent and record parse to what the standard library would have written."""
    attempt = an_attempt(side=side, status=504, sent=Sent.UNKNOWN, connect_ms=0.25)
    query = "?" + "&".join(f"{name}=secret" for name in keys)
    changes: dict[str, Any] = {**asked, **chosen, "side": side, "query": query, "index": tuple(index)}
    exchange = an_exchange(**changes, attempts=[attempt])
    beginning = {
        "id": exchange.id, "version": 1, "time": timestamp(NOW), "environment": "mock", "instance": "host-1"
    }  # fmt: skip
    parties = {
        "caller": asked["caller"], "caller_proof": "network+key", "client_address": asked["client_address"],
        "method": asked["method"], "path": asked["path"], "query_keys": keys,
        "side": side, **chosen,
    }  # fmt: skip
    sent = {
        "started": timestamp(NOW + 0.001), "status": 504, "token_fingerprint": "0123456789abcdef", "sent": "unknown",
        "connect_ms": 0.25, "wait_ms": 12.346,
    }  # fmt: skip
    end = {"body_hmac": "", "index": dict(index), "config_digest": CONTEXT.config_digest}
    if asked["retry"]:
        end["retry"] = asked["retry"]

    assert json.loads(BUILDER.intent(exchange, attempt)) == readable({
        "kind": "intent", **beginning, "attempt": 1, "started": sent["started"],
        "token_fingerprint": sent["token_fingerprint"], **parties, "request_bytes": 1024, **end,
    })  # fmt: skip
    assert json.loads(BUILDER.exchange(exchange)) == readable({
        "kind": "exchange", **beginning, **parties, "attempts": [sent | ({"side": side} if side else {})],
        "status": 200, "origin": "bank", "code": "", "cause": asked["cause"], "sent_upstream": "unknown",
        "replayed": False, "note": "", "caller_left": False, "duration_ms": 12.5, "overhead_ms": 0.5,
        "request_bytes": 1024, "response_bytes": 541, **end,
    })  # fmt: skip


def readable(value: Any) -> Any:
    """Return *value* with bytes that are no UTF-8, which travel as lone surrogates, as escapes."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {readable(name): readable(member) for name, member in value.items()}
    return [readable(member) for member in value] if isinstance(value, list) else value


@given(st.floats(0, 300), st.floats(0, 300))
def test_milliseconds_have_three_decimals_and_are_never_negative(seconds: float, waited: float) -> None:
    """Rounded to the microsecond; what was waited for may be measured as a little more than the whole."""
    exchange = an_exchange(started=0.0, finished=seconds, waited=waited, attempts=[an_attempt(wait_ms=waited * 1000)])
    written = re.findall(rb'"(\w+_ms)":([0-9]+\.[0-9]{3})[,}]', BUILDER.exchange(exchange))

    assert [name for name, _ in written] == [b"connect_ms", b"wait_ms", b"duration_ms", b"overhead_ms"]
    for (_, given_ms), expected in zip(written, (0, waited, seconds, max(seconds - waited, 0)), strict=True):
        assert abs(float(given_ms) - expected * 1000) < 0.000501


def test_kind_and_id_can_be_cut_out_of_a_line() -> None:
    """The shipper parses nothing."""
    exchange = an_exchange()
    intent, record = BUILDER.intent(exchange, exchange.attempts[0]), BUILDER.exchange(exchange)

    assert intent.startswith(INTENT)
    assert record.startswith(EXCHANGE)
    assert intent[INTENT_ID] == record[EXCHANGE_ID] == exchange.id.encode()


@pytest.mark.parametrize(
    "exchange",
    [
        an_exchange(path=f"/cards/{CARD}"),
        an_exchange(query=f"?{CARD}=1"),
        an_exchange(cause=f"the endpoint said {CARD}"),
        an_exchange(index=(("Idempotency-Key", CARD),)),
        an_exchange(answer_index=(("request-id", CARD),)),
    ],
)
def test_strings_from_outside_are_masked(exchange: RequestSummary) -> None:
    """Path, names of query parameters, causes and index values hide a card number, in intents too."""
    for line in (BUILDER.exchange(exchange), BUILDER.intent(exchange, exchange.attempts[0])):
        assert CARD.encode() not in line


def test_an_index_header_given_twice_has_both_values() -> None:
    """As a list header would (RFC 9110 5.3)."""
    assert record_of(an_exchange(index=(("merchantId", "1"), ("merchantId", "2"))))["index"] == {"merchantId": "1, 2"}


@given(st.floats(1_000_000_000, 4_000_000_000))
def test_times_are_written_as_the_clock_writes_them(seconds: float) -> None:
    """The cached second changes nothing, but for the rounding of half a microsecond."""
    written = record_of(an_exchange(started_wall=seconds))["time"]

    assert written in {timestamp(seconds), timestamp(seconds + 5e-7), timestamp(seconds - 5e-7)}


@given(st.integers(0, 300))
def test_a_long_text_is_cut_where_nothing_is_half_in(shift: int) -> None:
    """A card number at the cut is either whole, and masked, or gone; fifteen of its digits would not be masked."""
    path = "/" + "x" * (LONGEST_TEXT - shift) + f"/{CARD}/" + "y" * 500

    written = record_of(an_exchange(path=path))["path"]

    assert len(written) <= LONGEST_TEXT + 1
    assert CARD[:12] not in written
    assert CARD in cut(path) or CARD[:5] not in cut(path)


def test_an_exchange_without_an_end_is_unknown() -> None:
    """All that its intents knew is kept; how the first attempt ended stands in the second one's."""
    exchange = an_exchange(index=(("merchant-id", "7"),), attempts=[an_attempt(status=401)])
    intents = [json.loads(BUILDER.intent(exchange, an_attempt(number=number))) for number in (1, 2)]

    record = json.loads(unanswered_exchange(intents, ended=NOW + 100))

    assert [name for name in record if name != "ended"] == FIELDS
    assert (record["ended"], record["duration_ms"]) == (timestamp(NOW + 100), 0.0)
    assert record["id"] == exchange.id
    assert record["time"] == timestamp(NOW)
    assert record["sent_upstream"] == Sent.UNKNOWN
    assert record["note"] == "worker_ended"
    ends = [(attempt["sent"], attempt["status"], attempt["side"]) for attempt in record["attempts"]]
    assert ends == [("yes", 401, "modern"), ("unknown", 0, "modern")]
    assert record["index"] == {"merchant-id": "7"}

    del intents[1]["previous"]  # as an earlier payproxy wrote it
    earlier = json.loads(unanswered_exchange(intents, ended=NOW))
    assert [(attempt["sent"], attempt["status"]) for attempt in earlier["attempts"]] == [("yes", 0), ("unknown", 0)]


def test_what_is_rendered_once_is_the_same_again() -> None:
    """Remembered parts belong to the exchange whose line they are set into, and stay within bounds."""
    exchanges = [
        an_exchange(caller=f"c{number}", path=f"/p/{number}", method="M" * (number % 64)) for number in range(1500)
    ]
    builder = RecordBuilder(CONTEXT, Mask(bytes(32)))
    for exchange in (*exchanges, *exchanges[-100:]):
        assert builder.exchange(exchange) == RecordBuilder(CONTEXT, Mask(bytes(32))).exchange(exchange)
    builder.exchange(an_exchange(path="/" + "a" * 1000))

    assert len(builder._asked) <= 1024
    assert len(builder._paths) <= 1024
    assert max(map(len, builder._paths)) < 1000


def kinds(of: type[ProxyError]) -> Iterator[type[ProxyError]]:
    """Give *of* and all that are derived from it."""
    yield of
    for each in of.__subclasses__():
        yield from kinds(each)


def notes() -> Iterator[object]:
    """Give all that the data path writes into a record's note; an error's code is one of `kinds`."""
    (folder,) = proxy.forwarding.__path__
    for file in sorted(Path(folder).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Attribute) and target.attr == "note" for target in node.targets
            ):
                yield from written(node.value, file.stem)


def written(value: ast.expr, module: str) -> Iterator[object]:
    """Give what *value*, an expression in *module* of the data path, may be."""
    if isinstance(value, ast.IfExp):
        yield from written(value.body, module)
        yield from written(value.orelse, module)
    elif isinstance(value, ast.Name):
        yield getattr(importlib.import_module(f"proxy.forwarding.{module}"), value.id)
    elif ast.unparse(value) != "error.code":
        yield ast.literal_eval(value)


def test_what_stands_in_a_record_as_it_is_needs_no_escapes() -> None:
    """Codes and notes are put between quotes without a look: they are ours, and words."""
    importlib.import_module("proxy.worker.main")  # whoever derives an error is loaded by it
    codes, said = [each.code for each in kinds(ProxyError)], list(notes())
    assert {"bad_request", "upstream_timeout"} <= set(codes)
    assert {"facade_token", "fell_back", "legacy_token_refused"} <= set(said)
    for word in (*codes, *said):
        assert re.fullmatch("[a-z_]+", str(word)), word


def test_when_the_caller_left() -> None:
    """In milliseconds from its beginning, where that was seen; else nothing is said of when."""
    seen = json.loads(BUILDER.exchange(an_exchange(caller_left=True, left_at=100.0021)))
    unseen = json.loads(BUILDER.exchange(an_exchange(caller_left=True)))

    assert (seen["caller_left"], seen["caller_left_ms"]) == (True, 2.1)
    assert "caller_left_ms" not in unseen
