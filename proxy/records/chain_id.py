"""The id of a data directory's chain: random, made once, since host names can be shared, change and come back."""

import contextlib
import errno
import re
from pathlib import Path

from proxy.entropy import Entropy
from proxy.records.generated_key import make_once

ID_FILE = "chain.id"
_ID = re.compile("[0-9a-f]{16}")


def chain_id(data_directory: Path, *, entropy: Entropy) -> str:
    """Return the chain id of *data_directory*, 16 hex digits, made if there is none; raises OSError."""
    path = data_directory / ID_FILE
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    make_once(path, entropy.token_bytes(8).hex().encode() + b"\n", entropy=entropy)
    return _read(path)


def read_chain_id(data_directory: Path) -> str:
    """Return the chain id of *data_directory*, "" if it has none yet; raises OSError."""
    try:
        return _read(data_directory / ID_FILE)
    except FileNotFoundError:
        return ""


def chain_in(value: object) -> str:
    """Return *value*, a member of a record, if it is a chain id, else ""."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def _read(path: Path) -> str:
    with path.open("rb") as file:
        text = file.read(64).decode("latin-1").strip()
    if not _ID.fullmatch(text):
        # A new id would split the chain in two, so it is never replaced silently.
        raise OSError(errno.EINVAL, "it holds no 16 hex digits; restore it, or remove it to have it made", str(path))
    return text
