"""Encryption of what replicas share in Redis: it can't be read, changed or moved to another key there."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy import private_file
from proxy.entropy import Entropy

# Format of everything that is encrypted here; a later one has another meaning, and can't be opened.
_FORMAT = 1
_FEWEST_BYTES = 16
_NONCE_BYTES = 12
# The nonce starts with two bytes that identify the key; the other ten are random.
_KEY_BYTES = 2


class SealBroken(ValueError):
    """No key of ours decrypts it: another key, environment or Redis key was used, or it was changed."""


class Seal:
    """Encrypts with the first of *keys*, decrypts with any (AES-256-GCM); *environment* is authenticated too."""

    def __init__(self, keys: Sequence[bytes], *, environment: str, entropy: Entropy) -> None:
        # Key files hold hex, base64 or bytes. A key of 128 bits or more keeps its strength through SHA-256.
        digests = [hashlib.sha256(b"payproxy state\0" + key).digest() for key in keys]
        self._ciphers = [AESGCM(digest) for digest in digests]
        self._key = hashlib.sha256(b"payproxy key id\0" + b"".join(digests[:1])).digest()[:_KEY_BYTES]
        self._environment = environment
        self._entropy = entropy

    def close(self, name: str, content: bytes) -> bytes:
        """Return *content* encrypted for the place *name*."""
        nonce = self._key + self._entropy.token_bytes(_NONCE_BYTES - _KEY_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, content, self._place(name))

    def open(self, name: str, sealed: bytes) -> bytes:
        """Decrypt a value for the place *name*; raise SealBroken."""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._place(name))
            except (InvalidTag, ValueError):
                continue
        raise SealBroken("what is kept there was not sealed with any of encryption_key_files")

    def key_of(self, sealed: bytes) -> bytes:
        """Return the key id of a *sealed* value; arbitrary bytes if payproxy did not write it."""
        return sealed[:_KEY_BYTES]

    def is_current(self, sealed: bytes) -> bool:
        """Return whether *sealed* was encrypted with the first key."""
        return self.key_of(sealed) == self._key

    def _place(self, name: str) -> bytes:
        return f"payproxy\0{_FORMAT}\0{self._environment}\0{name}".encode()

    def __repr__(self) -> str:
        return f"<Seal of {self._environment}, {len(self._ciphers)} keys>"


def read_key(path: Path) -> bytes:
    """Return the key in *path*; raise FileUnusable."""
    return private_file.read_key(path, fewest=_FEWEST_BYTES)
