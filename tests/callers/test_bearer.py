"""Tokens of our own: whose they are, how long, and that nobody else can make one."""

import base64
import contextlib
import hmac
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.bearer import BearerTokens
from proxy.entropy import SystemEntropy
from proxy.errors import CallerTokenInvalid
from tests.support.clock import ManualClock

KEY, OTHER = b"k" * 32, b"o" * 64


def tokens(*keys: bytes, lifetime: int = 3600, clock: ManualClock | None = None) -> BearerTokens:
    """Return what makes and reads tokens with *keys*."""
    return BearerTokens(keys or (KEY,), lifetime=lifetime, clock=clock or ManualClock(), entropy=SystemEntropy())


def test_a_token_says_whose_it_is() -> None:
    """It is a JWT that any library reads, with all that is promised in it, and another one each time."""
    clock = ManualClock()
    it = tokens(clock=clock)
    token = it.mint("erp").reveal()

    assert it.caller_of(token.encode()) == "erp"
    said = jwt.decode(
        token,
        KEY,
        algorithms=["HS256"],
        audience="urn:payproxy:caller",
        issuer="payproxy",
        options={"require": ["iss", "sub", "aud", "iat", "exp", "jti"], "verify_exp": False, "verify_iat": False},
    )
    assert (said["sub"], said["iat"], said["exp"]) == ("erp", clock.now(), clock.now() + 3600)
    assert jwt.get_unverified_header(token).keys() == {"alg", "typ", "kid"}
    assert it.mint("erp").reveal() != token
    assert token not in repr(it) + repr(it.mint("erp"))


async def test_it_ends_with_its_lifetime() -> None:
    """To the second."""
    clock = ManualClock()
    it = tokens(lifetime=30, clock=clock)
    token = it.mint("erp").reveal().encode()

    await clock.advance(29.9)
    assert it.caller_of(token) == "erp"
    await clock.advance(0.2)
    with pytest.raises(CallerTokenInvalid) as caught:
        it.caller_of(token)
    assert "expired" in caught.value.cause
    assert caught.value.status == 401


def test_keys_overlap_while_one_is_replaced() -> None:
    """The first signs, all verify; a key that was taken away takes its tokens with it."""
    old, both, new = tokens(OTHER), tokens(KEY, OTHER), tokens(KEY)
    token, newer = old.mint("erp").reveal().encode(), both.mint("erp").reveal().encode()

    assert (both.caller_of(token), both.caller_of(newer), new.caller_of(newer)) == ("erp", "erp", "erp")
    for it, wrong in ((new, token), (old, newer)):
        with pytest.raises(CallerTokenInvalid) as caught:
            it.caller_of(wrong)
        assert "signing_key_files" in caught.value.cause


@pytest.mark.parametrize(
    "bearer",
    [
        "", "x", "the-callers-own", jwt.encode({"sub": "erp"}, KEY), jwt.encode({"sub": "erp"}, "", algorithm="none"),
        "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "a.b.c", "\xff",
    ],
)  # fmt: skip
def test_the_bearers_of_others_are_not_ours(bearer: str) -> None:
    """Tokens of the bank, of libraries, and nonsense: they prove nothing, and are no reason for a refusal."""
    assert tokens().caller_of(bearer.encode("latin-1")) == ""


def test_ours_altered_in_any_way_is_refused() -> None:
    """Another caller in it, a longer life, the signature of another token, an unsigned one."""
    it = tokens()
    token, second = it.mint("erp").reveal(), it.mint("batch").reveal()
    header, claims, signature = token.split(".")
    longer = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"exp": 9_999_999_999}
    changed = base64.urlsafe_b64encode(json.dumps(longer).encode()).rstrip(b"=").decode()
    for wrong in (
        f"{header}.{changed}.{signature}", f"{header}.{second.split('.')[1]}.{signature}", f"{header}.{claims}.",
        f"{header}.{claims}", header, f"{header}.{claims}.{signature}=", f"{header}.{claims}.{signature}.",
        f"{header}..{signature}", f"{header[:-2]}.{claims}.{signature}", f"{token} ", token[:-1],
    ):  # fmt: skip
        with pytest.raises(CallerTokenInvalid):
            it.caller_of(wrong.encode())


def test_what_the_key_signed_for_another_purpose_is_refused() -> None:
    """Should somebody use the same key elsewhere."""
    it = tokens()
    header = it.mint("erp").reveal().partition(".")[0]
    payload = base64.urlsafe_b64encode(
        json.dumps({"sub": "erp", "exp": 9_999_999_999, "iss": "x", "aud": "y"}).encode()
    )
    signed = f"{header}.{payload.rstrip(b'=').decode()}"
    signature = base64.urlsafe_b64encode(hmac.digest(KEY, signed.encode(), "sha256")).rstrip(b"=").decode()

    with pytest.raises(CallerTokenInvalid) as caught:
        it.caller_of(f"{signed}.{signature}".encode())
    assert "another purpose" in caught.value.cause


@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["put", "drop", "add"]), st.binary(max_size=3))
def test_a_changed_token_proves_nobody(place: int, letter: int, how: str, tail: bytes) -> None:
    """Whichever byte it is that is replaced, lost or added."""
    it = tokens()
    token = it.mint("erp").reveal().encode()
    at = place % len(token)
    changed = token[:at] + (b"" if how == "drop" else bytes([letter])) + token[at + (how != "add") :] + tail
    if changed == token:
        return
    with contextlib.suppress(CallerTokenInvalid):
        assert it.caller_of(changed) == ""


@pytest.mark.parametrize("keys", [(), (b"short",), (KEY, b"x" * 31)])
def test_short_keys_are_refused(keys: tuple[bytes, ...]) -> None:
    """RFC 7518 3.2."""
    with pytest.raises(ValueError, match="32 bytes"):
        BearerTokens(keys, lifetime=60, clock=ManualClock(), entropy=SystemEntropy())
