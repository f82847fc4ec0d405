"""Client assertions: the bank's samples are accepted, and every way to be wrong is refused."""

import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.assertion import ClientAssertion, ClientUnproven, printable
from tests.callers.clients import CLIENT_ID, TOKEN_URL, by_hand, claims, private_key, public_key, segment, signed

NOW = 1_800_000_000.0
HEADER = {"alg": "RS256", "typ": "JWT"}


def check(text: str, *, now: float = NOW) -> str:
    """Return the client that *text* proves with the key "erp"; raises ClientUnproven."""
    assertion = ClientAssertion.read(text)
    assertion.verify([public_key(private_key("other")), public_key(private_key())], is_ours=TOKEN_URL.__eq__, now=now)
    return assertion.client_id


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"jti": None, "iat": None},
        {"nbf": int(NOW), "expires_in": 30, "exp": int(NOW) + 30},  # the bank's JavaScript for the modern endpoint
        {"exp": int(NOW) + 8 * 3600},
        {"exp": int(NOW) + 184 * 86400},  # what its instructions allow on Client Testing
        {"exp": NOW + 0.5, "iat": NOW - 0.5},
        {"exp": int(NOW) - 59, "iat": int(NOW) - 359},
        {"iat": int(NOW) + 59, "nbf": int(NOW) + 59},
        {"aud": ["https://elsewhere.example", TOKEN_URL]},
        {"jti": 12345},
    ],
    ids=str,
)
def test_what_clients_of_the_bank_send_is_accepted(changes: dict[str, Any]) -> None:
    """Short and long ones, with and without the optional claims, and clocks that are a minute wrong."""
    assert check(signed(claims(NOW, **changes), private_key())) == CLIENT_ID


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": None}, "exp is missing"),
        ({"exp": int(NOW) - 60}, "expired"),
        ({"exp": int(NOW) + 200 * 86400}, "200 days ahead"),
        ({"exp": "1800000300"}, "exp is not a number"),
        ({"exp": True}, "exp is not a number"),
        ({"exp": 10**400}, "exp is not a number"),
        ({"exp": [int(NOW) + 300]}, "exp is not a number"),
        ({"nbf": int(NOW) + 61}, "nbf lies 61 s ahead"),
        ({"iat": int(NOW) + 61}, "iat lies 61 s ahead"),
        ({"nbf": "now"}, "nbf is not a number"),
        ({"aud": None}, "aud must be"),
        ({"aud": []}, "aud is neither a URL of ours"),
        ({"aud": {"url": TOKEN_URL}}, "aud must be"),
        ({"aud": [TOKEN_URL, 1]}, "aud must be"),
        ({"aud": "https://idag2.jpmorganchase.com/adfs/oauth2/token"}, "neither.*https://idag2.jpmorganchase.com/"),
        ({"aud": TOKEN_URL + "/x"}, "aud is neither"),
        ({"iss": "somebody"}, "iss and sub"),
        ({"sub": "somebody"}, "iss and sub"),
        ({"iss": None}, "iss and sub"),
        ({"iss": None, "sub": None}, "iss and sub"),
        ({"iss": "", "sub": ""}, "iss and sub"),
    ],
    ids=str,
)
def test_a_wrong_claim_is_refused(changes: dict[str, Any], why: str) -> None:
    """Though the signature is right; the operator reads why."""
    text = by_hand(HEADER, claims(NOW, **changes), private_key())

    with pytest.raises(ClientUnproven, match=why):
        check(text)


def test_claims_that_are_not_json_numbers_are_refused() -> None:
    """1e999 is infinity to Python."""
    payload = json.dumps(claims(NOW, exp=0)).replace('"exp": 0', '"exp": 1e999').encode()

    with pytest.raises(ClientUnproven, match="exp is not a number"):
        check(by_hand(HEADER, payload, private_key()))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "RS512", "RS384", "PS256", "ES256", "rs256", "", 1, None]
)
def test_no_algorithm_but_rs256_is_looked_at(algorithm: object) -> None:
    """Even where the signature is a right RS256 one (RFC 8725 3.1)."""
    with pytest.raises(ClientUnproven, match="alg is not RS256"):
        check(by_hand({"typ": "JWT", "alg": algorithm}, claims(NOW), private_key()))


def test_assertions_of_other_algorithms_are_refused() -> None:
    """As libraries make them: unsigned, HS256 with the public key as secret, RS512, PS256."""
    public = private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signing = f"{segment(json.dumps({'alg': 'HS256'}).encode())}.{segment(json.dumps(claims(NOW)).encode())}"
    for text in (
        jwt.encode(claims(NOW), "", algorithm="none"),
        f"{signing}.{segment(hmac.digest(public, signing.encode(), 'sha256'))}",
        jwt.encode(claims(NOW), private_key(), algorithm="RS512"),
        jwt.encode(claims(NOW), private_key(), algorithm="PS256"),
    ):
        with pytest.raises(ClientUnproven, match="alg is not RS256"):
            check(text)


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
def test_a_signature_of_another_algorithm_does_not_pass_as_rs256(algorithm: str) -> None:
    """With a header that lies about it."""
    header, payload, signature = jwt.encode(claims(NOW), private_key(), algorithm=algorithm).split(".")
    lying = segment(json.dumps(HEADER).encode())

    for text in (f"{lying}.{payload}.{signature}", f"{lying}.{payload}."):
        with pytest.raises(ClientUnproven, match="no certificate"):
            check(text)
    assert header != lying


