"""A key file of the proxy's own: made once, whole, for its owner only."""

import contextlib
import os
from pathlib import Path

from proxy.entropy import Entropy


def make_once(path: Path, content: bytes, *, entropy: Entropy) -> None:
    """Put *content* at *path* (0600) unless something stands there; raises OSError.

    It is linked into place whole, so that nobody reads half of it, and of several processes that start at once all read
    the same one.
    """
    made = path.with_name(f".{path.name}.{entropy.token_bytes(8).hex()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()
