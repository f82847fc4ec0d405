"""A record from a command: left in the data directory, where the keeper, now or when it starts, finds it."""

import os
from pathlib import Path

from proxy.entropy import Entropy
from proxy.records.segment import JOURNALS, segment_path, sync_directory


def leave_record(data_directory: Path, record: bytes, *, entropy: Entropy) -> None:
    """Leave *record*, a whole line, as a journal of its own; it is on disk on return. Raises OSError.

    It gets its name when it is whole: a keeper may read it and take it away at any moment from then on.
    """
    directory = data_directory / JOURNALS
    directory.mkdir(mode=0o700, exist_ok=True)
    path = segment_path(directory, f"command-{entropy.token_bytes(8).hex()}", 1)
    made = path.with_suffix(".new")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, record)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    made.rename(path)
    sync_directory(directory)
