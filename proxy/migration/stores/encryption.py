"""What leaves this machine for a Redis is sealed: nobody there can read it, change it, or put one value for another."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy import private_file
from proxy.entropy import Entropy
from proxy.migration.state import FORMAT

_FEWEST_BYTES = 16
_NONCE_BYTES = 12
# The nonce begins with two bytes by which its key is known again; the other ten are random.
_KEY_BYTES = 2


class SealBroken(ValueError):
    """No key of ours opens it: it was sealed with another, for another environment or place, or was changed."""


class Seal:
    """Seals with the first of *keys* and opens with any (AES-256-GCM); *environment* is part of every value."""

    def __init__(self, keys: Sequence[bytes], *, environment: str, entropy: Entropy) -> None:
        # Files hold what people make: hex, base64 or bytes. A key of 128 bits or more is as strong behind SHA-256.
        digests = [hashlib.sha256(b"payproxy state\0" + key).digest() for key in keys]
        self._ciphers = [AESGCM(digest) for digest in digests]
        self._key = hashlib.sha256(b"payproxy key id\0" + b"".join(digests[:1])).digest()[:_KEY_BYTES]
        self._environment = environment
        self._entropy = entropy

    def close(self, name: str, content: bytes) -> bytes:
        """Return *content* sealed for the place *name*."""
        nonce = self._key + self._entropy.token_bytes(_NONCE_BYTES - _KEY_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, content, self._place(name))

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed for the place *name*; raises SealBroken."""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._place(name))
            except (InvalidTag, ValueError):
                continue
        raise SealBroken("what is kept there was not sealed with any of encryption_key_files")

    def key_of(self, sealed: bytes) -> bytes:
        """Return what the key of a *sealed* value is known by; anything, where it was not sealed by payproxy."""
        return sealed[:_KEY_BYTES]

    def is_current(self, sealed: bytes) -> bool:
        """Return whether the value was *sealed* with the first of the keys."""
        return self.key_of(sealed) == self._key

    def _place(self, name: str) -> bytes:
        return f"payproxy\0{FORMAT}\0{self._environment}\0{name}".encode()

    def __repr__(self) -> str:
        return f"<Seal of {self._environment}, {len(self._ciphers)} keys>"


def read_key(path: Path) -> bytes:
    """Return the key in *path*; raises FileUnusable."""
    return private_file.read_key(path, fewest=_FEWEST_BYTES)
