"""The token request of each client authentication method."""

import base64
import dataclasses
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credentials.credential import Credential
from proxy.credentials.grant import basic_authorization, token_request
from proxy.secret import Secret

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

BASIC = Credential(
    name="login",
    token_url="https://login.test/token",
    client_id="client",
    auth_method="client_secret_basic",
    client_secret=Secret("s3cr3t"),
)


def form_of(body: bytes) -> list[tuple[str, str]]:
    """Return the decoded form, order and repetitions kept."""
    return parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)


def test_client_secret_basic() -> None:
    """Authorization carries the client, the form nothing of it (RFC 6749 2.3: one method per request)."""
    headers, body = token_request(BASIC, audience="a", scope="jpm:payments:sandbox")

    assert headers["Authorization"] == "Basic " + base64.b64encode(b"client:s3cr3t").decode()
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert form_of(body) == [("grant_type", "client_credentials"), ("scope", "jpm:payments:sandbox")]


def test_both_parts_of_basic_are_form_encoded_first() -> None:
    """Colon, percent, space, plus and umlaut survive (RFC 6749 2.3.1)."""
    value = basic_authorization("a:b c", "p%+ü:/")

    assert base64.b64decode(value.removeprefix("Basic ")) == b"a%3Ab+c:p%25%2B%C3%BC%3A%2F"


@given(client_id=st.text(min_size=1, max_size=20), secret=st.text(max_size=20))
def test_basic_can_be_taken_apart_again(client_id: str, secret: str) -> None:
    """Whatever the parts hold, the endpoint gets them back."""
    decoded = base64.b64decode(basic_authorization(client_id, secret).removeprefix("Basic ")).decode()
    parts = [parse_qsl("x=" + part, keep_blank_values=True)[0][1] for part in decoded.split(":")]

    assert parts == [client_id, secret]


def test_client_secret_post() -> None:
    """Client and secret stand in the form, and only there."""
    headers, body = token_request(dataclasses.replace(BASIC, auth_method="client_secret_post"), audience="", scope="")

    assert "Authorization" not in headers
    assert form_of(body) == [
        ("grant_type", "client_credentials"),
        ("client_id", "client"),
        ("client_secret", "s3cr3t"),
    ]


def test_private_key_jwt_of_the_modern_flavor() -> None:
    """Assertion, its type spelled with both hyphens, audience; no client_id, no secret even if there is one."""
    modern = dataclasses.replace(BASIC, auth_method="private_key_jwt", audience_parameter="audience")
    headers, body = token_request(modern, audience="jpm:uri:prod:payments", scope="", assertion="a.b.c")

    assert "Authorization" not in headers
    assert form_of(body) == [
        ("grant_type", "client_credentials"),
        ("audience", "jpm:uri:prod:payments"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", "a.b.c"),
    ]


def test_private_key_jwt_of_the_legacy_flavor() -> None:
    """ADFS calls the audience resource and wants client_id."""
    legacy = dataclasses.replace(
        BASIC, auth_method="private_key_jwt", audience_parameter="resource", send_client_id=True
    )
    _, body = token_request(legacy, audience="JPMC:URI:RS-1-PROD", scope="s t", assertion="a.b.c")

    assert form_of(body) == [
        ("grant_type", "client_credentials"),
        ("scope", "s t"),
        ("resource", "JPMC:URI:RS-1-PROD"),
        ("client_id", "client"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", "a.b.c"),
    ]


def test_tls_client_auth() -> None:
    """The certificate proves, client_id says who (RFC 8705 2); nothing else is sent."""
    headers, body = token_request(dataclasses.replace(BASIC, auth_method="tls_client_auth"), audience="", scope="")

    assert "Authorization" not in headers
    assert form_of(body) == [("grant_type", "client_credentials"), ("client_id", "client")]


def test_extra_parameters_come_last() -> None:
    """They are sent as they are configured."""
    _, body = token_request(
        dataclasses.replace(BASIC, extra_parameters=(("realm", "a&b=c"), ("x", ""))), audience="", scope=""
    )

    assert form_of(body) == [("grant_type", "client_credentials"), ("realm", "a&b=c"), ("x", "")]


def test_an_unknown_method_is_no_request() -> None:
    """Nothing is sent without client authentication by mistake."""
    with pytest.raises(ValueError, match="none"):
        token_request(dataclasses.replace(BASIC, auth_method="none"), audience="", scope="")
