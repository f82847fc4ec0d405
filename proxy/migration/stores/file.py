"""Where migrations are written down on this machine: one file, replaced whole, for its owner only."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from proxy.migration.state import Document, StateUnusable, decode, encode

NAME = "migrations.json"
# Thousands of migrations fit.
_MOST_BYTES = 16 * 1024 * 1024


class FileStore:
    """The file in *data_directory*; calls block, so they belong in a thread."""

    def __init__(self, data_directory: Path) -> None:
        self.path = data_directory / NAME

    def load(self) -> Document:
        """Return what is written down, nothing if there is no file; raises StateUnusable, which names the file."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return Document()
        except OSError as error:
            raise StateUnusable(f"{self.path} can't be read: {error.strerror}") from None
        try:
            return decode(data)
        except StateUnusable as error:
            raise StateUnusable(f"{self.path} can't be used: {error}") from None

    def save(self, document: Document) -> None:
        """Return once *document* is on disk in place of what was; raises OSError, and then that is still there."""
        replace_file(self.path, [encode(document)])

    def __repr__(self) -> str:
        return f"<FileStore {self.path}>"


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Put *content* at *path* (0600), whole and on disk with its name; raises OSError, and then nothing has changed."""
    made = path.with_name(f".{path.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()  # what a process that was killed left behind
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(descriptor)
        made.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            made.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
