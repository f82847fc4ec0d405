"""Who signs: a key from a file here, a key in an HSM later; nobody outside sees the key."""

import asyncio
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.secret import Secret
from proxy.text import base64url


class Signer(Protocol):
    """Signs with one RSA key."""

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the RS256 signature of *signing_input* (RFC 7518 3.3)."""


class FileSigner:
    """Signs with a key that was read from a file."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the RS256 signature, made in a thread: 4096 bits take 1.2 ms, which would hold up the loop."""
        return await asyncio.to_thread(self._key.sign, signing_input, padding.PKCS1v15(), hashes.SHA256())

    def __repr__(self) -> str:
        return f"<FileSigner RSA {self._key.key_size}>"


async def signed(signer: Signer, signing_input: bytes) -> Secret:
    """Return *signing_input* and its signature as a compact JWS (RFC 7515 7.1), in one line without white space."""
    signature = await signer.sign(signing_input)
    return Secret((signing_input + b"." + base64url(signature)).decode())
