"""Clients of the facade as they are at the bank: keys by cryptography, assertions by PyJWT or, to be wrong, by hand."""

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.callers.rsa_verify import RsaKey

CLIENT_ID = "CC-000000-A000000-000000-PROD"
TOKEN_URL = "http://payproxy.corp:8080/adfs/oauth2/token"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@cache
def private_key(name: str = "erp", *, bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """Return the key called *name*, the same each time."""
    assert name
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


def public_key(private: rsa.RSAPrivateKey) -> RsaKey:
    """Return what the facade has of *private*."""
    numbers = private.public_key().public_numbers()
    return RsaKey(numbers.n, numbers.e)


def as_values(private: rsa.RSAPrivateKey) -> tuple[str, int]:
    """Return *private*'s public half as a snapshot has it."""
    numbers = private.public_key().public_numbers()
    return f"{numbers.n:x}", numbers.e


def claims(now: float, **changes: Any) -> dict[str, Any]:
    """Return the claims of the bank's ADFS sample at *now*; a change to None takes one away."""
    sample = {
        "iss": CLIENT_ID, "sub": CLIENT_ID, "aud": TOKEN_URL, "iat": int(now), "exp": int(now) + 300, "jti": "12345",
    }  # fmt: skip
    return {name: value for name, value in {**sample, **changes}.items() if value is not None}


def signed(values: Mapping[str, Any], private: rsa.RSAPrivateKey, *, header: Mapping[str, Any] | None = None) -> str:
    """Return an RS256 assertion as PyJWT makes it, with a key id that only the bank knows."""
    return jwt.encode(dict(values), private, algorithm="RS256", headers={"kid": "A" * 40, **(header or {})})


def segment(data: bytes) -> str:
    """Return *data* as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: bytes | Mapping[str, Any], payload: bytes | Mapping[str, Any], private: rsa.RSAPrivateKey) -> str:
    """Return a properly signed compact JWS of whatever header and payload are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    text = ".".join(map(segment, parts))
    return f"{text}.{segment(private.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"
