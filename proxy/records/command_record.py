"""A record from a command: left in the data directory, where the keeper, now or when it starts, finds it."""

import os
from pathlib import Path

from proxy.entropy import Entropy
from proxy.records.segment import JOURNALS, segment_path, sync_directory


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
    made = path.with_suffix(".new")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        rest = memoryview(record)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        made.rename(path)
    except OSError:
        made.unlink()
        raise
    finally:
        os.close(descriptor)
    sync_directory(directory)
