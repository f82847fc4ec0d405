"""What answers other than 200 mean, and what is said about them (bad-inputs 113, 118, 119)."""

import re
from email.utils import formatdate

import pytest

from proxy.errors import TokenRefused, TokenUnavailable
from proxy.tokens.response import MintRefused, retry_after
from tests.tokens.support_response import NOW, good, parse


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("body", ["", "<html>", '{"error":"invalid_client"}', "[1]", "x" * 70000])
def test_refusals(status: int, body: str) -> None:
    """400, 401 and 403 are refusals whatever the body looks like (bad-inputs 119)."""
    with pytest.raises(TokenRefused) as caught:
        parse(body, status=status)

    assert caught.value.cause.startswith(str(status))


def test_what_a_refusal_says() -> None:
    """The caller reads the code, the operator the description too."""
    description = "MSIS9622: Client authentication failed."
    with pytest.raises(MintRefused) as caught:
        parse({"error": "invalid_client", "error_description": description}, status=400)

    assert caught.value.detail == "The token endpoint of credential login refused the credential (invalid_client)."
    assert caught.value.error == "invalid_client"
    assert caught.value.cause == "400 invalid_client: MSIS9622: Client authentication failed."


def test_a_description_is_cut_and_made_printable() -> None:
    """200 characters, without escapes for terminals, lines or bidirectional tricks; none of it reaches the caller."""
    with pytest.raises(MintRefused) as caught:
        parse({"error": "invalid_scope", "error_description": "a\x1b[2J\r\n\u202eb" + "z" * 500}, status=400)

    assert caught.value.cause == "400 invalid_scope: a [2J   b" + "z" * 191
    assert "z" not in caught.value.detail


@pytest.mark.parametrize(
    "number", ["4111111111111111", "4111 1111 1111 1111", "DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"]
)
def test_a_cut_leaves_no_part_of_a_number(number: str) -> None:
    """Records mask what is whole: of what the cut divides nothing is left but a country's letters."""
    for length in range(1, len(number)):
        words = "x" * (199 - length) + " " + number + " is not allowed"
        with pytest.raises(MintRefused) as caught:
            parse({"error": "", "error_description": words}, status=400)

        said = caught.value.cause.removeprefix("400 ")
        assert not re.search(r"\d|WEST", said)
        assert said.startswith("x" * (197 - length))


@pytest.mark.parametrize("error", ["two words", "x" * 65, "a\nb", "<b>", 7, None, ""])
def test_an_error_that_is_no_code_is_not_shown_to_callers(error: object) -> None:
    """Free text in `error` stays out of the detail."""
    with pytest.raises(MintRefused) as caught:
        parse({"error": error}, status=401)

    assert caught.value.error == ""
    assert caught.value.detail.endswith("(status 401).")


def test_secrets_that_an_endpoint_echoes_are_blanked() -> None:
    """Neither what we sent nor anything like a JWT, also a cut one, gets into the cause, nor a secret as the code."""
    echo = "client_secret s3cr3t and eyJhbGciOiJSUzI1NiJ9.eyJpc3Mi and eyJhbGciOiJSU are wrong"
    with pytest.raises(MintRefused) as caught:
        parse({"error": "s3cr3t", "error_description": echo}, status=401, hide=("", "s3cr3t"))

    assert caught.value.cause == "401 client_secret *** and *** and *** are wrong"
    assert caught.value.error == ""


@pytest.mark.parametrize(
    "number", ["4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "DE89370400440532013000"]
)
def test_numbers_of_cards_and_accounts_are_blanked(number: str) -> None:
    """Log and status show the cause without a record's mask; numbers that the bank's support asks for stay."""
    with pytest.raises(MintRefused) as caught:
        parse({"error": "invalid_client", "error_description": f"MSIS9602 at 1732812345678: {number}."}, status=401)

    assert caught.value.cause == "401 invalid_client: MSIS9602 at 1732812345678: ***."


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308, 404, 405, 407, 408, 418, 500, 502, 503, 504])
def test_all_other_statuses_are_outages(status: int) -> None:
    """Also a 2xx that is no 200, and a redirect, with a token in it or not (bad-inputs 118)."""
    with pytest.raises(TokenUnavailable) as caught:
        parse(good(), status=status)

    assert caught.value.cause.startswith(str(status))
    assert f"(status {status})" in caught.value.detail


def test_too_many_requests_names_the_wait() -> None:
    """429 carries Retry-After along (bad-inputs 113)."""
    with pytest.raises(TokenUnavailable) as caught:
        parse("", status=429, headers={"Retry-After": "17"})

    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17),
        (" 17 ", 17),
        ("0", 1),
        ("901", 900),
        ("9" * 500, 900),
        (formatdate(NOW + 60, usegmt=True), 60),
        (formatdate(NOW - 60, usegmt=True), 1),
        (formatdate(NOW + 10**8, usegmt=True), 900),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 1),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Mon, 99 Foo 99999 99:99:99 GMT", None),
        ("²", None),
    ],
)
def test_retry_after(value: str, seconds: int | None) -> None:
    """Both forms count, from 1 s to 15 min; anything else is nothing (RFC 9110 10.2.3)."""
    assert retry_after(value, now=NOW) == seconds
