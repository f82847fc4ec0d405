"""What good and nonsensical answers of a token endpoint mean (bad-inputs 114 to 117)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import TokenRefused, TokenUnavailable
from proxy.tokens.response import json_object, printable
from tests.tokens.support_response import JSON, NOW, good, jwt, parse


def test_a_good_answer() -> None:
    """Token and lifetime come out, and the token shows itself nowhere."""
    minted = parse(good())

    assert minted.value.reveal() == "abc.def-123"
    assert minted.lifetime == 3600
    assert "abc.def" not in repr(minted)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_token_type_in_any_case(kind: str) -> None:
    """ADFS writes `bearer`; the comparison ignores case (RFC 6749 5.1)."""
    assert parse(good(token_type=kind)).lifetime == 3600


@pytest.mark.parametrize("kind", [None, "", "mac", "DPoP", "Bearer ", 7, ["Bearer"]])
def test_any_other_token_type_is_no_token(kind: object) -> None:
    """What is no bearer token must not be sent as one (bad-inputs 116)."""
    with pytest.raises(TokenUnavailable):
        parse(good(token_type=kind))


@pytest.mark.parametrize(
    ("given_value", "lifetime"),
    [
        (28800, 28800),
        (5, 5),
        (1.5, 1.5),
        ("3600", 3600),
        ("43200.5", 43200.5),
        (86401, 86400),
        (1e99, 86400),
        (10**400, 86400),
        (None, 300),
        (0, 300),
        (-1, 300),
        (0.001, 300),
        ("", 300),
        ("-5", 300),
        ("1e5", 300),
        ("soon", 300),
        ("٣٦٠٠", 300),  # digits to Python
        (True, 300),
        ([3600], 300),
        ({"a": 1}, 300),
    ],
)
def test_expires_in(given_value: object, lifetime: float) -> None:
    """A positive number or numeric string counts, bounded by 24 h; else the default (bad-inputs 115)."""
    assert parse(good(expires_in=given_value)).lifetime == lifetime


def test_an_infinite_lifetime_is_capped() -> None:
    """A number too large for a float is 24 h too."""
    assert parse('{"access_token":"a","token_type":"Bearer","expires_in":1e999}').lifetime == 86400


@pytest.mark.parametrize(
    ("claims", "lifetime"),
    [
        ({"exp": NOW + 1234}, 1234),
        ({"exp": NOW + 10**9}, 86400),
        ({"exp": NOW - 5}, 300),
        ({"exp": True}, 300),
        ({"exp": "later"}, 300),
        ({}, 300),
    ],
)
def test_without_expires_in_the_tokens_own_end_counts(claims: dict[str, Any], lifetime: float) -> None:
    """A JWT's exp steps in for a missing expires_in, the default for an exp that is none or past."""
    assert parse(good(access_token=jwt(**claims), expires_in=None)).lifetime == pytest.approx(lifetime)


@pytest.mark.parametrize("token", ["a.%%%.c", "a.YWJj.c", "a.WzFd.c", "a.gICA.c", "a..c", "a.b"])
def test_a_token_that_only_looks_like_a_jwt_is_opaque(token: str) -> None:
    """Whatever stands between two dots, the token is used as it is."""
    if "%" in token:
        with pytest.raises(TokenUnavailable):
            parse(good(access_token=token, expires_in=None))
    else:
        assert parse(good(access_token=token, expires_in=None)).lifetime == 300


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        7,
        ["a"],
        "a\r\nX-Evil: 1",
        "a\nb",
        "a\x00b",
        "a b",
        " a",
        "a ",
        "caf\u00e9",
        "a\x7f",
        "a=b",
        "Bearer a",
        "a" * 65000,
        "a" * 16385,
    ],
)
def test_an_access_token_that_no_header_may_carry(token: object) -> None:
    """It is refused before use, and neither detail nor cause quotes it (RFC 6750 2.1; bad-inputs 117)."""
    with pytest.raises(TokenUnavailable) as caught:
        parse(good(access_token=token))

    if isinstance(token, str) and len(token) > 3:
        assert token[:8] not in caught.value.detail + caught.value.cause


