"""One instance per data directory: two of them would write one journal and answer for each other."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataDirectoryInUse(RuntimeError):
    """Another instance works in this data directory; the message says which one and what to do."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"another payproxy uses {directory}: stop it, or give this instance a data_directory of its own"
        )
        self.directory = directory


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold *directory* for this process; DataDirectoryInUse if another one does. The kernel lets go if we are killed.

    The lock is on the directory itself, so no file is left behind, and workers do not inherit it: its descriptor is
    closed when they are executed. Take it before the first look at the journal.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUse(directory) from None
        except OSError:
            # Some network file systems have no locks; there the socket of the running instance has to tell.
            pass
        yield
    finally:
        os.close(descriptor)
