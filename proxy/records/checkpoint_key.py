"""The key that checkpoints are signed with: the proxy's own, made once; nothing else is signed with it."""

import base64
import binascii
import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from proxy.entropy import Entropy
from proxy.private_file import FileUnusable, read_file
from proxy.records.generated_key import make_once, read_own_file

KEY_FILE = "checkpoint.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The claim that record *sequence* of *instance* had *hash* at *time* (RFC 3339), as it is signed.

    *chain* is the id of the data directory; before there were any it is "".
    """

    instance: str
    sequence: int
    hash: str
    time: str
    chain: str = ""

    def signed_bytes(self) -> bytes:
        """Return what the signature is over."""
        if self.chain:
            whose = f"{self.chain}\n{self.instance}"
            return f"payproxy checkpoint 2\n{whose}\n{self.sequence}\n{self.hash}\n{self.time}\n".encode()
        return f"payproxy checkpoint 1\n{self.instance}\n{self.sequence}\n{self.hash}\n{self.time}\n".encode()


class CheckpointKey:
    """An Ed25519 key (RFC 8032); *public* is its public half in base64."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = base64.b64encode(raw).decode("ascii")

    def __repr__(self) -> str:
        return f"<CheckpointKey {self.public}>"

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the signature in base64: 50 us."""
        return self.sign_bytes(checkpoint.signed_bytes())

    def sign_bytes(self, data: bytes) -> str:
        """Return the signature of *data*, whose first line says what it is, in base64."""
        return base64.b64encode(self._key.sign(data)).decode("ascii")


def vouches(public_key: Any, signature: Any, checkpoint: Checkpoint) -> bool:
    """Return whether *signature* of *checkpoint* was made with the private half of *public_key*, both in base64."""
    return is_signed(checkpoint.signed_bytes(), public_key=public_key, signature=signature)


def is_signed(data: bytes, *, public_key: Any, signature: Any) -> bool:
    """Return whether *signature* of *data* was made with the private half of *public_key*, both in base64."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), data)
    except (TypeError, ValueError, binascii.Error, InvalidSignature):
        return False
    return True


def fingerprint(public_key: str) -> str:
    """Return the name of *public_key*, in base64, for people: as `ssh-keygen -l` writes it."""
    try:
        digest = hashlib.sha256(base64.b64decode(public_key, validate=True)).digest()
    except (ValueError, binascii.Error):
        return "none"
    return f"SHA256:{base64.b64encode(digest).decode('ascii').rstrip('=')}"


def checkpoint_key(data_directory: Path, *, entropy: Entropy) -> CheckpointKey:
    """Return the key of *data_directory*, making the file (PEM, 0600) if there is none; raises OSError."""
    path = data_directory / KEY_FILE
    if not path.exists():
        key = Ed25519PrivateKey.from_private_bytes(entropy.token_bytes(32))
        make_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), entropy=entropy)
    return read_checkpoint_key(path)


def read_checkpoint_key(path: Path) -> CheckpointKey:
    """Return the key in *path*; raises FileUnusable, also if it is not private or no Ed25519 key."""
    data = read_own_file(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # Another key would make earlier checkpoints look foreign, so it is never replaced silently.
        raise FileUnusable(path, "it holds no Ed25519 key", "restore it, or remove it to have it made")
    return CheckpointKey(key)


def read_public_key(path: Path) -> str:
    """Return the public key, in base64, that *path* names; raises FileUnusable.

    It may hold the key as records have it, the key in PEM, or a whole checkpoint.key, whose private half is not kept.
    """
    data = read_file(path).data
    if b"PRIVATE KEY" in data:
        return read_checkpoint_key(path).public
    with contextlib.suppress(ValueError, UnicodeDecodeError):
        if b"PUBLIC KEY" not in data:
            text = data.decode("ascii").strip()
            Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
            return text
        key = load_pem_public_key(data)
        if isinstance(key, Ed25519PublicKey):
            return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode("ascii")
    raise FileUnusable(path, "it holds no Ed25519 key", "give one in PEM, or as `logs verify` prints it")
