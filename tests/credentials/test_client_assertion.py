"""The client assertion: what it says, and who signs it."""

import asyncio
import base64
import json
import threading
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from proxy.credentials.client_assertion import AssertionSigner, client_assertion_claims
from proxy.credentials.signing_key import remote_key

NOW = 1_800_000_000.9
KEY = rsa.generate_private_key(65537, 2048)


def made(**changes: Any) -> dict[str, Any]:
    """Return the claims of an assertion with *changes*."""
    values: dict[str, Any] = {"client_id": "me", "audience": "https://a/b", "lifetime": 60, "now": NOW, "jti": "J"}
    return client_assertion_claims(**(values | changes))


def test_claims() -> None:
    """Iss and sub are the client; aud the token endpoint; no claim of our own."""
    claims = made()

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
    claims = made(lifetime=lifetime, now=now)

    assert claims["exp"] - claims["iat"] == lifetime
    assert 0 <= int(now) - claims["iat"] <= 10
    assert claims["exp"] - now >= lifetime * 0.7


@pytest.mark.parametrize("field", ["client_id", "audience", "key_id", "jti"])
async def test_it_verifies_and_has_no_white_space(field: str) -> None:
    """One line of base64url, whatever the values hold; the kid names the certificate, and it prints as nothing."""
    values = {"client_id": "a", "audience": "b", "key_id": "c", "jti": "d"} | {field: "x \n ü" * 30}
    key_id = values.pop("key_id")
    assertion = await AssertionSigner(KEY).sign(made(**values), key_id=key_id)

    text = assertion.reveal()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    header, payload = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split(".")[:2])
    assert json.loads(header) == {"alg": "RS256", "kid": key_id, "typ": "JWT"}
    assert json.loads(payload) == made(**values)
    claims = jwt.decode(
        text,
        KEY.public_key(),
        algorithms=["RS256"],
        audience=values["audience"],
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert claims["iss"] == values["client_id"]
    assert str(assertion) == "***"


class Elsewhere:
    """Signs with a key that only it has, as an HSM does, and notes who asks."""

    def __init__(self) -> None:
        self.used: list[int] = []
        self.closed = 0

    def public_key(self) -> RSAPublicKey:
        """Return the public half."""
        return KEY.public_key()

    def sign(self, signing_input: bytes) -> bytes:
        """Note the thread, and sign."""
        self.used.append(threading.get_ident())
        return KEY.sign(signing_input, PKCS1v15(), SHA256())

    def sign_digest(self, digest: bytes) -> bytes:
        """Assertions are signed from their signing input."""
        raise NotImplementedError

    def close(self) -> None:
        """Note it."""
        self.closed += 1

    def abort(self) -> None:
        """Do nothing: it does not hang."""


async def test_a_key_elsewhere_signs_in_one_thread_of_its_own() -> None:
    """The loop goes on meanwhile; a device that is slow keeps one thread, however many wait for it."""
    device = Elsewhere()
    signer = AssertionSigner(remote_key(device, name="elsewhere"))
    made_ = await asyncio.gather(*(signer.sign(made(jti=str(number % 2)), key_id="K") for number in range(20)))
    await signer.close()

    assert len({one.reveal() for one in made_}) == 2
    assert len(device.used) == 20
    assert len(set(device.used) - {threading.get_ident()}) == 1
    assert device.closed == 1
    assert repr(signer) == "<AssertionSigner <RemoteKey elsewhere>>"
    jwt.decode(
        made_[0].reveal(),
        KEY.public_key(),
        algorithms=["RS256"],
        audience="https://a/b",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )


def test_repr_says_the_size_only() -> None:
    """Nothing of the key is shown."""
    assert repr(AssertionSigner(KEY)) == "<AssertionSigner RSA 2048>"
