"""The key that masked values are hashed with: this installation's own, made once, shared by workers and searches."""

from pathlib import Path

from proxy.entropy import Entropy
from proxy.private_file import FileUnusable
from proxy.records.own_file import make_once, read_own_file

KEY_FILE = "masking.key"
_KEY_BYTES = 32


def masking_key(data_directory: Path, *, entropy: Entropy) -> bytes:
    """Return the masking key of *data_directory*, making the file (0600) if there is none; raises OSError."""
    path = data_directory / KEY_FILE
    if not path.exists():
        make_once(path, entropy.token_bytes(_KEY_BYTES), entropy=entropy)
    return _read(path)


def read_masking_key(data_directory: Path) -> bytes:
    """Return the masking key of *data_directory*; raises OSError, FileNotFoundError if nothing was masked there yet."""
    path = data_directory / KEY_FILE
    path.stat()
    return _read(path)


def _read(path: Path) -> bytes:
    key = read_own_file(path)
    if len(key) != _KEY_BYTES:
        # Another key would make all earlier masked values unfindable, so it is never replaced silently.
        raise FileUnusable(path, f"does not hold {_KEY_BYTES} bytes", "restore it, or remove it to have it made")
    return key
