"""Key files that the installation generates: created once, atomically, readable by the owner only."""

import contextlib
import os
import stat
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.entropy import Entropy
from proxy.private_file import read_private_file


def make_once(path: Path, content: bytes, *, entropy: Entropy) -> None:
    """Create *path* (0600) with *content* unless it exists; raises OSError."""
    with contextlib.suppress(FileExistsError):
        create_file(path, content, entropy=entropy)


def read_own_file(path: Path) -> bytes:
    """Return the content of *path*, a file in a data directory; raises FileUnusable, also if the file is not private.

    Commands may run as root, so the file may belong to the owner of the directory. `serve` refuses a directory of
    another owner before it reads anything in it.
    """
    return read_private_file(path, owner=path.parent.stat().st_uid)


def close_own_files(directory: Path) -> list[Path]:
    """Take the rights of group from our key files in *directory* where Kubernetes has added them; return those files.

    For a pod with an fsGroup the kubelet gives that group read and write of all files in a volume, at each start unless
    fsGroupChangePolicy is OnRootMismatch. Such a volume is root's, with a group that may write; a file in it that is
    ours, of that group, and closed for others was changed by nobody else. Any other file is left as it is, for the
    check of whoever reads it.
    """
    closed: list[Path] = []
    volume = directory.stat()
    if volume.st_uid != 0 or not volume.st_mode & stat.S_IWGRP:
        return closed
    for path in sorted(directory.glob("*.key")):
        status = path.lstat()
        ours = status.st_uid == os.geteuid() and status.st_gid == volume.st_gid and stat.S_ISREG(status.st_mode)
        if ours and status.st_mode & 0o070 and not status.st_mode & 0o007:
            path.chmod(0o600)
            closed.append(path)
    return closed
