"""The client assertion before it is signed."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credentials.assertion import client_assertion_input

NOW = 1_800_000_000.9


def decoded(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of an assertion with *changes*."""
    values: dict[str, Any] = {
        "client_id": "me",
        "audience": "https://a/b",
        "key_id": "K",
        "lifetime": 60,
        "now": NOW,
        "jti": "J",
    }
    parts = client_assertion_input(**(values | changes)).split(b".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))) for part in parts)
    return header, claims


def test_header_and_claims() -> None:
    """The kid names the certificate; iss and sub are the client; aud the token endpoint; no claim of our own."""
    header, claims = decoded()

    assert header == {"alg": "RS256", "kid": "K", "typ": "JWT"}
    assert claims == {
        "iss": "me",
        "sub": "me",
        "aud": "https://a/b",
        "jti": "J",
        "iat": 1_799_999_990,
        "nbf": 1_799_999_990,
        "exp": 1_800_000_050,
    }
    assert isinstance(claims["exp"], int)


@given(lifetime=st.integers(min_value=10, max_value=300), now=st.floats(min_value=0, max_value=4e9))
def test_whatever_the_lifetime(lifetime: int, now: float) -> None:
    """It is the time from iat to exp, is backdated by 10 s at most, and is valid now and a while longer."""
    _, claims = decoded(lifetime=lifetime, now=now)

    assert claims["exp"] - claims["iat"] == lifetime
    assert 0 <= int(now) - claims["iat"] <= 10
    assert claims["exp"] - now >= lifetime * 0.7


@pytest.mark.parametrize("field", ["client_id", "audience", "key_id", "jti"])
def test_there_is_no_white_space(field: str) -> None:
    """The encoded form is one line of base64url, whatever the values hold."""
    data = client_assertion_input(
        **{"client_id": "a", "audience": "b", "key_id": "c", "jti": "d", "lifetime": 60, "now": NOW}
        | {field: "x \n ü" * 30}  # type: ignore[arg-type]
    )

    assert set(data.decode()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert data.count(b".") == 1
