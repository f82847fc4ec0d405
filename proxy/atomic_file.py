"""Atomic file writes: replace a file, or create it once. File and directory entry are on disk on return."""

import contextlib
import glob
import os
from collections.abc import Iterable
from pathlib import Path

from proxy.entropy import Entropy

_SUFFIX_BYTES = 8


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Replace the file *path* (0600) by *content*; raises OSError, and then nothing has changed."""
    made = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()  # left by a killed process
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


def create_file(
    path: Path, content: bytes, *, entropy: Entropy, mode: int = 0o600, owner_of_directory: bool = True
) -> None:
    """Create *path* with *content*; raises OSError, FileExistsError if there is a file, and leaves nothing then.

    It is linked when complete: nobody reads a part of it, and if several processes start at once, all read the same
    file. With *owner_of_directory* it belongs to the owner of the directory, also if root runs the command.
    """
    made = path.with_name(f".{path.name}.{entropy.token_bytes(_SUFFIX_BYTES).hex()}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            directory = path.parent.stat()
            if owner_of_directory and os.geteuid() == 0 != directory.st_uid:
                os.fchown(descriptor, directory.st_uid, directory.st_gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(made, path)
    finally:
        made.unlink()
    sync_directory(path.parent)


def remove_unfinished(path: Path) -> None:
    """Remove what killed calls of `create_file` have left of *path*; the caller knows that none runs now."""
    for made in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 2 * _SUFFIX_BYTES}"):
        made.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Sync the entries of *directory* to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
