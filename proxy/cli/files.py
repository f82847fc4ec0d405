"""Create new files: never overwrite, and make secret ones readable by their owner only."""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxy.cli.output import Failure, note
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
    """Write all *files* or none; raises Failure if one exists or can't be written.

    Warns of a folder in which others may put another key or secret in place of ours.
    """
    refuse_existing([file.path for file in files])
    for folder in sorted({file.path.parent for file in files if file.secret}):
        if (exposed := directory_exposed(folder, us=os.geteuid())) is not None:
            note(f"warning: {exposed.what}: choose a folder that only you may write in for keys and secrets")
    written: list[Path] = []
    try:
        for file in files:
            file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # O_EXCL also refuses a symbolic link created meanwhile.
            mode = 0o600 if file.secret else 0o644
            descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            written.append(file.path)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(file.data)
                stream.flush()
                os.fsync(descriptor)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise Failure(f"{error.filename or file.path}: can't be written ({error.strerror})") from None
