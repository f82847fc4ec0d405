"""By what a retry is known again."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.migration.pin import RETRY_HEADERS, retry_digest, retry_key

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


@settings(max_examples=200)
@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_a_digest_belongs_to_one_request(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Migration, caller and key can't slip over into each other, and the key can't be read off."""
    assert (retry_digest(*one) == retry_digest(*other)) == (one == other)
    assert len(retry_digest(*one)) == 16
    assert int(retry_digest(*one), 16) >= 0
