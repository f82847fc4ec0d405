"""Key files of the installation's own: made once, whole, for their owner only, and read only if they are so."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from proxy.entropy import Entropy

_MOST_BYTES = 4096


def make_once(path: Path, content: bytes, *, entropy: Entropy) -> None:
    """Put *content* at *path* (0600) unless something stands there; raises OSError.

    It is linked into place whole, so that nobody reads half of it, and of several processes that start at once all read
    the same one.
    """
    made = path.with_name(f".{path.name}.{entropy.token_bytes(8).hex()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            if os.geteuid() == 0:
                # A command of root's may come before the proxy's first start, which is another user's.
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()


def read_key(path: Path, *, fewest: int) -> bytes:
    """Return the key in *path* without a final line feed.

    Raises OSError, also if others may read it or if it has less than *fewest* bytes, or more than 4096.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        key = os.read(descriptor, _MOST_BYTES + 1).removesuffix(b"\n")
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it must be a file that group and others can't read", str(path))
    if not fewest <= len(key) <= _MOST_BYTES:
        raise OSError(errno.EINVAL, f"it must hold {fewest} to {_MOST_BYTES} bytes", str(path))
    return key
