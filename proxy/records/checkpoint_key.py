"""The Ed25519 key that signs checkpoints: made once by the proxy, used for nothing else."""

import base64
import binascii
import contextlib
import hashlib
import re
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
# "KEY", "public_key: KEY" of a statement, or "public key  KEY, FINGERPRINT (whose)" of `logs verify`.
_LINE = re.compile(r"(?:public_key: *|public key +)?([A-Za-z0-9+/]{43}=)(?:, (SHA256:\S+)(?: \(.*\))?)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The claim that record *sequence* of *instance* had *hash* at *time* (RFC 3339); this is what is signed.

    *chain* is the id of the data directory, "" in checkpoints from before ids existed.
    """

    instance: str
    sequence: int
    hash: str
    time: str
    chain: str = ""

    def signed_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        lines = [self.instance, str(self.sequence), self.hash, self.time, ""]
        lines = ["payproxy checkpoint 2", self.chain, *lines] if self.chain else ["payproxy checkpoint 1", *lines]
        return "\n".join(lines).encode()

    def is_signed(self, public_key: Any, signature: Any) -> bool:
        """Return whether *signature* of this claim is valid for *public_key*, both in base64."""
        return is_signed(self.signed_bytes(), public_key=public_key, signature=signature)


class CheckpointKey:
    """An Ed25519 key (RFC 8032); *public* is its public half in base64."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = base64.b64encode(raw).decode("ascii")

    def __repr__(self) -> str:
        return f"<CheckpointKey {self.public}>"

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the signature in base64; takes 50 us."""
        return self.sign_bytes(checkpoint.signed_bytes())

    def sign_bytes(self, data: bytes) -> str:
        """Return the signature of *data* in base64; the first line of *data* names its type."""
        return base64.b64encode(self._key.sign(data)).decode("ascii")


def is_signed(data: bytes, *, public_key: Any, signature: Any) -> bool:
    """Return whether *signature* of *data* is valid for *public_key*, both in base64."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), data)
    except (TypeError, ValueError, binascii.Error, InvalidSignature):
        return False
    return True


def fingerprint(public_key: str) -> str:
    """Return the fingerprint of *public_key* (base64) in the form of `ssh-keygen -l`."""
    try:
        digest = hashlib.sha256(base64.b64decode(public_key, validate=True)).digest()
    except (ValueError, binascii.Error):
        return "none"
    return f"SHA256:{base64.b64encode(digest).decode('ascii').rstrip('=')}"


def checkpoint_key(data_directory: Path, *, entropy: Entropy) -> CheckpointKey:
    """Return the key of *data_directory*; creates the file (PEM, 0600) if there is none; raises OSError."""
    path = data_directory / KEY_FILE
    if not path.exists():
        key = Ed25519PrivateKey.from_private_bytes(entropy.token_bytes(32))
        make_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), entropy=entropy)
    return read_checkpoint_key(path)


def read_checkpoint_key(path: Path) -> CheckpointKey:
    """Return the key in *path*; raises FileUnusable, also if the file is not private or holds no Ed25519 key."""
    data = read_own_file(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # A new key would make earlier checkpoints look foreign, so it is never replaced silently.
        raise FileUnusable(path, "it holds no Ed25519 key", "restore it, or remove it to have it made")
    return CheckpointKey(key)


def read_public_key(path: Path) -> str:
    """Return the public key in *path*, in base64; raises FileUnusable.

    The file holds the key in base64 as in records, the line of `logs verify` or of a statement that has it, PEM, or a
    whole checkpoint.key, of which only the public half is used.
    """
    data = read_file(path).data
    if b"PRIVATE KEY" in data:
        return read_checkpoint_key(path).public
    with contextlib.suppress(ValueError, UnicodeDecodeError):
        if b"PUBLIC KEY" not in data:
            return _key_in_line(data.decode("ascii").strip())
        key = load_pem_public_key(data)
        if isinstance(key, Ed25519PublicKey):
            return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode("ascii")
    raise FileUnusable(
        path, "it holds no Ed25519 key", "give one in PEM, or the one line with it that `logs verify` prints"
    )


def _key_in_line(line: str) -> str:
    """Return the key in *line*, alone or as `logs verify` and statements write it; raises ValueError."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("no line with a key")
    key, printed = found.groups()
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
    if printed and printed != fingerprint(key):
        raise ValueError("the fingerprint is another key's")
    return key
