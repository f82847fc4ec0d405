"""Create new files: never overwrite, and make secret ones readable by their owner only."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.cli.output import Failure, note
from proxy.entropy import SystemEntropy
from proxy.private_file import directory_exposed

# As large as a certificate: a disk may be full.
_TRIAL_BYTES = 4096


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


def refuse_unwritable(folder: Path) -> None:
    """Raise Failure if no file can be made in *folder*; one that is missing is made, and removed again."""
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_TRIAL_BYTES))
    except OSError as error:
        raise Failure(f"{folder}: can't be written ({error.strerror})") from None
    finally:
        for one in missing:
            with contextlib.suppress(OSError):
                one.rmdir()


def write_new(files: Sequence[NewFile]) -> None:
    """Write all *files* or none, each complete before it has its name; raises Failure if one exists or it fails.

    A process that is killed meanwhile leaves the first of them, each of them whole. Warns of a folder in which others
    may put another key or secret in place of ours.
    """
    refuse_existing([file.path for file in files])
    for folder in sorted({file.path.parent for file in files if file.secret}):
        if (exposed := directory_exposed(folder, us=os.geteuid())) is not None:
            note(f"warning: {exposed.what}: choose a folder that only you may write in for keys and secrets")
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
