"""Key files of the installation's own: made once, whole, for their owner only."""

import contextlib
import os
from pathlib import Path

from proxy.entropy import Entropy
from proxy.private_file import read_private_file


def make_once(path: Path, content: bytes, *, entropy: Entropy) -> None:
    """Put *content* at *path* (0600) unless something stands there; raises OSError.

    It is linked into place whole, so that nobody reads half of it, and of several processes that start at once all read
    the same one.
    """
    made = path.with_name(f".{path.name}.{entropy.token_bytes(8).hex()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            # A command may be root's, also before the first start; the keeper whose directory it is, is not.
            directory = path.parent.stat()
            if os.geteuid() == 0 != directory.st_uid:
                os.fchown(descriptor, directory.st_uid, directory.st_gid)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()


def read_own_file(path: Path) -> bytes:
    """Return what is in *path*, which lies in a data directory; raises FileUnusable, also if it is not private.

    Commands may be root's: what belongs to the owner of the directory will do for them. `serve` refuses a directory of
    another owner before it looks into it.
    """
    return read_private_file(path, owner=path.parent.stat().st_uid)
