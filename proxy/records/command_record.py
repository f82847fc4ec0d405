"""A record from a command: left in the data directory, where the keeper, now or when it starts, finds it."""

import os
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.entropy import Entropy
from proxy.records.segment import JOURNALS, segment_path


def write_command_record(data_directory: Path, record: bytes, *, entropy: Entropy) -> None:
    """Leave *record*, a whole line, as a journal of its own; it is on disk on return. Raises OSError, leaving nothing.

    It gets its name when it is whole: a keeper may read it and take it away at any moment from then on. It belongs to
    whom the data directory belongs to: the command may be root's, and the keeper is not.
    """
    directory = data_directory / JOURNALS
    owner = data_directory.stat()
    if not directory.exists():
        directory.mkdir(mode=0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    path = segment_path(directory, f"command-{entropy.token_bytes(8).hex()}", 1)
    create_file(path, record, entropy=entropy)
