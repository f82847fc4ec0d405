"""Compact JWS has one spelling of each byte and one reading of each object."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.compact import decoded, json_object
from proxy.text import base64url


@given(st.binary(max_size=100))
def test_what_is_encoded_can_be_decoded(data: bytes) -> None:
    """As RFC 7515 appendix C has it."""
    assert base64url(data) == base64.urlsafe_b64encode(data).rstrip(b"=")
    assert decoded(base64url(data)) == data


@given(st.binary(max_size=6))
def test_whatever_can_be_decoded_is_the_one_spelling(segment: bytes) -> None:
    """No two segments mean the same bytes."""
    try:
        data = decoded(segment)
    except ValueError:
        return
    assert base64url(data) == segment


@pytest.mark.parametrize("segment", [b"QQ==", b"QQ=", b"QR", b"Q", b"Q Q", b"QQ\n", b"+/+/", b"QQ.", "é".encode()])
def test_other_spellings_are_refused(segment: bytes) -> None:
    """Padding, unused bits that are set, white space, the other alphabet."""
    with pytest.raises(ValueError, match="base64url"):
        decoded(segment)


def test_an_object_is_read() -> None:
    """With nested ones."""
    value = {"a": [1, {"b": "é"}], "c": None}

    assert json_object(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 1}', b'{"x": {"a": 1, "a": 2}}', b"[1]", b'"a"', b"null", b"", b"{", b'{"a": NaN}',
        b'{"a": -Infinity}', b'{"a": 1} {}', b'\xef\xbb\xbf{"a": 1}', b'{"a": "\xff"}', '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", b'{"a": ' + b"1" * 5000 + b"}",
    ],
    ids=range(15),
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(text: bytes) -> None:
    """Names that stand twice, what is no JSON, other encodings, what would exhaust the stack or the time."""
    with pytest.raises(ValueError, match=r"."):
        json_object(text)
