"""Records written by commands: left in the data directory, where the keeper finds them, now or at its next start."""

import os
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.entropy import Entropy
from proxy.records.segment import JOURNALS, segment_path


def write_command_record(data_directory: Path, record: bytes, *, entropy: Entropy) -> None:
    """Write *record*, a whole line, as a journal of its own, and sync it. Raises OSError and then leaves no file.

    The file is renamed into place when complete: the keeper may read and remove it at once. Its owner is that of the
    data directory, since the command may run as root and the keeper does not.
    """
    directory = data_directory / JOURNALS
    owner = data_directory.stat()
    if not directory.exists():
        directory.mkdir(mode=0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    path = segment_path(directory, f"command-{entropy.token_bytes(8).hex()}", 1)
    create_file(path, record, entropy=entropy)
