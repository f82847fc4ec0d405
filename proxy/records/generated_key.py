"""Key files of the installation's own: made once, whole, for their owner only."""

import contextlib
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.entropy import Entropy
from proxy.private_file import read_private_file


def make_once(path: Path, content: bytes, *, entropy: Entropy) -> None:
    """Put *content* at *path* (0600) unless something is there; raises OSError."""
    with contextlib.suppress(FileExistsError):
        create_file(path, content, entropy=entropy)


def read_own_file(path: Path) -> bytes:
    """Return what is in *path*, which lies in a data directory; raises FileUnusable, also if it is not private.

    Commands may be root's: what belongs to the owner of the directory will do for them. `serve` refuses a directory of
    another owner before it looks into it.
    """
    return read_private_file(path, owner=path.parent.stat().st_uid)