def test_claims_are_shown() -> None:
    """The audience that came back, the scope and a certificate binding are kept for people."""
    claims = {"aud": ["jpmc:uri:prod:payments:commerce", 7, "b\x1b[31m"], "scope": "x", "cnf": {"x5t#S256": "abc"}}

    minted = parse(good(access_token=jwt(**claims)))

    assert minted.audience_claim == "jpmc:uri:prod:payments:commerce b [31m"
    assert minted.scope == "x"
    assert minted.certificate_thumbprint == "abc"


def test_odd_claims_are_no_claims() -> None:
    """Claims of the wrong type are left out."""
    minted = parse(good(access_token=jwt(aud=7, scope=["a"], cnf="abc"), scope=None))

    assert (minted.audience_claim, minted.scope, minted.certificate_thumbprint) == ("", "a", "")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>CANARY please log in</html>", {"content-type": "text/html"}),
        (b"<html>CANARY</html>", JSON),
        (b"", JSON),
        (b"[]", JSON),
        (b'"CANARY"', JSON),
        (b"null", JSON),
        (b'{"access_token": "CANARY"', JSON),
        (b'{"access_token":"CANARY","token_type":"Bearer","expires_in":NaN}', JSON),
        (b"[" * 60000, JSON),
        (b"\xff\xfe{CANARY", JSON),
        (b'{"expires_in":' + b"1" * 60000 + b"}", JSON),
        (json.dumps(good()).encode() + b" " * 65536, JSON),
        (json.dumps(good()).encode(), {"content-type": "text/plain"}),
        (json.dumps(good()).encode(), {"content-type": "application/jwt"}),
        (json.dumps(good()).encode(), {"content-type": "application/json", "content-encoding": "gzip"}),
    ],
)
def test_nonsense_is_no_token(body: bytes, headers: dict[str, str]) -> None:
    """HTML, broken or foreign JSON, too much of it or another type: token_unavailable, the body is not quoted (114)."""
    with pytest.raises(TokenUnavailable) as caught:
        parse(body, headers=headers)

    said = caught.value.detail + caught.value.cause
    assert "CANARY" not in said
    assert "abc.def" not in said


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "Application/JSON; charset=utf-8"}, {"content-type": "application/x+json"}]
)
def test_types_that_mean_json(headers: dict[str, str]) -> None:
    """Case and parameters don't matter, a missing type neither; a byte order mark is dropped."""
    assert parse(b"\xef\xbb\xbf" + json.dumps(good()).encode(), headers=headers).lifetime == 3600


@given(
    status=st.sampled_from([200, 400, 429, 500]),
    kind=st.sampled_from(["application/json", "text/html", ""]),
    body=st.one_of(
        st.binary(max_size=200), st.dictionaries(st.text(max_size=5), st.text()).map(lambda d: json.dumps(d).encode())
    ),
    retry=st.text(max_size=30),
)
def test_no_answer_escapes_the_two_errors(status: int, kind: str, body: bytes, retry: str) -> None:
    """Whatever comes, it is a token, a refusal or an outage, and never another exception."""
    said = "nothing"
    try:
        parse(body, status=status, headers={"content-type": kind, "retry-after": retry})
    except (TokenRefused, TokenUnavailable) as error:
        said = error.detail + error.cause

    assert said.isprintable()


def test_json_object_takes_objects_only() -> None:
    """What counts as a parsed JSON answer, also for the clock."""
    assert json_object(JSON, b'{"a":1}') == {"a": 1}
    assert json_object(JSON, b"[1]") is None
    assert json_object({"content-type": "text/html"}, b"{}") is None


def test_printable_keeps_letters() -> None:
    """Letters of all scripts stay, controls go."""
    assert printable("Zürich\t東京\x7f") == "Zürich 東京 "
