"""Key files that the installation generates: created once, atomically, readable by the owner only."""

import contextlib
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