def test_another_key_is_refused_even_if_the_assertion_brings_it() -> None:
    """Keys in the header (jwk, jku, x5c, x5u) are strangers' words."""
    stranger = private_key("stranger")
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key()))

    headers: tuple[dict[str, Any], ...] = (
        {},
        {"jwk": own, "jku": "https://evil.example/keys", "x5c": ["MII"], "kid": "1"},
    )
    for header in headers:
        with pytest.raises(ClientUnproven, match="no certificate"):
            check(signed(claims(NOW), stranger, header=header))


def test_without_keys_nothing_is_proven() -> None:
    """A client that is only known by its secret."""
    with pytest.raises(ClientUnproven, match="no certificate"):
        ClientAssertion.read(signed(claims(NOW), private_key())).verify([], is_ours=lambda _: True, now=NOW)


def test_critical_header_parameters_are_refused() -> None:
    """None of them is understood (RFC 7515 4.1.11)."""
    headers: tuple[dict[str, Any], ...] = ({"crit": ["b64"], "b64": False}, {"crit": []})
    for header in headers:
        with pytest.raises(ClientUnproven, match="crit"):
            check(by_hand({**HEADER, **header}, claims(NOW), private_key()))


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b'{"alg":"none","alg":"RS256"}', claims(NOW)),
        (HEADER, b'{"iss":"x",' + json.dumps(claims(NOW)).encode()[1:]),
        (HEADER, json.dumps(claims(NOW)).encode()[:-1] + b',"exp":9999999999}'),
        (HEADER, b"[]"),
        (b"null", claims(NOW)),
        (HEADER, b"\xff\xfe"),
        (HEADER, b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    ],
    ids=range(7),
)
def test_what_can_be_read_in_two_ways_is_refused(header: Any, payload: Any) -> None:
    """Members that stand twice, what is no object, what is nested too deeply."""
    with pytest.raises(ClientUnproven, match="can't be read"):
        check(by_hand(header, payload, private_key()))


def test_other_spellings_of_an_assertion_are_refused() -> None:
    """Padding, white space, missing and further segments, another alphabet, unused bits."""
    text = signed(claims(NOW), private_key())
    header, payload, signature = text.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for wrong in (
        text + "=", text + "==", " " + text, text + "\n", text + ".", text + "." + signature, f"{header}.{payload}",
        f"{header}.{payload}.", f".{payload}.{signature}", f"{header}..{signature}", text.replace(".", "", 1), "",
        f"{header}.{payload}.{signature[:-2]}", f"{header}.{payload}.{signature[:-1]}",
        f"{header}.{payload}.{signature[:-1]}{last[last.index(signature[-1]) + 1]}", text.replace(".", "\uff0e"),
        f"{header}.{payload}.{signature}AAAA", f"{header}.{payload}.AAAA{signature}",
    ):  # fmt: skip
        with pytest.raises(ClientUnproven):
            check(wrong)


@given(
    st.integers(0, 10_000), st.characters(min_codepoint=33, max_codepoint=126), st.sampled_from(["put", "drop", "add"])
)
def test_a_changed_assertion_proves_nothing(place: int, letter: str, how: str) -> None:
    """Whichever character it is that is replaced, lost or added."""
    text = signed(claims(NOW), private_key())
    at = place % len(text)
    changed = text[:at] + ("" if how == "drop" else letter) + text[at + (how != "add") :]
    if changed == text:
        return

    with pytest.raises(ClientUnproven):
        check(changed)


@given(st.text(max_size=200))
def test_nonsense_is_refused_and_nothing_else_happens(text: str) -> None:
    """Any string at all."""
    with pytest.raises(ClientUnproven):
        check(text)


def test_nothing_of_an_assertion_shows() -> None:
    """Neither in its repr nor in a refusal, but for the names that the operator needs."""
    text = signed(claims(NOW, aud="https://other.example", jti="a-secret-id"), private_key())
    assertion = ClientAssertion.read(text)

    assert repr(assertion) == f"<ClientAssertion of {CLIENT_ID}>"
    with pytest.raises(ClientUnproven) as caught:
        check(text)
    assert text.split(".")[2] not in str(caught.value)
    assert "a-secret-id" not in str(caught.value)


def test_strangers_words_are_made_printable() -> None:
    """And short."""
    assert printable("a\nb\x1b[0m\u202ec") == "a?b?[0m?c"
    assert printable("x" * 500) == "x" * 120 + "..."
