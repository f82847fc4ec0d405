"""Files that are written whole: in place of an earlier one, or once. Both are on disk, with their names, on return."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from proxy.entropy import Entropy


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Put *content* at *path* (0600) in place of what is there; raises OSError, and then nothing has changed."""
    made = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()  # what a process that was killed left behind
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(descriptor)
        made.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            made.unlink()
        raise
    sync_directory(path.parent)


def create_file(path: Path, content: bytes, *, entropy: Entropy) -> None:
    """Put *content* at *path* (0600); raises OSError, FileExistsError if there is a file, and then leaves nothing.

    It is linked into place whole: nobody reads half of it, and of several processes that start at once all read the
    same one. It belongs to the owner of the directory, also where a command of root's makes it.
    """
    made = path.with_name(f".{path.name}.{entropy.token_bytes(8).hex()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            directory = path.parent.stat()
            if os.geteuid() == 0 != directory.st_uid:
                os.fchown(descriptor, directory.st_uid, directory.st_gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(made, path)
    finally:
        made.unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Return once the names in *directory* are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
