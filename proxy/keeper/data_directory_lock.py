"""One instance per data directory: two would write the same journal and answer on each other's behalf."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataDirectoryInUse(RuntimeError):
    """Another instance uses this data directory; the message says which directory and what to do."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"another payproxy uses {directory}: stop it, or give this instance a data_directory of its own"
        )
        self.directory = directory


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock *directory* for this process; raise DataDirectoryInUse if it is locked. The kernel unlocks it on a kill.

    flock on the directory itself: no lock file is left behind, and workers do not inherit it, since the descriptor is
    closed on exec. Acquire it before any access to the journal.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUse(directory) from None
        except OSError:
            # Some network file systems have no locks; there only the socket of the running instance shows that it runs.
            pass
        yield
    finally:
        os.close(descriptor)
