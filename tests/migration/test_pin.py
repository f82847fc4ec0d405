"""By what a retry is known again."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.pin import RETRY_HEADERS, Reason, RetryPin, merge, merged, retry_digest, retry_key
from proxy.migration.side import Side

TEXTS = st.text(max_size=20).filter(lambda text: "\0" not in text)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], ""),
        ([(b"Accept", b"a")], ""),
        ([(b"Idempotency-Key", b"")], ""),
        ([(b"IDEMPOTENCY-KEY", b"i")], "i"),
        ([(b"request-id", b"r"), (b"Idempotency-Key", b"i")], "i"),
        ([(b"requestId", b"r2"), (b"request-id", b"r1")], "r1"),
        ([(b"X-Request-ID", b"x"), (b"requestId", b"r2")], "r2"),
        ([(b"x-request-id", b"x")], "x"),
        ([(b"Idempotency-Key", b""), (b"request-id", b"r")], "r"),
        ([(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b")], "a"),
        ([(b"Idempotency-Key", b"\xe4")], "ä"),
    ],
)
def test_the_best_name_of_a_request(headers: list[tuple[bytes, bytes]], key: str) -> None:
    """What the bank deduplicates by comes first, an empty one is none, and spelling plays no part."""
    assert retry_key(headers) == key


def test_the_order_of_headers_plays_no_part() -> None:
    """A retry may come through another library, which sorts them."""
    headers = [(name, name) for name in RETRY_HEADERS]
    assert {retry_key(order) for order in permutations(headers)} == {"idempotency-key"}


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_a_digest_belongs_to_one_request(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Migration, caller and key can't slip over into each other, and the key can't be read off."""
    assert (retry_digest(*one) == retry_digest(*other)) == (one == other)
    assert len(retry_digest(*one)) == 16
    assert int(retry_digest(*one), 16) >= 0


def pin(side: Side, reason: Reason, until: float = 1000.0) -> RetryPin:
    """Return a pin."""
    return RetryPin(side, "bank", until, "payments", reason)


@pytest.mark.parametrize(("known", "new"), [*permutations(Reason, 2)], ids=str)
def test_of_two_sides_the_pin_that_weighs_more_holds(known: Reason, new: Reason) -> None:
    """In either order: what a change of side found in flight is told late, when its request may have fallen back."""
    heavier = max(known, new, key=[Reason.IN_FLIGHT, Reason.FALLBACK, Reason.ANSWERED, Reason.UNKNOWN].index)
    sides = {known: Side.MODERN, new: Side.LEGACY}
    pins: dict[str, RetryPin] = {}
    merge(pins, {"1": pin(Side.MODERN, known)})
    merge(pins, {"1": pin(Side.LEGACY, new)})
    assert pins == {"1": pin(sides[heavier], heavier)}


@pytest.mark.parametrize("reason", [Reason.IN_FLIGHT, Reason.FALLBACK])
def test_the_pin_of_a_try_that_ended_well_ends_soon(reason: Reason) -> None:
    """One of an uncertain end is not made shorter by it."""
    soon = pin(Side.LEGACY, reason, 10.0)
    assert merged(pin(Side.LEGACY, reason), soon) == soon
    assert merged(pin(Side.LEGACY, Reason.UNKNOWN), soon) is None
