"""Create new files: never overwrite, and make secret ones readable by their owner only."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.cli.output import Failure
from proxy.entropy import SystemEntropy


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to write; a secret one gets mode 0600, others 0644."""

    path: Path
    data: bytes = field(repr=False)
    secret: bool = False


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raise Failure if one of *paths* exists, even as a dangling link."""
    for path in paths:
        if os.path.lexists(path):
            raise Failure(f"{path} exists already and is not overwritten; move it away or choose another folder")


def write_new(files: Sequence[NewFile]) -> None:
    """Write all *files* or none, each complete before it has its name; raises Failure if one exists or it fails.

    A process that is killed meanwhile leaves the first of them, each of them whole.
    """
    refuse_existing([file.path for file in files])
    written: list[Path] = []
    try:
        for file in files:
            file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = 0o600 if file.secret else 0o644
            create_file(file.path, file.data, entropy=SystemEntropy(), mode=mode, owner_of_directory=False)
            written.append(file.path)
    except OSError as error:
        raise Failure(f"{file.path}: can't be written ({error.strerror})") from None
    finally:  # also for Ctrl-C
        if len(written) < len(files):
            for path in written:
                path.unlink(missing_ok=True)


@contextmanager
def locked(directory: Path, *, task: str) -> Iterator[None]:
    """Hold the lock of *directory* while the block lasts; raises Failure if another process on this machine has it.

    The kernel releases it when the process ends, however it ends, and no file is left.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another {task} is at work in {directory}; wait for what it says") from None
        yield
    finally:
        os.close(descriptor)
